"""From a printed figure, or a metrics key, back to what it was made from."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import UserError
from stages.params import load
from stages.reporting.numbers import Ledger, show
from stages.shapes import Derived, Number, Parameters, read

ABLATE = "`retrace ablate`"
FLAT = "metrics.json"  # the active phase's scores under `<split>_<metric>`


@dataclass(frozen=True)
class Match:
    """One number of a report: its study, where it was read, what is printed, and the phases it depends on."""

    study: str
    file: str
    key: str
    text: str
    format: str
    phases: tuple[str, ...]

    def now(self) -> tuple[Any, str]:
        """(the value in the file as it is here, its text); (None, "...") where the file or key is not here."""
        try:
            value = Ledger().value(self.file, self.key)
        except (KeyError, UserError):
            return None, "the file is not here: dvc pull"
        try:
            return value, show(value, self.format)
        except (KeyError, TypeError, ValueError):  # an edited format or value
            return None, "no number of this format"


def find(query: str, study: str | None) -> list[Match]:
    """Numbers that `query` names: a figure as printed (`0.752`), a key (`mIoU`, `splits.test.mIoU`), `file:key`, or a
    key of metrics.json (`metrics.json:test_mIoU`, `metrics.json:mIoU`).

    Raises:
        UserError: no report here, or no number matches.
    """
    studies = sorted(path.parent.name for path in Path("reports").glob("*/parameters.json"))
    if not studies:
        raise UserError("reports/: no report here; run `dvc repro` first, in the project's folder")
    if study is not None and study not in studies:
        raise UserError(f"{study!r}: no report of it; allowed: {', '.join(studies)}")
    if query.removeprefix("./").startswith(FLAT):
        found = _flat(query.partition(":")[2])
    else:
        found = [match for name in ([study] if study else studies) for match in _listed(name) if _meant(match, query)]
    found = found or _unprinted(query)
    if not found:
        raise UserError(
            f"{query!r}: no report prints this number, and no metrics key is called so; give a figure as it is printed "
            f"(0.752), a key (mIoU, splits.test.mIoU.value) or file:key. Looked in: {', '.join(studies)}"
        )
    return found


def _listed(study: str) -> Iterator[Match]:
    folder, ablation = Path("reports", study), Path("reports", f"{study}-ablation", "numbers.json")
    origin = read(folder / "derived.json", Derived)
    parameters = read(folder / "parameters.json", Parameters)
    names = list(parameters["phases"])
    rows = read(folder / "numbers.json", list[Number])
    for row in rows + (read(ablation, list[Number], ABLATE) if ablation.is_file() else []):
        phases = tuple(_phases(row["file"], row["key"], names, parameters["phase"], origin))
        yield Match(study, row["file"], row["key"], row["text"], row["format"], phases)


def _meant(match: Match, query: str) -> bool:
    if _named(match.key, query):
        return True
    file, colon, key = query.rpartition(":")
    if colon:
        return (match.file == file or match.file.endswith(f"/{file}")) and _named(match.key, key)
    as_printed = match.text == query or re.sub(r"\D*$", "", match.text) == query  # with or without its unit
    return as_printed and re.search(r"\d", query) is not None


def _named(key: str, wanted: str) -> bool:
    """Whether `wanted` is a key, or whole parts at its end: `mIoU` of `splits.test.mIoU.value`, not `focus_mIoU`."""
    if not wanted or wanted.isdigit():
        return False
    return any(name == wanted or name.endswith(f".{wanted}") for name in (key, key.removesuffix(".value")))


def _unprinted(query: str) -> list[Match]:
    """A number that FILE:KEY names and no report prints; the file's folder says which study it is of."""
    file, _, key = query.rpartition(":")
    parts = Path(file).parts
    if len(parts) < 3 or not Path(file).is_file() or not Path("reports", parts[1], "parameters.json").is_file():
        return []
    for place in (f"{key}.value", key):
        with contextlib.suppress(KeyError, UserError):
            value = Ledger().value(file, place)
            if isinstance(value, (int, float)):
                names = list(read(Path("reports", parts[1], "parameters.json"), Parameters)["phases"])
                phases = tuple(_phases(file, place, names, "", {}))
                return [Match(parts[1], file, place, show(value, "plain"), "plain", phases)]
    return []


def _flat(key: str) -> list[Match]:
    """metrics.json speaks of the active phase of the study in params.yaml; its numbers come from that metrics file."""
    params = load()
    document = read(Path(FLAT), dict[str, float | None])
    file = f"metrics/{params.study}/{params.phase}.json"
    found = []
    for name in document:
        split = next((s for s in sorted(params.evaluate.splits, key=len, reverse=True) if name.startswith(f"{s}_")), "")
        metric = name.removeprefix(f"{split}_")
        if key in ("", name, metric):
            place = f"splits.{split}.{metric}.value"
            text = show(document[name], "fraction")
            found.append(Match(params.study, file, place, text, "fraction", (params.phase,)))
    return found


def _phases(file: str, key: str, names: list[str], active: str, derived: dict[str, Any]) -> list[str]:
    """The phases whose weights a number depends on; none for a number about data or parameters alone."""
    parts = Path(file).parts
    if parts[0] in ("metrics", "models"):
        return [name for name in names if name in (parts[2:] and (parts[2], Path(parts[2]).stem))]
    words = key.split(".")
    if parts[-1] == "derived.json":
        if words[0] == "final":  # the first phase against the active one
            return [name for name in names if name in (names[0], active)]
        phase = next((name for name in names if name in words), None)
        other = derived.get("comparisons", {}).get(phase, {}).get("from") if words[0] == "comparisons" else None
        return [name for name in names if name in (phase, other)]
    if parts[-1] == "provenance.json":
        return [name for name in names if name in {word.partition("@")[2] or word for word in words}]
    return []

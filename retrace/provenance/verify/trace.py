"""Find the source of a printed number or of a metrics key."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrace.config import PARAMS, read_yaml
from retrace.config.trainings import phase_of
from retrace.documents.base import read
from retrace.documents.derived import Comparison, Derived
from retrace.documents.lock import locked_stage
from retrace.documents.parameters import Parameters
from retrace.documents.scores import read_scores
from retrace.errors import UserError
from retrace.provenance.md5 import md5_of
from retrace.report import document
from retrace.report.numbers import Ledger, show

ABLATE = "`retrace ablate`"
AGAIN = "`dvc repro report`"
FIGURE = re.compile(r"-?\d+\.(\d+)")
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
            return None, "the file is not here"
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
    if query.startswith("-") and not re.fullmatch(r"-[\d.,]+\D*", query):
        raise UserError(f"{query}: no such option, and not a number; allowed: --study")
    studies = sorted(path.parent.name for path in Path("reports").glob("*/parameters.json"))
    if not studies:
        raise UserError("reports/: no report here; run `dvc repro` first, in the project's folder")
    if study is not None and study not in studies:
        raise UserError(f"{study!r}: no report of it; allowed: {', '.join(studies)}")
    query = query.removeprefix("./")
    file, colon, key = query.rpartition(":")
    if query == FLAT or file == FLAT:
        found = _flat(study, key if colon else "")
    else:
        named = [study] if study else studies
        found = [match for name in named for match in _listed(name) if _meant(match, query)]
        if not colon:
            known = {(match.file, match.key) for match in found}
            found += [match for match in _scalars(study, query) if (match.file, match.key) not in known]
            found = found or (_exact(named, query) if _digits(query) > 3 else [])
    found = found or _unprinted(query)
    if not found:
        raise UserError(
            f"{query!r}: no report prints this number, and there is no such metrics key; give a number as printed "
            f"(0.752), a key (mIoU, splits.test.mIoU.value) or file:key. Studies searched: {', '.join(studies)}"
        )
    return found


def _listed(study: str) -> Iterator[Match]:
    folder, ablation = Path("reports", study), Path("reports", f"{study}-ablation")
    comparisons = Derived.read(folder / "derived.json").comparisons
    parameters = Parameters.read(folder / "parameters.json")
    names = list(parameters.trainings)
    rows = document.read(folder).numbers
    if (ablation / document.NAME).is_file():
        rows += document.read(ablation, ABLATE).numbers
    for row in sorted(rows, key=lambda row: (row.file, row.key, row.format)):
        phases = tuple(_phases(row.file, row.key, names, parameters.phase, comparisons))
        yield Match(study, row.file, row.key, row.text, row.format, phases)


def _meant(match: Match, query: str) -> bool:
    if _named(match.key, query):
        return True
    file, colon, key = query.rpartition(":")
    if colon:
        return (match.file == file or match.file.endswith(f"/{file}")) and _named(match.key, key)
    printed, wanted = _plain(match.text), _plain(query)
    return re.search(r"\d", query) is not None and wanted in (printed, re.sub(r"\D*$", "", printed))  # without its unit


def _plain(text: str) -> str:
    """Without thousands separators and plus sign; the minus of typesetters is that of keyboards."""
    return re.sub(r"(?<=\d),(?=\d{3})", "", text.strip().replace("−", "-")).removeprefix("+")


def _digits(query: str) -> int:
    """Decimals of a query that is a figure; 0 for anything else."""
    found = FIGURE.fullmatch(_plain(query))
    return len(found[1]) if found else 0


def _rounded(value: Any, query: str) -> bool:
    """Whether a stored value, rounded to the figure's decimals, is the figure."""
    digits = _digits(query)
    return digits > 0 and isinstance(value, float) and f"{value:.{digits}f}" == _plain(query)


def _exact(studies: list[str], query: str) -> list[Match]:
    """Numbers of the reports that a figure with more decimals than are printed names."""
    ledger, found = Ledger(), []
    for match in (match for name in studies for match in _listed(name)):
        with contextlib.suppress(KeyError, UserError):
            if _rounded(ledger.value(match.file, match.key), query):
                found.append(match)
    return found


def _named(key: str, wanted: str) -> bool:
    """Whether `wanted` is a key, or whole parts at its end: `mIoU` of `splits.test.mIoU.value`, not `focus_mIoU`."""
    if not wanted or wanted.isdigit():
        return False
    return any(name == wanted or name.endswith(f".{wanted}") for name in (key, key.removesuffix(".value")))


def _unprinted(query: str) -> list[Match]:
    """A number that FILE:KEY names and no report prints; the file's folder says which study it is of."""
    file, _, key = query.rpartition(":")
    parts = Path(file).parts
    if len(parts) < 3 or not Path(file).is_file() or Path(file).suffix not in (".json", ".csv"):
        return []
    study = parts[1].removesuffix("-ablation")
    if not Path("reports", study, "parameters.json").is_file():
        return []
    for place in (f"{key}.value", key):
        with contextlib.suppress(KeyError, UserError):
            value = Ledger().value(file, place)
            if isinstance(value, (int, float)):
                names = list(Parameters.read(Path("reports", study, "parameters.json")).trainings)
                phases = tuple(_phases(file, place, names, "", {}))
                return [Match(study, file, place, show(value, "plain"), "plain", phases)]
    return []


def _flat(study: str | None, key: str) -> list[Match]:
    """The numbers of metrics.json under `key` (`test_mIoU`, or `mIoU` on every split), as read from the metrics file of
    the study and phase that the report was made of.

    Raises:
        UserError: metrics.json is missing, or nothing tells whose scores it holds.
    """
    scalars = _scores_of_flat()
    made, phase = flat_origin(Path())
    if study is not None and study != made:
        raise UserError(f"{FLAT} holds the scores of {made}:{phase}, not of {study}; `retrace why` without --study, or "
                        f"a file below metrics/{study}")  # fmt: skip
    file = f"metrics/{made}/{phase}.json"
    splits = read_scores(Path(file)).splits
    found = []
    for name in scalars:
        split = next((s for s in sorted(splits, key=len, reverse=True) if name.startswith(f"{s}_")), "")
        metric = name.removeprefix(f"{split}_")
        if key in ("", name, metric):
            place = f"splits.{split}.{metric}.value"
            match = Match(made, file, place, show(scalars[name], "fraction"), "fraction", (phase,))
            found.append(_over_seeds(match, phase, split, metric) or match)
    return found


def _over_seeds(match: Match, phase: str, split: str, metric: str) -> Match | None:
    """The mean over seeds that metrics.json holds of a phase with repeats; None for one that was trained once."""
    folder = Path("reports", match.study)
    if not (folder / "derived.json").is_file():
        return None
    seeds = Derived.read(folder / "derived.json").seeds
    if seeds is None or phase not in seeds.phases:
        return None
    trainings = Parameters.read(folder / "parameters.json").trainings
    names = tuple(name for name, of in trainings.items() if of == phase)
    key = f"seeds.phases.{phase}.scores.{split}.{metric}.mean.value"
    return replace(match, file=(folder / "derived.json").as_posix(), key=key, phases=names)


def _scores_of_flat() -> dict[str, float | None]:
    scalars: dict[str, float | None] = read(dict[str, float | None], Path(FLAT), AGAIN)
    return scalars


def _scalars(study: str | None, query: str) -> list[Match]:
    """The numbers of metrics.json that a key of its own names, or a figure rounded to fewer digits than are stored, as
    `dvc exp show` prints them."""
    try:
        scalars = _scores_of_flat()
        made, _ = flat_origin(Path())
    except UserError:  # the reports may answer all the same
        return []
    keys = [name for name, value in scalars.items() if name == query or _rounded(value, query)]
    return [match for name in keys for match in _flat(made, name)] if study in (None, made) else []


def flat_origin(root: Path) -> tuple[str, str]:
    """(study, phase) whose scores metrics.json holds: those that the report stage in dvc.lock was given.

    params.yaml may have been switched to another study since, so it is not asked.

    Raises:
        UserError: dvc.lock does not say, or metrics.json was changed after the report wrote it.
    """
    path = root / "dvc.lock"
    listed = (read_yaml(path).get("stages") or {}) if path.is_file() else {}
    entry = locked_stage(listed.get("report"))
    values = (entry.params or {}).get(PARAMS.name) or {}
    study, phase = values.get("study"), values.get("phase")
    if not isinstance(study, str) or not isinstance(phase, str):
        raise UserError(f"{FLAT}: dvc.lock does not say which study and phase it is of; run `dvc repro report`, or "
                        "name a file below metrics/")  # fmt: skip
    if entry.out_sums.get(FLAT) != md5_of(root / FLAT):
        raise UserError(f"{FLAT}: not the file that the report stage in dvc.lock wrote, so nothing tells whose scores "
                        "it holds; run `dvc repro report`, or name a file below metrics/")  # fmt: skip
    return study, phase


def _phases(file: str, key: str, names: list[str], active: str, comparisons: Mapping[str, Comparison]) -> list[str]:
    """The phases whose weights a number depends on; none for a number about data or parameters alone."""
    parts = Path(file).parts
    if parts[0] in ("metrics", "models"):
        return [name for name in names if name in (parts[2:] and (parts[2], Path(parts[2]).stem))]
    words = key.split(".")
    if parts[-1] == "derived.json":
        if words[0] == "final":  # the first phase against the active one
            return [name for name in names if name in (names[0], active)]
        phase = next((name for name in names if name in words), None)
        compared = comparisons.get(phase or "") if "comparisons" in words[:2] else None
        other = compared.origin if compared is not None else None
        if words[0] == "seeds":  # all trainings of these phases
            return [name for name in names if phase and phase_of(name) in (phase, other)]
        return [name for name in names if name in (phase, other)]
    if parts[-1] == "provenance.json":
        return [name for name in names if name in {word.partition("@")[2] or word for word in words}]
    return []

"""Rows of the table: every output and every metric of the rerun compared with the committed one."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrace.config.schema import Params
from retrace.config.trainings import stage_of
from retrace.documents.scores import Scores, read_scores
from retrace.provenance.md5 import Cache, changed, digest, listing, md5_of
from retrace.provenance.verify.images import first_difference
from retrace.provenance.verify.records import Record
from retrace.report.bundle import GUIDE

SAME, DIFFERENT, TOLERATED, NOT_RUN = "same", "DIFFERENT", "within tolerance", "not rerun"
ALWAYS_EQUAL = ("collect", "rebalance")  # no floating-point training in them: the same on every machine
SHORT = 8  # hex digits of an md5 in the table


@dataclass(frozen=True)
class Row:
    """One line of the table; `details` stand below it."""

    stage: str
    out: str
    committed: str
    rerun: str
    result: str
    details: tuple[str, ...] = ()


def compare_outs(root: Path, before: Path, record: Record, cache: Cache, bits: bool, skipped: list[str]) -> list[Row]:
    """A row for each out of collect ... evaluate, and of plots and metrics.json where dvc.lock records them.

    Args:
        root: project in which the stages ran.
        before: the committed files, as they were before the run.
        bits: whether other bytes are a failure; if not, they are in the stages that hold no training.
    """
    rows = []
    for stage, outs in record.outs.items():
        for out, md5 in outs.items():
            if stage in skipped:
                rows.append(Row(stage, out, md5[:SHORT], "from cache", NOT_RUN))
            elif not out.startswith("reports/"):  # quotes the dates and speeds of its run: compared written again
                rows.append(_compare(root, before, Row(stage, out, md5, "", ""), cache, bits))
    return rows


def _compare(root: Path, before: Path, row: Row, cache: Cache, bits: bool) -> Row:
    md5, found = row.committed, listing(root / row.out)
    if found is None:
        return Row(row.stage, row.out, md5[:SHORT], "missing", DIFFERENT)
    if digest(found) == md5:
        return Row(row.stage, row.out, md5[:SHORT], md5[:SHORT], SAME)
    recorded = None if cache.damaged(md5) else cache.listing(md5)
    recorded = recorded or listing(before / row.out) or _with_guide(before, row, found)
    names = changed(recorded, found) if recorded else []
    details = tuple(f"{row.out}/{name}" if name else row.out for name in names)
    if not details:
        details = (f"{row.out}: the recorded folder is not in the cache, so the differing files are not known",)
    image = first_difference(row.out, before / row.out, root / row.out)
    if image is not None:
        details = (f"{row.out}: first image that differs: {image}", *details)
    if names == [GUIDE]:  # a page of the report; what it quotes of its run may differ
        return Row(row.stage, row.out, md5[:SHORT], digest(found)[:SHORT], SAME, ())
    strict = bits or row.stage in ALWAYS_EQUAL
    return Row(row.stage, row.out, md5[:SHORT], digest(found)[:SHORT], DIFFERENT if strict else "other bytes", details)


def _with_guide(before: Path, row: Row, found: dict[str, str]) -> dict[str, str] | None:
    """The recorded listing of a bundle that no cache here holds, where the committed guide alone makes it from `found`.

    A fresh clone has no cache, but Git keeps the same guide beside the report.
    """
    guide = before / "reports" / Path(row.out).name / GUIDE
    recorded = found | {GUIDE: md5_of(guide)} if GUIDE in found and guide.is_file() else {}
    return recorded if recorded and digest(recorded) == row.committed else None


def compare_metrics(
    root: Path, before: Path, params: Params, bits: bool, trainings: Collection[str] | None = None
) -> list[Row]:
    """For each training: the headline on every split, and all other numbers of its metrics file in one row.

    trainings: those that were evaluated again; None: all.
    """
    rows = []
    for phase in params.trainings if trainings is None else trainings:
        file = f"metrics/{params.study}/{phase}.json"
        old, new = (read_scores(folder / file, file) for folder in (before, root))
        rows += _headlines(params, phase, old, new, bits)
        recorded, again = dict(_leaves(old.content())), dict(_leaves(new.content()))
        names = sorted(key for key in {*recorded, *again} if recorded.get(key) != again.get(key))
        result = SAME if not names else DIFFERENT if bits else "other bytes"
        details = tuple(f"{file}: {key}: {_show(recorded.get(key))}, rerun {_show(again.get(key))}" for key in names)
        texts = (f"{len(recorded)}", f"{len(recorded) - len(names)} same")
        rows.append(Row(stage_of("evaluate", phase), "all numbers", *texts, result, details))
    return rows


def _headlines(params: Params, phase: str, old: Scores, new: Scores, bits: bool) -> list[Row]:
    stated: dict[tuple[str, str], float] = {}
    for expected in params.expected:
        stated[expected.metric, expected.split] = expected.tolerance
    wanted = [(params.report.headline, split) for split in old.splits]
    if phase == params.phase:
        wanted += [pair for pair in stated if pair not in wanted]
    rows = []
    for metric, split in wanted:
        a, b = (scores.metric(metric, split).value for scores in (old, new))
        tolerance = stated.get((metric, split))
        if a == b:
            result = SAME
        elif not bits and tolerance is not None and a is not None and b is not None and abs(a - b) <= tolerance:
            result = TOLERATED
        else:
            result = DIFFERENT if bits or tolerance is not None else "other bytes"
        rows.append(Row(stage_of("evaluate", phase), f"{metric}, {split}", _show(a), _show(b), result))
    return rows


def _leaves(document: Any, key: str = "") -> list[tuple[str, float]]:
    if isinstance(document, bool) or not isinstance(document, (int, float, dict, list)):
        return []
    if isinstance(document, (int, float)):
        return [(key, document)]
    items = document.items() if isinstance(document, dict) else enumerate(document)
    return [leaf for name, value in items for leaf in _leaves(value, f"{key}.{name}" if key else str(name))]


def _show(value: float | None) -> str:
    return "null" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

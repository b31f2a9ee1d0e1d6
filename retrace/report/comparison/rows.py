"""The rows of a comparison: score, interval, size, and the paired difference to the first row of the same study."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from retrace.config.metrics import headlines
from retrace.config.schema import Params
from retrace.errors import UserError
from retrace.report.changes import flat
from retrace.report.comparison.pairing import MISSING, Outcome, difference
from retrace.report.comparison.selection import Run
from retrace.report.numbers import show
from retrace.report.verdicts import decided
from retrace.statistics.estimate import Estimate

SHARED = ("seed", "classes", "data", "rebalance", "pretrain", "evaluate", "runtime")  # parameters of every phase


@dataclass(frozen=True)
class Row:
    """One run in a group; a score is None where it was not measured."""

    run: Run
    images: int
    units: int
    score: Estimate | None
    focus: Estimate | None
    difference: Outcome | None  # None: the first row, with which the others are compared


@dataclass(frozen=True)
class Group:
    """The rows of one study, scored by one metric on one split."""

    study: str
    metric: str
    split: str
    rows: tuple[Row, ...]
    lacking: str = ""  # what the first row lacks to be compared with

    @property
    def base(self) -> Run:
        return self.rows[0].run

    @property
    def notes(self) -> list[str]:
        """The reasons why rows could not be compared, and the changed parameters, one line each."""
        lines: dict[str, None] = {f"{self.base.name} not compared with: {self.lacking}.": None} if self.lacking else {}
        for row in self.rows[1:]:
            if row.difference is not None and row.difference.remedy:
                lines[f"{row.run.name} not compared: {row.difference.remedy}."] = None
        return [*lines, *(line for row in self.rows[1:] if (line := changes(row.run, self.base)))]


@dataclass(frozen=True)
class Comparison:
    """Groups by study, in the order in which they were named."""

    groups: tuple[Group, ...] = field(default_factory=tuple)

    @property
    def notes(self) -> list[str]:
        lines = [line for group in self.groups for line in group.notes]
        if len(self.groups) > 1:
            lines.append("Studies are scored on different images, so nothing is compared from one to another.")
        demos = sorted({group.study for group in self.groups if any(row.run.demo for row in group.rows)})
        if demos:
            lines.append(f"Generated demo data, not comparable with published figures: {', '.join(demos)}.")
        return lines


def compare(runs: Sequence[Run], metric: str | None = None, split: str | None = None) -> Comparison:
    """Compare every run with the first one of its study, in `metric` (default: the study's headline) on `split`.

    Raises:
        UserError: no run has this metric or split.
    """
    studies = dict.fromkeys(run.study for run in runs)
    return Comparison(tuple(_group([run for run in runs if run.study == name], metric, split) for name in studies))


def _group(runs: list[Run], metric: str | None, split: str | None) -> Group:
    base = runs[0]
    metric, split = metric or base.headline, split or base.split
    allowed = headlines(base.scores.task)
    if metric not in allowed:
        raise UserError(f"{metric!r}: not a metric of {base.study}; allowed: {', '.join(allowed)}")
    splits = sorted({name for run in runs for name in run.scores.splits})
    if split not in splits:
        raise UserError(f"{split!r}: not a scored split of {base.study}; allowed: {', '.join(splits)}")
    rows = []
    for run in runs:
        scored = run.scores.splits.get(split)
        same = set(run.focus_classes) == set(base.focus_classes)  # else the column would mix different means
        focus = "focus_mIoU" if same and metric != "focus_mIoU" else ""
        against = difference(run, base, metric, split) if run is not base else None
        rows.append(
            Row(
                run,
                0 if scored is None else scored.images,
                0 if scored is None else scored.units,
                _measured(run, metric, split),
                _measured(run, focus, split),
                against,
            )
        )
    rows = _with_verdicts(rows, metric, split, base.margin)
    lacking = ""
    if any(row.difference is not None and row.difference.why == MISSING for row in rows):
        lacking = difference(base, base, metric, split).remedy  # each row reports its own missing files first
    return Group(base.study, metric, split, tuple(rows), lacking)


def _with_verdicts(rows: list[Row], metric: str, split: str, margin: float) -> list[Row]:
    """The rows with verdicts, with Holm's correction over the rows of the table."""
    found, floors = {}, {}
    for index, row in enumerate(rows):
        if row.difference is not None and row.difference.found is not None:
            found[str(index)] = row.difference.found
            floors[str(index)] = row.run.scores.floor(metric, split)
    verdicts, result = decided(found, floors, margin), []
    for index, row in enumerate(rows):
        if row.difference is not None and str(index) in verdicts:
            row = replace(row, difference=replace(row.difference, found=verdicts[str(index)]))
        result.append(row)
    return result


def _measured(run: Run, metric: str, split: str) -> Estimate | None:
    score = run.scores.metric(metric, split)
    return score if score.value is not None else None


def changes(run: Run, base: Run, limit: int = 6) -> str:
    """`exp-1 differs from lanes:baseline in loss.name: cross_entropy → ohem`; empty where nothing differs."""
    if run.params is None or base.params is None:
        return f"{run.name}: parameters written by another version of Retrace, so the differences cannot be listed"
    after, before = (_settings(params, name) for params, name in ((run.params, run.phase), (base.params, base.phase)))
    names = [name for name in sorted({*after, *before}) if after.get(name) != before.get(name) and name != "note"]
    listed = [f"{name} {show(before.get(name), 'plain')} → {show(after.get(name), 'plain')}" for name in names[:limit]]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{run.name} differs from {base.name} in {', '.join(listed)}{more}." if listed else ""


def _settings(params: Params, training: str) -> dict[str, Any]:
    """What decides the outcome of a training, by dotted name; a repeat has its own seed."""
    phase, _, seed = training.partition("-")
    block = params.phases[phase].model_dump(mode="json")
    if seed:
        block["seed"] = int(seed)
    return flat(params.model_dump(mode="json", include=set(SHARED)) | block)

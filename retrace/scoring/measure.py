"""Scores with intervals, floors under them, paired differences and verdicts, all on the same resamples."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from retrace import seeds
from retrace.config.metrics import SPLIT, names
from retrace.documents.scores import Floor
from retrace.errors import UserError
from retrace.report.verdicts import decided
from retrace.scoring.question import Question
from retrace.statistics.bootstrap import FEWEST_UNITS, Statistic, Units, interval, point, resample_weights
from retrace.statistics.estimate import Difference, Estimate
from retrace.statistics.verdicts import difference

HEADLINES = {"detection": "AP", "segmentation": "mIoU"}
OF_CLASS = {"detection": ("AP", "AP50"), "segmentation": ("IoU",)}
MOST_THREADS = 8

Numbers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Settings:
    """What is compared, and how.

    unit: what an independent unit is called; margin: differences of at most this size do not matter.
    """

    units: Units
    unit: str = "image"
    metric: str | None = None  # None: that of the task in `HEADLINES`
    baseline: str | None = None  # name of a file of predictions; None: the first
    margin: float = 0.0
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """The scores of one file of predictions by metric. Without differences: the baseline."""

    name: str
    scores: dict[str, Estimate]
    differences: dict[str, Difference] | None
    floors: dict[str, Floor]
    best_confidence: float | None


@dataclass(frozen=True)
class Result:
    """Everything that the tables show."""

    question: Question
    metric: str
    overall: tuple[str, ...]  # names of the overall scores, the headline first
    of_class: str  # the score of every class
    unit: str
    units: int
    base: str
    scored: tuple[Scored, ...]

    @property
    def floors(self) -> dict[str, Floor]:
        """By metric; the same value under every file."""
        return self.scored[0].floors


def measure(question: Question, settings: Settings) -> Result:
    """Score all files of predictions.

    Raises:
        UserError: `settings.metric` or `settings.baseline` is none that there is.
    """
    metric, base = settings.metric or HEADLINES[question.task], _baseline(question, settings.baseline)
    units, seed = settings.units, seeds.derive(settings.seed, "bootstrap", "score")
    values, draws = {}, {}
    for answer in question.answers:
        values[answer.name] = point(answer.statistic, units)
        draws[answer.name] = draw(answer.statistic, values[answer.name], units, settings.resamples, seed)
    overall = _overall(question.task, metric, values[base])
    held = dict(zip(question.classes, units.holding(question.seen > 0).tolist(), strict=True))
    wanted = [*overall, *(f"{score}/{name}" for score in OF_CLASS[question.task] for name in question.classes)]

    def counted(name: str) -> int:
        return held.get(name.partition("/")[2], units.count) if "/" in name else units.count

    floor_values: Numbers = {}
    floor_draws: Numbers = {}
    if question.floor is not None:
        floor_values = point(question.floor, units)
        floor_draws = draw(question.floor, floor_values, units, settings.resamples, seed)
    scored = []
    for answer in question.answers:
        mine, drawn = values[answer.name], draws[answer.name]
        floors = {}
        for name, what in question.floor_answers.items():
            above = difference(float(mine[name] - floor_values[name]), drawn[name] - floor_draws[name], counted(name))
            floors[name] = _floor(float(floor_values[name]), above, what)
        against = None
        if answer.name != base:
            against = {
                name: difference(float(mine[name] - values[base][name]), drawn[name] - draws[base][name], counted(name))
                for name in wanted
            }
        scores = {name: interval(float(mine[name]), drawn[name], counted(name)) for name in wanted}
        scored.append(Scored(answer.name, scores, against, floors, answer.best_confidence))
    of_class = metric if metric in OF_CLASS[question.task] else OF_CLASS[question.task][0]
    judged = _with_verdicts(scored, metric, question.classes, settings.margin)
    return Result(question, metric, overall, of_class, settings.unit, units.count, base, tuple(judged))


def draw(statistic: Statistic, values: Numbers, units: Units, resamples: int, seed: int) -> Numbers:
    """As `bootstrap.draw`, with several threads: the blocks of resamples do not depend on each other."""
    if units.count < FEWEST_UNITS:
        return {name: np.full(1, np.nan) for name in values}
    with ThreadPoolExecutor(threads()) as pool:
        blocks = list(pool.map(statistic, resample_weights(units, resamples, seed)))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def threads() -> int:
    """How many threads count and resample; results do not depend on it."""
    return min(MOST_THREADS, os.cpu_count() or 1)


def _baseline(question: Question, given: str | None) -> str:
    known = [answer.name for answer in question.answers]
    if given is None:
        return known[0]
    if given not in known:
        raise UserError(f"--baseline {given!r}: no such file of predictions; allowed: {', '.join(known)}")
    return given


def _overall(task: str, metric: str, values: Numbers) -> tuple[str, ...]:
    known = [name for name in _listed(task) if name in values]
    if metric not in known:
        raise UserError(f"--metric {metric!r}: not a score of {task}; allowed: {', '.join(known)}")
    defined = [name for name in known if name == metric or not np.isnan(values[name])]
    return tuple(sorted(defined, key=lambda name: name != metric))


def _listed(task: str) -> Sequence[str]:
    """The overall scores in the order of the tables, those at the best F1 included."""
    listed = list(names(task, SPLIT))
    if task == "detection":
        listed.insert(listed.index("AP50") + 1, "AP75")
    return listed


def _floor(value: float, above: Difference, answer: str) -> Floor:
    beaten = None if above.low is None else above.low > 0
    return Floor(value=None if np.isnan(value) else value, beaten=beaten, answer=answer)


def _with_verdicts(scored: list[Scored], metric: str, classes: Sequence[str], margin: float) -> list[Scored]:
    """The differences with their verdicts. Holm's correction is over the headline of all files, over the other overall
    scores of a file, and over the classes of a file."""
    first = {one.name: one.differences[metric] for one in scored if one.differences is not None}
    headline = decided(first, {one.name: one.floors.get(metric) for one in scored}, margin)
    result = []
    for one in scored:
        if one.differences is None:
            result.append(one)
            continue
        families: dict[str, dict[str, Difference]] = {}
        for name, row in one.differences.items():
            if name != metric:
                families.setdefault(name.partition("/")[0] if "/" in name else "", {})[name] = row
        rows = {metric: headline[one.name]}
        for family in families.values():
            rows |= decided(family, {name: one.floors.get(name) for name in family}, margin)
        result.append(replace(one, differences=rows))
    return result

"""Numbers computed from two phases or from a group of classes, which no metrics file holds, and their verdicts.

They are written to `reports/<study>/derived.json`, from which the report quotes them like any other number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from retrace.config.metrics import FILE, GROUP, HISTORY, RUN, VAL_LOSS, Metric, allowed, find, place_of
from retrace.config.schema import Claim
from retrace.documents.derived import Classes, Comparison, Judged, LogGap, Paired
from retrace.errors import UserError
from retrace.report.inputs import Inputs
from retrace.report.inputs import values as logged
from retrace.report.resamples import Resamples, image_ids
from retrace.report.verdicts import BySplit, decide_tables
from retrace.statistics.bootstrap import interval
from retrace.statistics.estimate import UNDEFINED, Estimate

Groups = dict[str, dict[str, Estimate]]  # by split and group of classes


@dataclass(frozen=True)
class Compared:
    """The numbers of derived.json that are made from the results per image."""

    comparisons: dict[str, Comparison]  # by phase
    groups: dict[str, Groups]  # by phase
    final: dict[str, Paired | None]  # by split


def compare(inputs: Inputs) -> Compared:
    """Every phase against the one it starts from, the active one against the first, and the groups of classes.

    A split is None where the two phases were not scored on the same images.
    """
    resamples = Resamples(inputs)
    others = {phase: inputs.compared_with(phase) for phase in inputs.metrics}
    rows = {
        phase: _paired(inputs, resamples, phase, other) if other is not None else {} for phase, other in others.items()
    }
    first, active = next(iter(inputs.metrics)), inputs.params.phase
    final = _paired(inputs, resamples, active, first) if active != first else {}
    decide_tables(inputs, rows, final)
    return Compared(
        {phase: Comparison.of(others[phase], _documents(inputs, phase, rows[phase])) for phase in rows},
        {phase: _groups(inputs, resamples, phase) for phase in inputs.metrics},
        _documents(inputs, active, final),
    )


def _paired(inputs: Inputs, resamples: Resamples, phase: str, other: str) -> BySplit:
    result: BySplit = {}
    others = inputs.metrics[other].splits
    for split, scored in inputs.metrics[phase].splits.items():
        result[split] = None
        if scored.images and split in others and image_ids(inputs, phase, split) == image_ids(inputs, other, split):
            result[split] = resamples.difference(phase, other, split)
    return result


def _documents(inputs: Inputs, phase: str, rows: BySplit) -> dict[str, Paired | None]:
    result: dict[str, Paired | None] = {}
    for split, differences in rows.items():
        images = inputs.metrics[phase].splits[split].images
        result[split] = None if differences is None else Paired.of(images, differences)
    return result


def classes(inputs: Inputs) -> Classes:
    """The number of classes, and how many of them each phase predicts on each split."""
    predicted = {}
    for phase, scores in inputs.metrics.items():
        predicted[phase] = {split: scored.classes_predicted for split, scored in scores.splits.items()}
    return Classes(count=len(inputs.params.classes), predicted=predicted)


def log_gaps(inputs: Inputs) -> dict[str, LogGap]:
    """The shipped file's score on val minus the best value in the training log, by phase."""
    result = {}
    for phase, scores in inputs.metrics.items():
        shipped = scores.metric(scores.training.monitor, "val").value
        if shipped is not None and scores.training.best_value is not None:
            result[phase] = LogGap(difference=shipped - scores.training.best_value)
    return result


def _groups(inputs: Inputs, resamples: Resamples, phase: str) -> Groups:
    result: Groups = {}
    for split, scored in inputs.metrics[phase].splits.items():
        for group in inputs.params.report.class_groups if scored.images else ():
            values, draws = resamples.of(phase, split)
            name = f"{GROUP}{group}"
            units = resamples.units(phase, split, name)
            result.setdefault(split, {})[group] = interval(float(values[name]), draws[name], units)
    return result


def metric_of(inputs: Inputs, claim: Claim) -> Metric:
    """The declaration of the metric that a claim is about; that of a group of classes is a fraction."""
    return find(inputs.params.task, claim.metric) or Metric(claim.metric)


def claim_source(inputs: Inputs, claim: Claim) -> tuple[str, str, str]:
    """(file, key, format) of the measured value that a claim is about; the key names an interval or a number.

    Not for a metric that no stage measures.
    """
    phase, metric = claim.phase or inputs.params.phase, metric_of(inputs, claim)
    if claim.metric.startswith(GROUP):
        key = f"groups.{phase}.{claim.split}.{claim.metric.removeprefix(GROUP)}"
        return inputs.file_own("derived.json"), key, metric.format
    if metric.place == HISTORY:
        epoch = _lowest_loss(inputs, phase)[0]
        return inputs.file_history(phase), f"{VAL_LOSS}[epoch={epoch:g}]", metric.format
    if metric.place == RUN:
        return inputs.file_own("provenance.json"), f"speed.{phase}.{claim.metric}", metric.format
    return inputs.file_metrics(phase), *place_of(inputs.params.task, claim.metric, claim.split)


def _lowest_loss(inputs: Inputs, phase: str) -> tuple[float, float | None]:
    """(epoch, value) of the lowest validation loss; value None where the history has none."""
    pairs = logged(inputs.history[phase], VAL_LOSS)
    return min(pairs, key=lambda pair: pair[1]) if pairs else (0, None)


def _claimed(inputs: Inputs, index: int, claim: Claim) -> Estimate:
    """The measured value; a figure of the run or of the training log has no interval."""
    phase, metric = claim.phase or inputs.params.phase, metric_of(inputs, claim)
    if metric.place == RUN:
        speed = inputs.speed.get(phase)
        return UNDEFINED if speed is None else Estimate(getattr(speed, metric.name))
    if metric.place == HISTORY:
        return Estimate(_lowest_loss(inputs, phase)[1])
    scores = inputs.metrics[phase]
    if metric.place != FILE and claim.split not in scores.splits:
        raise UserError(
            f"params.yaml: report.claims.{index}.split = {claim.split!r}: this split was not scored; "
            f"allowed: {', '.join(scores.splits)} (evaluate.splits)"
        )
    if claim.metric.startswith(GROUP):
        groups = _groups(inputs, Resamples(inputs), phase)
        found = groups.get(claim.split, {}).get(claim.metric.removeprefix(GROUP))
    else:
        found = scores.metric(claim.metric, claim.split)
    if found is None:
        raise UserError(
            f"params.yaml: report.claims.{index}.metric = {claim.metric!r}: this metric was not measured; "
            f"allowed: {', '.join(allowed(inputs.params.task, claim=True))}"
        )
    return found


def judge(inputs: Inputs, index: int) -> Judged:
    """The verdict on one claim.

    A target is met when the measured value is at or above `low` (or `value`), or at or below `high` where only `high`
    is given. A published or baseline value is met when the upper end of the measured interval reaches it, a published
    range when the interval overlaps it. Parameter counts and file sizes must be within the range, or within half a unit
    of the last digit of a single value. Only a run on the study's own real data is compared, except for parameter
    counts and file sizes, which depend on no data.
    """
    claim = inputs.params.report.claims[index]
    status, why = _judge(inputs, index, claim)
    return Judged(phase=claim.phase or inputs.params.phase, split=claim.split, status=status, why=why)


def _judge(inputs: Inputs, index: int, claim: Claim) -> tuple[str, str]:
    """(met, not met or not comparable, why)"""
    metric = metric_of(inputs, claim)
    if metric.missing:
        return "not comparable", metric.missing
    found = _claimed(inputs, index, claim)
    if not inputs.params.report.real_data and not metric.fact:
        return "not comparable", "demo data"
    if found.value is None:
        return "not comparable", "not measured"
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    bounds = _range(claim, metric)
    if bounds is not None:
        why = "above the claim" if low > bounds[1] else "below the claim" if high < bounds[0] else ""
        return ("not met" if why else "met"), why
    met = _reaches(claim, metric, found.value, high if claim.kind != "target" else found.value)
    return ("met" if met else "not met"), ""


def _range(claim: Claim, metric: Metric) -> tuple[float, float] | None:
    """The range that a published or baseline figure allows, where it is a range or a fact of a model; else None."""
    if claim.kind == "target":
        return None
    if claim.value is not None:
        half = _last_digit(claim.value) / 2
        return (claim.value - half, claim.value + half) if metric.fact else None
    if claim.low is not None and claim.high is not None:
        return claim.low, claim.high
    if metric.fact and (claim.low is not None or claim.high is not None):
        return -math.inf if claim.low is None else claim.low, math.inf if claim.high is None else claim.high
    return None


def _last_digit(value: float) -> float:
    """The unit of the last digit that is not 0: 1e6 of 41,000,000."""
    sign = Decimal(repr(value)).normalize().as_tuple()
    return float(10.0 ** int(sign.exponent))


def _reaches(claim: Claim, metric: Metric, measured: float, reached: float) -> bool:
    smaller_is_better = metric.smaller_is_better
    wanted = claim.value if claim.value is not None else claim.low
    if smaller_is_better and claim.value is None and claim.high is not None:
        wanted = claim.high
    if wanted is None:
        return claim.high is None or measured <= claim.high
    compare: Callable[[float, float], bool] = (lambda a, b: a <= b) if smaller_is_better else (lambda a, b: a >= b)
    return compare(measured if smaller_is_better else reached, wanted)

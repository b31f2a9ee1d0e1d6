"""Numbers computed from two phases or from a group of classes, which no metrics file holds, and their verdicts.

They are written to `reports/<study>/derived.json`, from which the report quotes them like any other number.
"""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from retrace.config.metrics import OVERALL
from retrace.config.schema import Claim
from retrace.errors import UserError
from retrace.report.data_tables import audit
from retrace.report.inputs import Inputs
from retrace.report.inputs import values as logged
from retrace.report.numbers import resolve
from retrace.report.resamples import Resamples, image_ids
from retrace.report.verdicts import decide_tables
from retrace.statistics.bootstrap import interval

GROUP = "group/"  # the mean main score of a group of classes (report.class_groups)
VAL_LOSS = "val_loss"  # the lowest validation loss of a training, from its history
SMALLER_IS_BETTER = ("latency_ms", "parameters", "bytes", VAL_LOSS)
SPEED = ("latency_ms", "images_per_second")
NOT_RECORDED = {  # figure that a write-up may give but no stage measures -> reason
    "video_frames_per_second": "retrace predict also times reading and writing, and does not record the result; "
    "images/s measures the model alone on batches in memory",
}
FACTS = ("parameters", "bytes")  # properties of a model, for which neither more nor less is better
OF_THE_FILE = {  # metrics without a split
    "parameters": ("parameters", "count"),
    "bytes": ("weights.bytes", "size"),
    "best_value": ("training.best_value", "fraction"),
}


def derive(inputs: Inputs) -> dict[str, Any]:
    """`{"comparisons": {phase: {"from", split: {"images", metric: {"value", "low", "high", "verdict"}} or None}},
    "groups": {phase: {split: {group: I}}}, "claims": [{"phase", "split", "status", "why"}]}`.

    A split is None where the two phases were not scored on the same images.
    """
    resamples = Resamples(inputs)
    comparisons = {phase: _against_start(inputs, resamples, phase) for phase in inputs.metrics}
    final = _final(inputs, resamples)
    decide_tables(inputs, comparisons, final)
    return {
        "comparisons": comparisons,
        "groups": {phase: _groups(inputs, resamples, phase) for phase in inputs.metrics},
        "final": final,
        "classes": _classes(inputs),
        "training": _training(inputs),
        "audit": audit(inputs),
        "claims": [judge(inputs, index) for index in range(len(inputs.params.report.claims))],
    }


def _against_start(inputs: Inputs, resamples: Resamples, phase: str) -> dict[str, Any]:
    other = inputs.compared_with(phase)
    return {"from": other} | (_paired(inputs, resamples, phase, other) if other is not None else {})


def _final(inputs: Inputs, resamples: Resamples) -> dict[str, Any]:
    first, active = next(iter(inputs.metrics)), inputs.params.phase
    return _paired(inputs, resamples, active, first) if active != first else {}


def _paired(inputs: Inputs, resamples: Resamples, phase: str, other: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for split, row in inputs.metrics[phase]["splits"].items():
        result[split] = None
        scored = inputs.metrics[other]["splits"]
        if row["images"] and split in scored and image_ids(inputs, phase, split) == image_ids(inputs, other, split):
            result[split] = {"images": row["images"]} | resamples.difference(phase, other, split)
    return result


def _classes(inputs: Inputs) -> dict[str, Any]:
    """The number of classes, and how many of them each phase predicts on each split."""
    names = range(len(inputs.params.classes))

    def used(scored: dict[str, Any]) -> int:
        if "masks" in scored:  # every pixel; the confusion matrix leaves out those without a truth
            return scored["masks"]["classes_used"]
        return sum(any(row[column] for row in scored["confusion"]) for column in names)

    predicted = {
        phase: {split: used(scored) for split, scored in document["splits"].items()}
        for phase, document in inputs.metrics.items()
    }
    return {"count": len(inputs.params.classes), "predicted": predicted}


def _training(inputs: Inputs) -> dict[str, Any]:
    """The shipped file's score on val minus the best value in the training log, by phase."""
    result = {}
    for phase, document in inputs.metrics.items():
        facts = document["training"]
        shipped = document["splits"].get("val", {}).get(facts["monitor"])
        shipped = shipped["value"] if isinstance(shipped, dict) else shipped
        if shipped is not None and facts["best_value"] is not None:
            result[phase] = {"difference": shipped - facts["best_value"]}
    return result


def _groups(inputs: Inputs, resamples: Resamples, phase: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for split, row in inputs.metrics[phase]["splits"].items():
        for group in inputs.params.report.class_groups if row["images"] else ():
            values, draws = resamples.of(phase, split)
            name = f"group/{group}"
            units = resamples.units(phase, split, name)
            result.setdefault(split, {})[group] = interval(values[name], draws[name], units)
    return result


def claim_source(inputs: Inputs, claim: Claim) -> tuple[str, str, str]:
    """(file, key, format) of the measured value that a claim is about; the key names an interval or a number.

    `metric` is an overall metric (`mIoU`, `AP50`), `<metric>/<class>`, `parameters`, `bytes`, `best_value`,
    `group/<group of classes>`, `val_loss` (the lowest of the training's history), `latency_ms` or `images_per_second`;
    not one of `NOT_RECORDED`.
    """
    phase = claim.phase or inputs.params.phase
    if claim.metric.startswith(GROUP):
        key = f"groups.{phase}.{claim.split}.{claim.metric.removeprefix(GROUP)}"
        return inputs.file_own("derived.json"), key, "fraction"
    if claim.metric == VAL_LOSS:
        return inputs.file_history(phase), f"{VAL_LOSS}[epoch={_lowest_loss(inputs, phase)[0]:g}]", "loss"
    if claim.metric in SPEED:
        return inputs.file_own("provenance.json"), f"speed.{phase}.{claim.metric}", "decimal"
    return inputs.file_metrics(phase), *metric_key(claim.metric, claim.split)


def _lowest_loss(inputs: Inputs, phase: str) -> tuple[float, float | None]:
    """(epoch, value) of the lowest validation loss; value None where the history has none."""
    pairs = logged(inputs.history[phase], VAL_LOSS)
    return min(pairs, key=lambda pair: pair[1]) if pairs else (0, None)


def metric_key(metric: str, split: str) -> tuple[str, str]:
    """(key, format) of a metric in metrics/<study>/<phase>.json."""
    if metric in OF_THE_FILE:
        return OF_THE_FILE[metric]
    name, slash, of = metric.partition("/")
    return (f"splits.{split}.per_class.{of}.{name}" if slash else f"splits.{split}.{name}"), "fraction"


def _claimed(inputs: Inputs, index: int, claim: Claim) -> Any:
    phase = claim.phase or inputs.params.phase
    if claim.metric in SPEED:
        return inputs.speed.get(phase, {}).get(claim.metric)
    if claim.metric == VAL_LOSS and claim.split == "val":
        return _lowest_loss(inputs, phase)[1]
    document = inputs.metrics[phase]
    if claim.metric not in OF_THE_FILE and claim.split not in document["splits"]:
        raise UserError(
            f"params.yaml: report.claims.{index}.split = {claim.split!r}: this split was not scored; "
            f"allowed: {', '.join(document['splits'])} (evaluate.splits)"
        )
    try:
        if claim.metric.startswith(GROUP):
            groups = _groups(inputs, Resamples(inputs), phase)
            return groups[claim.split][claim.metric.removeprefix(GROUP)]
        node = resolve(document, metric_key(claim.metric, claim.split)[0])
        if isinstance(node, dict) and "value" not in node:
            raise KeyError(claim.metric)
    except KeyError:
        overall = ", ".join(name for name in OVERALL[inputs.params.task])
        classes = ", ".join(f"{name}/<class>" for name in inputs.per_class)
        raise UserError(
            f"params.yaml: report.claims.{index}.metric = {claim.metric!r}: this metric was not measured; "
            f"allowed: {overall}, {classes}, {GROUP}<class group>, {', '.join((*OF_THE_FILE, *SPEED, *NOT_RECORDED))}, "
            f"{VAL_LOSS} (val only)"
        ) from None
    return node


def judge(inputs: Inputs, index: int) -> dict[str, Any]:
    """`{"phase", "split", "status": met | not met | not comparable, "why"}` of one claim.

    A target is met when the measured value is at or above `low` (or `value`), or at or below `high` where only `high`
    is given. A published or baseline value is met when the upper end of the measured interval reaches it, a published
    range when the interval overlaps it. Parameter counts and file sizes must be within the range, or within half a unit
    of the last digit of a single value. Only a run on the study's own real data is compared,
    except for parameter counts and file sizes, which depend on no data.
    """
    claim = inputs.params.report.claims[index]
    if claim.metric in NOT_RECORDED:
        why = NOT_RECORDED[claim.metric]
        return {"phase": claim.phase or inputs.params.phase, "split": claim.split} | {
            "status": "not comparable",
            "why": why,
        }
    node = _claimed(inputs, index, claim)
    measured = node.get("value") if isinstance(node, dict) else node
    result: dict[str, Any] = {"phase": claim.phase or inputs.params.phase, "split": claim.split}
    if not inputs.params.report.real_data and claim.metric not in FACTS:  # a count depends on no data
        return result | {"status": "not comparable", "why": "demo data"}
    if measured is None:
        return result | {"status": "not comparable", "why": "not measured"}
    ends = [node.get(end) for end in ("low", "high")] if isinstance(node, dict) else [None, None]
    low, high = (measured if end is None else end for end in ends)
    bounds = _range(claim)
    if bounds is not None:
        why = "above the claim" if low > bounds[1] else "below the claim" if high < bounds[0] else ""
        return result | {"status": "not met" if why else "met", "why": why}
    met = _reaches(claim, measured, high if claim.kind != "target" else measured)
    return result | {"status": "met" if met else "not met", "why": ""}


def _range(claim: Claim) -> tuple[float, float] | None:
    """The range that a published or baseline figure allows, where it is a range or a fact of a model; else None."""
    if claim.kind == "target":
        return None
    if claim.value is not None:
        half = _last_digit(claim.value) / 2
        return (claim.value - half, claim.value + half) if claim.metric in FACTS else None
    if claim.low is not None and claim.high is not None:
        return claim.low, claim.high
    if claim.metric in FACTS and (claim.low is not None or claim.high is not None):
        return -math.inf if claim.low is None else claim.low, math.inf if claim.high is None else claim.high
    return None


def _last_digit(value: float) -> float:
    """The unit of the last digit that is not 0: 1e6 of 41,000,000."""
    sign = Decimal(repr(value)).normalize().as_tuple()
    return float(10.0 ** int(sign.exponent))


def _reaches(claim: Claim, measured: float, reached: float) -> bool:
    smaller_is_better = claim.metric in SMALLER_IS_BETTER
    wanted = claim.value if claim.value is not None else claim.low
    if smaller_is_better and claim.value is None and claim.high is not None:
        wanted = claim.high
    if wanted is None:
        return claim.high is None or measured <= claim.high
    compare: Callable[[float, float], bool] = (lambda a, b: a <= b) if smaller_is_better else (lambda a, b: a >= b)
    return compare(measured if smaller_is_better else reached, wanted)

"""Figures that no metrics file holds because they need two phases or a group of classes, and the verdicts on them.

They are written to `reports/<study>/derived.json`, from which the report quotes them like any other number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages import seeds
from stages.errors import UserError
from stages.metrics import segmentation
from stages.metrics.bootstrap import Statistic, intervals, of_totals, paired_difference
from stages.params.schema import Claim
from stages.reporting.data_tables import audit
from stages.reporting.inputs import OVERALL, Inputs
from stages.reporting.numbers import resolve

SMALLER_IS_BETTER = ("latency_ms", "parameters", "bytes")
SPEED = ("latency_ms", "images_per_second")
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
    return {
        "comparisons": {phase: _against_start(inputs, phase) for phase in inputs.metrics},
        "groups": {phase: _groups(inputs, phase) for phase in inputs.metrics},
        "final": _final(inputs),
        "classes": _classes(inputs),
        "training": _training(inputs),
        "audit": audit(inputs),
        "claims": [judge(inputs, index) for index in range(len(inputs.params.report.claims))],
    }


def _ids(inputs: Inputs, phase: str, split: str) -> list[str]:
    path = Path("metrics", inputs.study, phase, f"images_{split}.txt")
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro evaluate@{phase}` (or `dvc pull`)") from None


def _seed(inputs: Inputs, split: str) -> int:
    return seeds.derive(inputs.params.seed, "bootstrap", split)


def statistic(inputs: Inputs, phase: str, split: str) -> Statistic:
    """Image weights [b, N] -> every overall score [b], from the per-image confusion matrices that `evaluate` kept."""
    params = inputs.params
    focus = [params.class_index(name) for name in params.report.focus_classes]
    members = {
        f"group/{group}": [params.class_index(name) for name in names]
        for group, names in params.report.class_groups.items()
    }

    def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
        result = segmentation.scores(confusion, focus)
        found = {name: result[name] for name in segmentation.OVERALL}
        found |= {f"IoU/{name}": result["IoU"][..., index] for index, name in enumerate(params.classes)}
        return found | {name: _mean_of(result["IoU"], columns) for name, columns in members.items()}

    return of_totals(scores, load_array(inputs, phase, f"confusion_{split}.npy"))


def load_array(inputs: Inputs, phase: str, name: str) -> np.ndarray:
    """A per-image array of an evaluated phase."""
    path = Path("metrics", inputs.study, phase, name)
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: could not be read ({error}); run `dvc repro evaluate@{phase}` (or `dvc pull`)"
        ) from None


def _mean_of(scores: np.ndarray, columns: list[int]) -> np.ndarray:
    chosen = scores[..., columns]
    defined = ~np.isnan(chosen)
    count = defined.sum(-1)
    total = np.where(defined, chosen, 0.0).sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _against_start(inputs: Inputs, phase: str) -> dict[str, Any]:
    other = inputs.compared_with(phase)
    return {"from": other} | (_paired(inputs, phase, other) if other is not None else {})


def _final(inputs: Inputs) -> dict[str, Any]:
    first = next(iter(inputs.metrics))
    return _paired(inputs, inputs.params.phase, first) if inputs.params.phase != first else {}


def _paired(inputs: Inputs, phase: str, other: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for split, row in inputs.metrics[phase]["splits"].items():
        images = row["images"]
        same = split in inputs.metrics[other]["splits"] and _ids(inputs, phase, split) == _ids(inputs, other, split)
        if not same or not images:
            result[split] = None
            continue
        differ = _differences_of_boxes if inputs.params.task == "detection" else _differences_of_masks
        result[split] = {"images": images} | differ(inputs, phase, other, split)
    return result


def _differences_of_masks(inputs: Inputs, phase: str, other: str, split: str) -> dict[str, Any]:
    mine, theirs = statistic(inputs, phase, split), statistic(inputs, other, split)
    images = inputs.metrics[phase]["splits"][split]["images"]
    return paired_difference(mine, theirs, images, inputs.params.evaluate.bootstrap, _seed(inputs, split))


def _differences_of_boxes(inputs: Inputs, phase: str, other: str, split: str) -> dict[str, Any]:
    # a difference without an interval gets no verdict
    mine, theirs = (inputs.metrics[name]["splits"][split] for name in (phase, other))
    pairs = {name: (mine.get(name), theirs.get(name)) for name in inputs.overall}
    for name in inputs.params.classes:
        metric = inputs.per_class[0]
        pairs[f"{metric}/{name}"] = (mine["per_class"][name][metric], theirs["per_class"][name][metric])
    result = {}
    for name, sides in pairs.items():
        first, second = (side["value"] if isinstance(side, dict) else side for side in sides)
        value = None if first is None or second is None else first - second
        result[name] = {"value": value, "low": None, "high": None, "verdict": None}
    return result


def _classes(inputs: Inputs) -> dict[str, Any]:
    """How many classes there are, and how many of them a phase predicts at all on a split."""
    names = range(len(inputs.params.classes))
    predicted = {
        phase: {
            split: sum(any(row[column] for row in scored["confusion"]) for column in names)
            for split, scored in document["splits"].items()
        }
        for phase, document in inputs.metrics.items()
    }
    return {"count": len(inputs.params.classes), "predicted": predicted}


def _training(inputs: Inputs) -> dict[str, Any]:
    """How far the shipped file's score on val lies from the best value in the training log."""
    result = {}
    for phase, document in inputs.metrics.items():
        facts = document["training"]
        shipped = document["splits"].get("val", {}).get(facts["monitor"])
        shipped = shipped["value"] if isinstance(shipped, dict) else shipped
        if shipped is not None and facts["best_value"] is not None:
            result[phase] = {"difference": shipped - facts["best_value"]}
    return result


def _groups(inputs: Inputs, phase: str) -> dict[str, Any]:
    if not inputs.params.report.class_groups:
        return {}
    result = {}
    for split, row in inputs.metrics[phase]["splits"].items():
        found: dict[str, Any] = {}
        if row["images"]:
            draws = inputs.params.evaluate.bootstrap
            found = intervals(statistic(inputs, phase, split), row["images"], draws, _seed(inputs, split))
        result[split] = {group: found.get(f"group/{group}") for group in inputs.params.report.class_groups}
    return result


def claim_source(inputs: Inputs, claim: Claim) -> tuple[str, str, str]:
    """(file, key, format) of the measured value that a claim speaks of; the key names an interval or a number.

    `metric` is an overall metric (`mIoU`, `AP50`), `<metric>/<class>`, `parameters`, `bytes`, `best_value`,
    `latency_ms` or `images_per_second`.
    """
    phase = claim.phase or inputs.params.phase
    if claim.metric in SPEED:
        return inputs.file_own("provenance.json"), f"speed.{phase}.{claim.metric}", "decimal"
    return inputs.file_metrics(phase), *metric_key(claim.metric, claim.split)


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
    document = inputs.metrics[phase]
    if claim.metric not in OF_THE_FILE and claim.split not in document["splits"]:
        raise UserError(
            f"params.yaml: report.claims.{index}.split = {claim.split!r}: was not scored; "
            f"allowed: {', '.join(document['splits'])} (evaluate.splits)"
        )
    try:
        node = resolve(document, metric_key(claim.metric, claim.split)[0])
        if isinstance(node, dict) and "value" not in node:
            raise KeyError(claim.metric)
    except KeyError:
        overall = ", ".join(name for name in OVERALL[inputs.params.task])
        classes = ", ".join(f"{name}/<class>" for name in inputs.per_class)
        raise UserError(
            f"params.yaml: report.claims.{index}.metric = {claim.metric!r}: not measured; "
            f"allowed: {overall}, {classes}, {', '.join((*OF_THE_FILE, *SPEED))}"
        ) from None
    return node


def judge(inputs: Inputs, index: int) -> dict[str, Any]:
    """`{"phase", "split", "status": met | not met | not comparable, "why"}` of one claim.

    A target is met when the measured value lies at or above `low` (or `value`), or at or below a `high` that stands
    alone. A published or baseline value is met when the upper end of the measured interval reaches it. Only a run on
    the study's own real data can be compared.
    """
    claim = inputs.params.report.claims[index]
    node = _claimed(inputs, index, claim)
    measured = node.get("value") if isinstance(node, dict) else node
    result: dict[str, Any] = {"phase": claim.phase or inputs.params.phase, "split": claim.split}
    if not inputs.params.report.real_data:
        return result | {"status": "not comparable", "why": "demo data"}
    if measured is None:
        return result | {"status": "not comparable", "why": "not measured"}
    reached = node.get("high") if isinstance(node, dict) and claim.kind != "target" else None
    met = _reaches(claim, measured, measured if reached is None else reached)
    return result | {"status": "met" if met else "not met", "why": ""}


def _reaches(claim: Claim, measured: float, reached: float) -> bool:
    smaller_is_better = claim.metric in SMALLER_IS_BETTER
    wanted = claim.value if claim.value is not None else claim.low
    if wanted is None:
        return claim.high is None or measured <= claim.high
    compare: Callable[[float, float], bool] = (lambda a, b: a <= b) if smaller_is_better else (lambda a, b: a >= b)
    return compare(measured if smaller_is_better else reached, wanted)

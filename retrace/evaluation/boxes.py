"""Score the boxes of one split: matches per image, then COCO scores, intervals, curves, confusions and pictures."""

from typing import Any

import numpy as np

from retrace.config.trainings import phase_of
from retrace.documents.samples import Sample
from retrace.documents.scores import DetectionSplit, Floor
from retrace.evaluation import pictures
from retrace.evaluation.detection import BoxScores, curves, summarize
from retrace.evaluation.error_pictures import draw_boxes
from retrace.evaluation.floor import against_floor, constant_boxes
from retrace.evaluation.logged import LoggedScores
from retrace.evaluation.scores.matching import Found, Matches, Truth, match, pair, rounded, truth_of
from retrace.evaluation.work import Images, Scored, Work
from retrace.files import write_json, write_jsonl
from retrace.statistics.bootstrap import Units, intervals
from retrace.statistics.estimate import Estimate

FLOORED = ("AP50", "AP", "AR", "F1", "best_F1")  # scores for which a constant answer is a yardstick
ANSWER = "the mean training box of each class"


def score_boxes(work: Work, split: str, ids: list[str]) -> Scored:
    """Predict, match and score; writes predictions_, matches_, objects_ and curves_<split>, sample pictures and
    pictures of errors.

    What is scored is what predictions_<split>.jsonl holds: boxes to 0.01 pixel, confidences to 0.000001.
    """
    params, options = work.params, work.params.evaluate
    truths = [truth_of(work.manifest.records[image_id]) for image_id in ids]
    founds = [rounded(prediction) for _, prediction in work.predictions(ids, f"evaluate {split}")]
    rows = ({"id": image_id, **_listed(found)} for image_id, found in zip(ids, founds, strict=True))
    write_jsonl(work.folder / f"predictions_{split}.jsonl", rows)
    matches = match(truths, founds, len(params.classes), options.iou_threshold)
    matches.save(work.folder, split)
    write_json(work.folder / f"curves_{split}.json", _plotted(curves(matches, params.classes)))
    seed, (units, kind) = work.bootstrap_seed(split), work.units(split, ids)
    scored = summarize(truths, founds, matches, units, params.classes, options, seed)
    floors = _floors(work, scored, ids, truths, matches, units, seed)
    per_class = {}
    for name, row in scored.per_class.items():
        per_class[name] = row.model_copy(update={"floor": floors[f"AP50/{name}"]})
    sure = [confident(found_, options.confidence) for found_ in founds]
    counts = confusion(truths, sure, len(params.classes), options.iou_threshold)
    more = {
        "per_class": per_class,
        "unit": kind,
        "floor": {name: floors[name] for name in FLOORED},
        **_logged(work, matches, units, seed),
        "confusion": counts.tolist(),
    }
    errors = draw_boxes(work, split, ids, truths, sure, counts)
    return scored.model_copy(update=more), _draw(work, split, ids, truths, sure), errors


def _floors(
    work: Work,
    scored: DetectionSplit,
    ids: list[str],
    truths: list[Truth],
    matches: Matches,
    units: Units,
    seed: int,
) -> dict[str, Floor]:
    """The best constant answer under the scores in `FLOORED` and `AP50/<class>`."""
    params, options, records = work.params, work.params.evaluate, work.manifest.records
    constant = constant_boxes([records[i] for i in work.train], [records[i] for i in ids], params.classes)
    kept = match(truths, constant, len(params.classes), options.iou_threshold)
    floor, model = (
        BoxScores(matched, params.classes, options.confidence, scored.best_F1_confidence) for matched in (kept, matches)
    )
    answers = dict.fromkeys([*FLOORED, *(f"AP50/{name}" for name in params.classes)], ANSWER)
    return against_floor(model, floor, answers, units, options.bootstrap, seed)


def _logged(work: Work, matches: Matches, units: Units, seed: int) -> dict[str, Estimate | float]:
    """AP50 as the training log of a YOLO phase shows it, whose validator drops detections below `conf`."""
    phase = work.params.phases[phase_of(work.phase)]
    if phase.engine != "ultralytics":
        return {}
    confidence = phase.hyperparameters.conf
    statistic = LoggedScores(matches, work.params.classes, confidence)
    found = intervals(statistic, units, work.params.evaluate.bootstrap, seed)
    return {**found, "logged_confidence": confidence}


def confident(found: Found, confidence: float) -> Found:
    """The detections at least this confident."""
    keep = found.scores >= confidence
    return Found(found.boxes[keep], found.labels[keep], found.scores[keep])


def confusion(truths: list[Truth], founds: list[Found], classes: int, iou_threshold: float) -> np.ndarray:
    """int64 [C+1, C+1], rows = truth; last row: detections of nothing, last column: objects missed."""
    result = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for truth, found in zip(truths, founds, strict=True):
        pairs, left = pair(truth, found, iou_threshold)
        missed = set(np.flatnonzero(~truth.crowd).tolist()) - {thing for thing, _, _ in pairs}
        for thing, detection, _ in pairs:
            result[truth.labels[thing], found.labels[detection]] += 1
        for thing in missed:
            result[truth.labels[thing], classes] += 1
        for detection in left:
            result[classes, found.labels[detection]] += 1
    return result


def quality(truth: Truth, found: Found, iou_threshold: float) -> tuple[float, float | None]:
    """Panoptic quality (Kirillov et al. 2019: F1 x mean IoU of the hits) of one image, and that mean IoU.

    NaN for an image with nothing in it and nothing found; a hit is a pair of one class.
    """
    pairs, left = pair(truth, found, iou_threshold)
    hits = [overlap for thing, detection, overlap in pairs if truth.labels[thing] == found.labels[detection]]
    objects = int((~truth.crowd).sum())
    total = objects + len(pairs) + len(left)
    return (2 * sum(hits) / total if total else float("nan")), (sum(hits) / len(hits) if hits else None)


def _draw(work: Work, split: str, ids: list[str], truths: list[Truth], founds: list[Found]) -> list[Sample]:
    threshold = work.params.evaluate.iou_threshold
    judged = [quality(truth, found, threshold) for truth, found in zip(truths, founds, strict=True)]
    scores = np.array([score for score, _ in judged])
    images = Images(work.manifest, ids)
    samples = []
    for kind, rows in pictures.choose(scores, ids, work.params.evaluate.samples).items():
        for rank, row in enumerate(rows, start=1):
            truth, found = truths[row], founds[row]
            file = f"samples/{split}_{kind}_{rank}.jpg"
            pictures.save_boxes(work.folder / file, images[row][0], *_captioned(work, truth, found))
            sample = Sample(
                file=file,
                id=ids[row],
                split=split,
                kind=kind,
                score=float(scores[row]),
                panels=pictures.BOX_PANELS,
                legend=pictures.box_legend(),
                truth=int((~truth.crowd).sum()),
                predicted=len(found.scores),
                IoU=judged[row][1],
                confidence=float(found.scores.mean()) if len(found.scores) else None,
            )
            samples.append(sample)
    return samples


def _captioned(work: Work, truth: Truth, found: Found) -> tuple[list[pictures.Drawn], list[pictures.Drawn]]:
    """True boxes, hit or missed, with their class; found ones, hits or false alarms, with class and confidence.

    A pair of two classes is a miss and a false alarm. Crowd regions and what is found in them are not drawn.
    """
    classes = work.params.classes
    pairs, left = pair(truth, found, work.params.evaluate.iou_threshold)
    hits = [(thing, detection) for thing, detection, _ in pairs if truth.labels[thing] == found.labels[detection]]
    seen, right = {thing for thing, _ in hits}, {detection for _, detection in hits}
    true, guess = [], []
    for thing in np.flatnonzero(~truth.crowd).tolist():
        kind = "hit" if thing in seen else "miss"
        true.append(pictures.Drawn(tuple(truth.boxes[thing]), classes[truth.labels[thing]], kind))
    for detection in sorted({detection for _, detection, _ in pairs} | set(left)):
        kind = "hit" if detection in right else "false alarm"
        caption = f"{classes[found.labels[detection]]} {found.scores[detection]:.2f}"
        guess.append(pictures.Drawn(tuple(found.boxes[detection]), caption, kind))
    return true, guess


def _listed(found: Found) -> dict[str, Any]:
    return {"boxes": found.boxes.tolist(), "scores": found.scores.tolist(), "labels": found.labels.tolist()}


def _plotted(found: dict[str, Any]) -> dict[str, Any]:
    """101 points a curve, 6 digits."""
    step = {"confidence": 10, "F1": 10, "mean_F1": 10, "precision_at": 10, "recall_at": 10}

    def short(values: np.ndarray, every: int) -> list[float]:
        return np.round(values[::every], 6).tolist()

    return {
        key: {name: short(curve, step.get(key, 1)) for name, curve in value.items()}
        if isinstance(value, dict)
        else short(value, step.get(key, 1))
        for key, value in found.items()
    }

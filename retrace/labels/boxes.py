"""Suspicious boxes: labels of one image against confident detections of a model that was not trained on it.

The scores follow ObjectLab (Tkachenko, Thyagarajan & Mueller 2023, "ObjectLab: Automated Diagnosis of Mislabeled Images
in Object Detection Data"), which tells overlooked, swapped and badly located boxes apart, with IoU as the similarity;
duplicates are ours. Each score is the confidence of the detection that speaks against the label, times how clearly it
does.
"""

from collections.abc import Sequence

import numpy as np

from retrace.evaluation.scores.matching import Found, Truth, iou
from retrace.labels.suspects import Suspect

SAME = 0.5  # IoU from which two boxes are of one object
NEAR = 0.1  # IoU below which a detection has nothing to do with a label
USUAL = 0.9  # IoU of a detection with its object, where no pair of a class tells


def usual_overlap(truths: Sequence[Truth], founds: Sequence[Found], classes: int) -> np.ndarray:
    """float64 [C]: the median IoU of the labels of a class with their best detection of that class, if one fits."""
    best: list[list[float]] = [[] for _ in range(classes)]
    for truth, found in zip(truths, founds, strict=True):
        ious = _overlaps(truth, found)
        ious[found.labels[:, None] != truth.labels[None, :]] = 0.0
        for label, overlap in zip(truth.labels.tolist(), ious.max(0, initial=0.0).tolist(), strict=True):
            if overlap >= SAME:
                best[label].append(overlap)
    return np.array([float(np.median(overlaps)) if overlaps else USUAL for overlaps in best])


def suspicious_boxes(image: str, truth: Truth, found: Found, usual: np.ndarray) -> list[Suspect]:
    """At most one suspicion of every label and of every detection; crowd regions are not judged.

    usual: float64 [C], see `usual_overlap`.
    """
    ious = _overlaps(truth, found)
    labels = [_of_label(image, truth, found, ious, index, usual) for index in np.flatnonzero(~truth.crowd).tolist()]
    twins = _duplicated(image, truth, found, ious)
    judged = [max(pair, key=lambda one: one.suspicion) for pair in zip(labels, twins, strict=True)]
    return judged + _missing(image, truth, found, ious)


def _overlaps(truth: Truth, found: Found) -> np.ndarray:
    """float64 [K, G]: IoU of detections with labels."""
    return iou(found.boxes, truth.boxes, truth.crowd)


def _of_label(image: str, truth: Truth, found: Found, ious: np.ndarray, index: int, usual: np.ndarray) -> Suspect:
    """Whether the class or the place of a label is wrong, whichever is likelier."""
    label, overlap = int(truth.labels[index]), ious[:, index]
    same = found.labels == label
    fits = overlap >= SAME
    support = float(found.scores[fits & same].max(initial=0.0))
    other = np.where(fits & ~same, found.scores * overlap, 0.0)
    wrong = max(0.0, float(other.max(initial=0.0)) - support)
    mine = (overlap >= NEAR) & (ious.argmax(1) == index) if len(overlap) else np.zeros(0, bool)
    near = np.where(mine & same, found.scores * overlap, 0.0)
    moved = 0.0
    if near.any():
        closest = int(near.argmax())
        moved = float(found.scores[closest]) * max(0.0, 1 - float(overlap[closest]) / usual[label])
    box = _box(truth.boxes[index])
    if wrong > moved:
        best = int(other.argmax())
        seen = _box(found.boxes[best])
        return Suspect(image, "wrong class", wrong, box, label, int(found.labels[best]), index, seen)
    seen = _box(found.boxes[int(near.argmax())]) if near.any() else box
    return Suspect(image, "badly placed", moved, box, label, label, index, seen)


def _duplicated(image: str, truth: Truth, found: Found, ious: np.ndarray) -> list[Suspect]:
    """Labels of one class on one object: the one that fits worse, unless the model sees two objects there."""
    real = np.flatnonzero(~truth.crowd)
    among = iou(truth.boxes[real], truth.boxes[real], np.zeros(len(real), bool))
    suspects = []
    for row, index in enumerate(real.tolist()):
        label = int(truth.labels[index])
        suspicion = 0.0
        for column, other in enumerate(real.tolist()):
            if other == index or truth.labels[other] != label or among[row, column] < SAME:
                continue
            near = (found.labels == label) & (np.minimum(ious[:, index], ious[:, other]) >= NEAR)
            scores = np.sort(found.scores[near & (ious[:, [index, other]].max(1) >= SAME)])[::-1]
            first, second = (float(scores[k]) if len(scores) > k else 0.0 for k in (0, 1))
            fit = [float((found.scores * ious[:, place])[near].max(initial=0.0)) for place in (index, other)]
            if (fit[0], -index) < (fit[1], -other):
                suspicion = max(suspicion, float(among[row, column]) * max(0.0, first - second))
        suspects.append(Suspect(image, "duplicated", suspicion, _box(truth.boxes[index]), label, None, index))
    return suspects


def _missing(image: str, truth: Truth, found: Found, ious: np.ndarray) -> list[Suspect]:
    """Confident detections where nothing is labeled; of several on one object the most confident."""
    taken = _taken(ious, found.scores)
    suspects: list[Suspect] = []
    kept: list[int] = []
    for index in np.argsort(-found.scores, kind="stable").tolist():
        overlap = float(ious[index].max(initial=0.0))
        if taken[index] or overlap >= SAME:
            continue
        box = found.boxes[index : index + 1]
        others = iou(box, found.boxes[kept], np.zeros(len(kept), bool))
        if others.max(initial=0.0) >= SAME:
            continue
        kept.append(index)
        suspicion = float(found.scores[index]) * (1 - overlap / SAME)
        suspects.append(Suspect(image, "missing", suspicion, _box(box[0]), None, int(found.labels[index]), None))
    return suspects


def _taken(ious: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """bool [K]: detections that are the best one of some label, which is then badly placed and not missing."""
    taken = np.zeros(len(scores), dtype=bool)
    if ious.size:
        weight = np.where(ious >= NEAR, ious * scores[:, None], 0.0)
        best = weight.argmax(0)
        taken[best[weight.max(0) > 0]] = True
    return taken


def _box(values: np.ndarray) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in values)
    return x, y, width, height

"""COCO's greedy matching for masks of objects, by the rules of pycocotools' `COCOeval.evaluateImg` (Lin et al. 2014).

`retrace.evaluation.scores.matching` does the same for boxes, of all images at once. The size of an object is the area
that its annotation states, that of a detection the pixels of its mask, both as in pycocotools.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval.core import mask

from retrace.evaluation.scores.matching import AREAS, LIMIT, ROW, THRESHOLDS, Matches

Rle = dict[str, object]  # size [height, width] and counts, packed


@dataclass(frozen=True)
class Masks:
    """The objects of one image, or the detections in it."""

    rles: tuple[Rle, ...]  # [K]
    labels: np.ndarray  # int64 [K], class indices
    areas: np.ndarray  # float64 [K], pixels
    crowd: np.ndarray  # bool [K]; False for detections
    scores: np.ndarray  # float64 [K]; 1 for objects


def match(truths: Sequence[Masks], founds: Sequence[Masks], classes: int, iou_threshold: float) -> Matches:
    """Match every image; `iou_threshold` is the reported one."""
    thresholds = np.minimum(np.append(THRESHOLDS, iou_threshold), 1 - 1e-10)
    objects = np.zeros((len(truths), classes, len(AREAS)), dtype=np.int64)
    rows = []
    for image, (truth, found) in enumerate(zip(truths, founds, strict=True)):
        counted = ~(truth.crowd | _outside(truth.areas))  # [A, G]
        for label in range(classes):
            things, guesses = np.flatnonzero(truth.labels == label), np.flatnonzero(found.labels == label)
            objects[image, label] = counted[:, things].sum(1)
            guesses = guesses[np.argsort(-found.scores[guesses], kind="stable")][:LIMIT]
            if not guesses.size:
                continue
            ious = _ious(found, guesses, truth, things)
            hit, ignored = _greedy(ious, counted[:, things], truth.crowd[things], thresholds)
            matched = hit | ignored
            ignored |= ~matched & _outside(found.areas[guesses]).T[:, :, None]
            mine = np.zeros(len(guesses), ROW)
            mine["image"], mine["label"], mine["score"] = image, label, found.scores[guesses]
            mine["hit"], mine["ignored"] = _bits(hit), _bits(ignored)
            rows.append(mine)
    return Matches(np.concatenate(rows) if rows else np.zeros(0, ROW), objects)


def _ious(found: Masks, guesses: np.ndarray, truth: Masks, things: np.ndarray) -> np.ndarray:
    """float64 [D, G]; with a crowd: intersection / area of the detection."""
    if not things.size:
        return np.zeros((len(guesses), 0))
    crowd = truth.crowd[things].astype(np.uint8).tolist()
    ious = mask.iou([found.rles[place] for place in guesses], [truth.rles[place] for place in things], crowd)
    return np.asarray(ious, dtype=np.float64).reshape(len(guesses), len(things))


def _greedy(
    ious: np.ndarray, counted: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """bool [D, A, T] twice: whether a detection takes an object that counts, or one that does not.

    ious [D, G], of detections by falling confidence; counted [A, G]; crowd [G].
    """
    things = ious.shape[1]
    hit, ignored = np.zeros((2, len(ious), len(counted), len(thresholds)), dtype=bool)
    free = np.ones((len(counted), len(thresholds), things), dtype=bool)
    for guess in np.flatnonzero((ious >= thresholds.min()).any(1)):
        near = (free | crowd) & (ious[guess] >= thresholds[:, None])  # [A, T, G]
        real = near & counted[:, None]  # objects that count come before the others
        near = np.where(real.any(-1, keepdims=True), real, near)
        # of equal overlaps the last object wins, as in pycocotools
        best = things - 1 - np.where(near, ious[guess], -1.0)[..., ::-1].argmax(-1)  # [A, T]
        area, threshold = np.nonzero(near.any(-1))
        chosen = best[area, threshold]
        hit[guess, area, threshold] = counted[area, chosen]
        ignored[guess, area, threshold] = ~counted[area, chosen]
        free[area, threshold, chosen] = False
    return hit, ignored


def _outside(areas: np.ndarray) -> np.ndarray:
    """bool [A, K]: areas [K] that are not in the range; both ends belong to it."""
    limits = np.array(list(AREAS.values()))[:, :, None]  # [A, 2, 1]
    return (areas < limits[:, 0]) | (areas > limits[:, 1])


def _bits(flags: np.ndarray) -> np.ndarray:
    """bool [D, A, T] -> uint16 [D, A], bit t = flags[..., t]."""
    weights = (1 << np.arange(flags.shape[2])).astype(np.uint16)
    return (flags * weights).sum(2).astype(np.uint16)

"""COCO's greedy matching of detections to objects, done once per image and kept, so that a resample only re-weights it.

The rules are those of pycocotools' `COCOeval.evaluateImg` (Lin et al. 2014): detections by falling confidence, at most
100 an image and class, each takes the free object with the highest IoU; crowd regions and objects outside an area range
are matched last and count neither as hit nor as miss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask

from retrace.data.manifest import Record

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU, COCO's
REPORTED = len(THRESHOLDS)  # index of `evaluate.iou_threshold`, which is matched too
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # pixels
LIMIT = 100  # detections per image and class

# one row per detection; bit t of hit[a] / ignored[a]: matched / not counted at IoU threshold t in area range a
ROW = np.dtype([("image", "<i4"), ("label", "<i2"), ("score", "<f8"), ("hit", "<u2", 4), ("ignored", "<u2", 4)])


@dataclass(frozen=True)
class Truth:
    """The objects of one image."""

    boxes: np.ndarray  # float64 [G, 4]: (x, y, width, height) in pixels
    labels: np.ndarray  # int64 [G], class indices
    crowd: np.ndarray  # bool [G]


@dataclass(frozen=True)
class Found:
    """The detections of one image."""

    boxes: np.ndarray  # float64 [K, 4]: (x, y, width, height) in pixels
    labels: np.ndarray  # int64 [K]
    scores: np.ndarray  # float64 [K], 0 ... 1


def truth_of(record: Record) -> Truth:
    """The objects of a manifest row."""
    boxes = np.array([box.xywh for box in record.boxes], dtype=np.float64).reshape(-1, 4)
    labels = np.array([box.label for box in record.boxes], dtype=np.int64)
    return Truth(boxes, labels, np.array([box.crowd for box in record.boxes], dtype=bool))


def rounded(prediction: Any) -> Found:
    """A predictor's detections (`boxes` [K, 4] as x1, y1, x2, y2; `scores`; `labels`) at the precision that is kept."""
    corners = prediction.boxes
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return Found(np.round(boxes, 2), prediction.labels, np.round(prediction.scores, 6))


@dataclass(frozen=True)
class Matches:
    """All that scores and their intervals need of a split."""

    rows: np.ndarray  # ROW [D], by image, then class, then falling score
    objects: np.ndarray  # int64 [N, C, 4]: objects that count, per image, class and area range

    def save(self, folder: Path, split: str) -> None:
        """Write matches_<split>.npy and objects_<split>.npy."""
        np.save(folder / f"matches_{split}.npy", self.rows, allow_pickle=False)
        np.save(folder / f"objects_{split}.npy", self.objects, allow_pickle=False)


def load_matches(folder: Path, split: str) -> Matches:
    """What `Matches.save` wrote. Raises OSError or ValueError for a missing or damaged file."""
    rows, objects = (np.load(folder / f"{name}_{split}.npy", allow_pickle=False) for name in ("matches", "objects"))
    return Matches(rows, objects)


def match(truths: Sequence[Truth], founds: Sequence[Found], classes: int, iou_threshold: float) -> Matches:
    """Match every image; `iou_threshold` is the reported one."""
    thresholds = np.append(THRESHOLDS, iou_threshold)
    rows: list[np.ndarray] = []
    objects = np.zeros((len(truths), classes, len(AREAS)), dtype=np.int64)
    for image, (truth, found) in enumerate(zip(truths, founds, strict=True)):
        for label, true, guess in _by_class(truth, found):
            counted = ~(truth.crowd[true] | _outside(truth.boxes[true]))  # [A, G]
            objects[image, label] = counted.sum(1)
            if len(guess):
                rows.append(_match_class(truth, found, true, guess, counted, thresholds))
                rows[-1]["image"], rows[-1]["label"] = image, label
    return Matches(np.concatenate(rows) if rows else np.zeros(0, ROW), objects)


def iou(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[D, 4], [G, 4] as (x, y, w, h), bool [G] -> float64 [D, G]; with a crowd: intersection / area of the box."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return np.asarray(mask.iou(boxes.tolist(), others.tolist(), crowd.astype(int).tolist()))


def _by_class(truth: Truth, found: Found) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(label, indices of its objects, indices of its detections by falling score), for the classes of one image."""
    for label in np.union1d(truth.labels, found.labels):
        guess = np.flatnonzero(found.labels == label)
        order = np.argsort(-found.scores[guess], kind="stable")[:LIMIT]
        yield int(label), np.flatnonzero(truth.labels == label), guess[order]


def _outside(boxes: np.ndarray) -> np.ndarray:
    """bool [A, K]: boxes [K, 4] whose area is not in the range; both ends belong to it."""
    area = boxes[:, 2] * boxes[:, 3]
    limits = np.array(list(AREAS.values()))[:, :, None]  # [A, 2, 1]
    return (area < limits[:, 0]) | (area > limits[:, 1])


def _match_class(
    truth: Truth, found: Found, true: np.ndarray, guess: np.ndarray, counted: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    ious = iou(found.boxes[guess], truth.boxes[true], truth.crowd[true])
    matched = np.zeros((len(AREAS), len(thresholds), len(guess)), dtype=bool)  # [A, T, D]
    ignored = np.repeat(_outside(found.boxes[guess])[:, None], len(thresholds), axis=1)
    free = np.ones((len(AREAS), len(thresholds), len(true)), dtype=bool)  # [A, T, G]
    floor = np.minimum(thresholds, 1 - 1e-10)[:, None]
    # a detection that overlaps nothing enough at the lowest threshold cannot match: most need no more than this
    for index in np.flatnonzero(ious.max(1, initial=0.0) >= floor.min()):
        near = (free | truth.crowd[true]) & (ious[index] >= floor)
        real = near & counted[:, None]
        near = np.where(real.any(-1, keepdims=True), real, near)
        # of equal overlaps the last object wins, as in pycocotools
        best = len(true) - 1 - np.argmax(np.where(near, ious[index], -1.0)[..., ::-1], axis=-1)  # [A, T]
        area, threshold = np.nonzero(near.any(-1))
        taken = best[area, threshold]
        free[area, threshold, taken] = False
        matched[area, threshold, index] = True
        ignored[area, threshold, index] = ~counted[area, taken]
    rows = np.zeros(len(guess), ROW)
    rows["score"] = found.scores[guess]
    rows["hit"], rows["ignored"] = _bits(matched & ~ignored), _bits(ignored)
    return rows


def _bits(flags: np.ndarray) -> np.ndarray:
    """bool [A, T, D] -> uint16 [D, A], bit t = flags[:, t]."""
    weights = (1 << np.arange(flags.shape[1])).astype(np.uint16)
    return np.einsum("atd,t->da", flags, weights).astype(np.uint16)


def pair(truth: Truth, found: Found, iou_threshold: float) -> tuple[list[tuple[int, int, float]], list[int]]:
    """One-to-one pairs (object, detection, IoU) whatever their classes, by falling IoU, and the detections left over.

    For confusion matrices and pictures. Of equal overlaps the pair of one class comes first. Detections that only lie
    in a crowd region are neither.
    """
    real = np.flatnonzero(~truth.crowd)
    ious = iou(found.boxes, truth.boxes[real], truth.crowd[real])
    guess, true = np.nonzero(ious >= iou_threshold)
    differs = found.labels[guess] != truth.labels[real[true]]
    pairs, used_objects, used_detections = [], set(), set()
    for index in np.lexsort((guess, differs, -ious[guess, true])):
        thing, detection = int(real[true[index]]), int(guess[index])
        if thing not in used_objects and detection not in used_detections:
            pairs.append((thing, detection, float(ious[detection, true[index]])))
            used_objects.add(thing)
            used_detections.add(detection)
    crowded = iou(found.boxes, truth.boxes[truth.crowd], truth.crowd[truth.crowd]).max(1, initial=0.0) >= iou_threshold
    left = [index for index in range(len(found.boxes)) if index not in used_detections and not crowded[index]]
    return pairs, left

"""COCO's greedy matching of detections to objects, done once per image and kept, so that a resample only re-weights it.

The rules are those of pycocotools' `COCOeval.evaluateImg` (Lin et al. 2014): detections by falling confidence, at most
100 an image and class, each takes the free object with the highest IoU; crowd regions and objects outside an area range
are matched last and count neither as hit nor as miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrace.documents.manifest import Record

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
    """Match every image; `iou_threshold` is the reported one.

    Detections of different images or classes do not compete for objects. So all that are the first of their image and
    class to overlap an object are matched at once, then all that are the second, and so on.
    """
    thresholds = np.append(THRESHOLDS, iou_threshold)
    things = _flat(truths, [np.ones(len(truth.labels)) for truth in truths], classes)
    crowd = np.concatenate([truth.crowd for truth in truths] or [np.zeros(0, bool)])[things.order]
    guesses = _flat(founds, [found.scores for found in founds], classes, LIMIT)
    counted = ~(crowd | _outside(things.boxes))  # [A, G]
    objects = np.zeros((len(truths) * classes, len(AREAS)), dtype=np.int64)
    np.add.at(objects, things.key, counted.T)
    pairs = _overlapping(guesses, things, crowd, float(np.minimum(thresholds, 1 - 1e-10).min()))
    matched, taken = _greedy(pairs, len(guesses.key), counted, crowd, np.minimum(thresholds, 1 - 1e-10))
    ignored = np.repeat(_outside(guesses.boxes)[:, None], len(thresholds), axis=1)  # [A, T, D]
    area, threshold, guess = np.nonzero(matched)
    ignored[area, threshold, guess] = ~counted[area, taken[area, threshold, guess]]
    rows = np.zeros(len(guesses.key), ROW)
    rows["image"], rows["label"] = guesses.key // classes, guesses.key % classes
    rows["score"] = guesses.scores
    rows["hit"], rows["ignored"] = _bits(matched & ~ignored), _bits(ignored)
    return Matches(rows, objects.reshape(len(truths), classes, len(AREAS)))


@dataclass(frozen=True)
class _Flat:
    """The boxes of all images, sorted by key (image, then class), then by falling score."""

    key: np.ndarray  # int64 [K]: image * classes + class
    boxes: np.ndarray  # float64 [K, 4]
    scores: np.ndarray  # float64 [K]
    order: np.ndarray  # int64 [K]: position among the boxes as given, image after image


def _flat(
    images: Sequence[Truth] | Sequence[Found], scores: list[np.ndarray], classes: int, limit: int | None = None
) -> _Flat:
    """At most `limit` boxes, the first by falling score, of each image and class."""
    counts = [len(image.labels) for image in images]
    labels = np.concatenate([image.labels for image in images] or [np.zeros(0, np.int64)]).astype(np.int64)
    boxes = np.concatenate([image.boxes for image in images] or [np.zeros((0, 4))]).reshape(-1, 4)
    score = np.concatenate(scores or [np.zeros(0)])
    key = np.repeat(np.arange(len(images)), counts) * classes + labels
    order = np.lexsort((-score, key))
    if limit is not None:
        order = order[_rank(key[order]) < limit]
    return _Flat(key[order], boxes[order], score[order], order)


def _rank(groups: np.ndarray) -> np.ndarray:
    """Sorted [K] -> int64 [K]: 0, 1, ... within each run of equal values."""
    return np.arange(len(groups)) - np.searchsorted(groups, groups)


@dataclass(frozen=True)
class _Pairs:
    """Detections with the objects of their image and class that they overlap enough."""

    guess: np.ndarray  # int64 [P], rising
    thing: np.ndarray  # int64 [P]; of one detection by rising IoU, of equal ones in their order
    ious: np.ndarray  # float64 [P]
    turn: np.ndarray  # int64 [P]: how many detections of that image and class come first


def _overlapping(guesses: _Flat, things: _Flat, crowd: np.ndarray, least: float) -> _Pairs:
    first, last = (np.searchsorted(things.key, guesses.key, side) for side in ("left", "right"))
    guess = np.repeat(np.arange(len(guesses.key)), last - first)
    thing = np.arange(len(guess)) - np.repeat(np.cumsum(last - first) - last, last - first)
    ious = _iou(guesses.boxes[guess], things.boxes[thing], crowd[thing])
    enough = ious >= least
    guess, thing, ious = guess[enough], thing[enough], ious[enough]
    order = np.lexsort((thing, ious, guess))
    guess, thing, ious = guess[order], thing[order], ious[order]
    distinct, position = np.unique(guess, return_inverse=True)
    return _Pairs(guess, thing, ious, _rank(guesses.key[distinct])[position])


def _greedy(
    pairs: _Pairs, guesses: int, counted: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """bool and int32 [A, T, D]: whether a detection takes an object, and which."""
    shape = (len(AREAS), len(thresholds))
    matched, taken = np.zeros((*shape, guesses), dtype=bool), np.zeros((*shape, guesses), dtype=np.int32)
    free = np.ones((*shape, len(crowd)), dtype=bool)
    for turn in range(int(pairs.turn.max(initial=-1)) + 1):
        mine = np.flatnonzero(pairs.turn == turn)
        guess, start = np.unique(pairs.guess[mine], return_index=True)
        thing, lengths = pairs.thing[mine], np.diff(np.append(start, len(mine)))
        near = (free[..., thing] | crowd[thing]) & (pairs.ious[mine] >= thresholds[:, None])
        real = near & counted[:, None, thing]  # objects that count come before the others
        some = np.repeat(np.logical_or.reduceat(real, start, axis=-1), lengths, axis=-1)
        near = np.where(some, real, near)
        # pairs of a detection go by rising IoU: of equal overlaps the last object wins, as in pycocotools
        best = np.maximum.reduceat(np.where(near, np.arange(len(mine)), -1), start, axis=-1)
        area, threshold, which = np.nonzero(best >= 0)
        chosen = thing[best[area, threshold, which]]
        matched[area, threshold, guess[which]] = True
        taken[area, threshold, guess[which]] = chosen
        free[area, threshold, chosen] = False
    return matched, taken


def _iou(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[P, 4] twice as (x, y, w, h), bool [P] -> float64 [P]; with a crowd: intersection / area of the box.

    The operations of pycocotools' bbIou in their order, so that its bits come out.
    """
    width, height = (
        np.minimum(boxes[:, side] + boxes[:, side + 2], others[:, side] + others[:, side + 2])
        - np.maximum(boxes[:, side], others[:, side])
        for side in (0, 1)
    )
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    area, other = boxes[:, 2] * boxes[:, 3], others[:, 2] * others[:, 3]
    union = np.where(crowd, area, area + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def iou(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[D, 4], [G, 4] as (x, y, w, h), bool [G] -> float64 [D, G]; with a crowd: intersection / area of the box."""
    left, right = np.repeat(np.arange(len(boxes)), len(others)), np.tile(np.arange(len(others)), len(boxes))
    return _iou(boxes[left], others[right], crowd[right]).reshape(len(boxes), len(others))


def _outside(boxes: np.ndarray) -> np.ndarray:
    """bool [A, K]: boxes [K, 4] whose area is not in the range; both ends belong to it."""
    area = boxes[:, 2] * boxes[:, 3]
    limits = np.array(list(AREAS.values()))[:, :, None]  # [A, 2, 1]
    return (area < limits[:, 0]) | (area > limits[:, 1])


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

"""The floor under every score: the best constant answer that can be learned on train, scored like a model.

It looks at no image. Segmentation: one class everywhere, or at each place the class that is most frequent there
on train; for each score whichever is best on train. Detection: in every image one box of each class, with the
mean center and size of its training boxes relative to the image.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from retrace.config.metrics import SPLIT, names
from retrace.documents.manifest import Record
from retrace.documents.scores import Floor
from retrace.evaluation.scores.matching import Found
from retrace.evaluation.scores.segmentation import scores
from retrace.statistics.bootstrap import Statistic, Units, of_totals
from retrace.statistics.verdicts import paired_difference

GRID = 128  # places in each direction
MASKS = 1000  # training masks that are looked at


@dataclass(frozen=True)
class Places:
    """How often each class is at each place of the training masks: int64 [C, GRID, GRID]."""

    counts: np.ndarray

    @property
    def usual(self) -> np.ndarray:
        """uint8 [GRID, GRID]: the most frequent class at each place, the first of equally frequent ones."""
        return self.counts.argmax(0).astype(np.uint8)

    def answer(self, shape: tuple[int, ...]) -> np.ndarray:
        """uint8 [H, W]: the same picture for every image, in this size."""
        return cv2.resize(self.usual, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)

    def confusion(self) -> np.ndarray:
        """int64 [C, C], rows = truth: what the answer scores on train itself, at the resolution of the grid."""
        classes = len(self.counts)
        flat, usual = self.counts.reshape(classes, -1), self.usual.ravel()
        return np.stack([flat[:, usual == label].sum(1) for label in range(classes)], axis=1)


def places(masks: Iterable[np.ndarray], classes: int) -> Places:
    """Count masks (uint8 [H, W], 255 = not scored) of any sizes on a grid of `GRID` x `GRID` places."""
    counts = np.zeros((classes, GRID, GRID), dtype=np.int64)
    for mask in masks:
        small = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_NEAREST_EXACT)
        for label in range(classes):
            counts[label] += small == label
    return Places(counts)


def spread(image_ids: Sequence[str]) -> list[str]:
    """At most `MASKS` of the ids, at even distances."""
    step = max(1, math.ceil(len(image_ids) / MASKS))
    return list(image_ids[::step])


def everywhere(pixels: np.ndarray, label: int) -> np.ndarray:
    """int64 [..., C] pixels of each true class -> [..., C, C]: the confusion matrix of one class everywhere."""
    matrices = np.zeros((*pixels.shape, pixels.shape[-1]), dtype=np.int64)
    matrices[..., label] = pixels
    return matrices


def constant_masks(
    train: Places, usual: np.ndarray, classes: Sequence[str], focus: Sequence[int]
) -> tuple[Statistic, dict[str, str]]:
    """The floor of segmentation.

    Args:
        train: what the training masks show where.
        usual: int64 [N, C, C], the confusion matrix of `train.answer` on every scored image.
        focus: indices of the classes that `focus_mIoU` is the mean of.

    Returns:
        Image weights [b, N] -> the overall scores and `IoU/<class>` [b]; and by the same names the answer:
        `<class> everywhere`, or the most frequent class at each place.
    """
    pixels = train.counts.sum((1, 2))
    answers = [f"{name} everywhere" for name in classes] + ["the most frequent class at each place"]
    on_train = [everywhere(pixels, label) for label in range(len(classes))] + [train.confusion()]
    found = [named(scores(matrix, focus), classes) for matrix in on_train]
    best = {name: _best([float(row[name]) for row in found]) for name in found[0]}
    whole = usual.sum(0)

    def statistic(totals: np.ndarray) -> dict[str, np.ndarray]:
        true = totals.sum(-1)
        matrices = [everywhere(true, label) for label in range(len(classes))] + [totals]
        drawn = [named(scores(matrix, focus, whole), classes) for matrix in matrices]
        return {name: drawn[answer][name] for name, answer in best.items()}

    return of_totals(statistic, usual), {name: answers[answer] for name, answer in best.items()}


def named(found: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Of `scores`: the overall scores, and `IoU/<class>` by name."""
    overall = {name: found[name] for name in names("segmentation", SPLIT) if name in found}
    return overall | {f"IoU/{name}": found["IoU"][..., label] for label, name in enumerate(classes)}


def _best(values: list[float]) -> int:
    return max(range(len(values)), key=lambda place: (np.nan_to_num(values[place], nan=-1.0), -place))


def constant_boxes(train: Sequence[Record], scored: Sequence[Record], classes: Sequence[str]) -> list[Found]:
    """The floor of detection: the same boxes, relative to its size, in every scored image.

    Classes without a training object are left out. Confidence is 1.
    """
    places: list[tuple[int, np.ndarray]] = []
    for label in range(len(classes)):
        boxes = [
            (np.array(box.xywh), record)
            for record in train
            for box in record.boxes
            if box.label == label and not box.crowd
        ]
        if boxes:
            relative = [_relative(box, record) for box, record in boxes]
            places.append((label, np.mean(relative, axis=0)))
    return [_placed(places, record) for record in scored]


def _relative(box: np.ndarray, record: Record) -> np.ndarray:
    """(x, y, w, h) in pixels -> (center x, center y, width, height) as shares of the image."""
    size = np.array([record.width, record.height])
    return np.concatenate([(box[:2] + box[2:] / 2) / size, box[2:] / size])


def _placed(places: list[tuple[int, np.ndarray]], record: Record) -> Found:
    size = np.array([record.width, record.height])
    boxes = [np.concatenate([(place[:2] - place[2:] / 2) * size, place[2:] * size]) for _, place in places]
    labels = np.array([label for label, _ in places], dtype=np.int64)
    return Found(np.array(boxes).reshape(-1, 4).round(2), labels, np.ones(len(places)))


def against_floor(
    model: Statistic,
    floor: Statistic,
    answers: Mapping[str, str],
    units: Units,
    resamples: int,
    seed: int,
) -> dict[str, Floor]:
    """The floor under every score that `answers` names, with its answer.

    A model is above it where the paired 95 % interval is above 0.
    """
    values = floor(np.ones((1, len(units.of))))
    found = paired_difference(model, floor, units, resamples, seed)
    floors = {}
    for name, answer in answers.items():
        value, low = float(values[name][0]), found[name].low
        beaten = None if low is None else low > 0
        floors[name] = Floor(value=None if np.isnan(value) else value, beaten=beaten, answer=answer)
    return floors

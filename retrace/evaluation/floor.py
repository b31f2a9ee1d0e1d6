"""The floor under every score: the best constant answer that can be learned on train, scored like a model.

Segmentation: one class everywhere, for each score the class that gives the best one on train. Detection: in
every image one box of each class, with the mean center and size of its training boxes relative to the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrace.data.manifest import Record
from retrace.evaluation.scores.matching import Found
from retrace.evaluation.scores.segmentation import OVERALL, scores
from retrace.statistics.bootstrap import Statistic, Units, of_totals
from retrace.statistics.verdicts import paired_difference


def everywhere(pixels: np.ndarray, label: int) -> np.ndarray:
    """int64 [..., C] pixels of each true class -> [..., C, C]: the confusion matrix of one class everywhere."""
    matrices = np.zeros((*pixels.shape, pixels.shape[-1]), dtype=np.int64)
    matrices[..., label] = pixels
    return matrices


def constant_masks(
    train: np.ndarray, scored: np.ndarray, classes: Sequence[str], focus: Sequence[int]
) -> tuple[Statistic, dict[str, str]]:
    """The floor of segmentation.

    Args:
        train: int64 [C], pixels of each class in the training masks.
        scored: int64 [N, C], pixels of each true class in every scored image.
        focus: indices of the classes that `focus_mIoU` is the mean of.

    Returns:
        Image weights [b, N] -> the overall scores and `IoU/<class>` [b]; and by the same names the class
        that is answered everywhere. For the IoU of a class it is that class.
    """
    count = len(classes)
    on_train = [scores(everywhere(train, label), focus) for label in range(count)]
    best = {name: _best([float(found[name]) for found in on_train]) for name in OVERALL}
    best |= {f"IoU/{name}": label for label, name in enumerate(classes)}
    whole = np.diag(scored.sum(0))

    def statistic(totals: np.ndarray) -> dict[str, np.ndarray]:
        found = [scores(everywhere(totals, label), focus, whole) for label in range(count)]
        return {name: _value(found[label], name, label) for name, label in best.items()}

    return of_totals(statistic, scored), {name: classes[label] for name, label in best.items()}


def _best(values: list[float]) -> int:
    return max(range(len(values)), key=lambda label: (np.nan_to_num(values[label], nan=-1.0), -label))


def _value(found: dict[str, np.ndarray], name: str, label: int) -> np.ndarray:
    key, slash, _ = name.partition("/")
    return found[key][..., label] if slash else found[key]


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
    model: Statistic, floor: Statistic, units: Units, resamples: int, seed: int, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """`{name: {"value", "beaten"}}` of these scores.

    value: the floor's. beaten: whether the model's score is above it beyond chance (the paired 95 % interval
    is above 0); None where there is no interval.
    """
    values = floor(np.ones((1, len(units.of))))
    found = paired_difference(_only(model, names), floor, units, resamples, seed)
    return {
        name: {
            "value": None if np.isnan(values[name][0]) else float(values[name][0]),
            "beaten": None if row["low"] is None else row["low"] > 0,
        }
        for name, row in found.items()
    }


def _only(model: Statistic, names: Sequence[str]) -> Statistic:
    return lambda weights: {name: value for name, value in model(weights).items() if name in names}

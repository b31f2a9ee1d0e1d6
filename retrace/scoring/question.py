"""What is scored: the images of a truth, and for each file of predictions a statistic of image weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retrace.errors import UserError
from retrace.statistics.bootstrap import Statistic

# lists of class names that tools put among labels and masks
CLASS_FILES = ("_classes.csv", "class_names.txt", "labels.txt", "classes.txt")
SHOWN = 2  # faults of a file that a message describes


@dataclass(frozen=True)
class Options:
    """How predictions are scored.

    confidence: detections below it count neither for precision nor for recall and F1, 0 ... 1.
    iou_threshold: the IoU that a match needs for these three, above 0, at most 1.
    masks: score the masks of COCO files; None: only where there are no boxes.
    """

    confidence: float = 0.25
    iou_threshold: float = 0.5
    masks: bool | None = None
    train: Path | None = None  # truth from which the constant answer is learned; None: the truth itself
    images: Path | None = None  # folder of the images of a YOLO truth
    classes: tuple[str, ...] | None = None  # names of the classes, in their order


@dataclass(frozen=True)
class Answer:
    """The predictions of one file, as image weights [b, N] -> every score [b].

    The names are those of `retrace.config.metrics`, `AP75`, and `<metric>/<class>` for a class.
    """

    name: str
    statistic: Statistic
    best_confidence: float | None = None  # detection: where the mean F1 is highest


@dataclass(frozen=True)
class Question:
    """A truth with the predictions that were made for it."""

    task: str  # detection | segmentation
    what: str  # boxes | masks | pixels
    classes: tuple[str, ...]
    images: tuple[str, ...]  # names, in the order of the image weights
    seen: np.ndarray  # int64 [N, C]: objects (detection) or pixels of each class in each image
    answers: tuple[Answer, ...]
    floor: Statistic | None  # of the best constant answer; None: it cannot be learned from this truth
    floor_answers: Mapping[str, str] = field(default_factory=dict)  # metric -> what the answer is
    train: str = ""  # from which truth the answer is learned; empty: from the scored truth itself


class Faults:
    """What is wrong in one file: the first faults in words, and how many there are."""

    def __init__(self, file: Path):
        self._file = file
        self._count = 0
        self._first: list[str] = []

    def add(self, detail: str) -> None:
        """Take note of a fault."""
        self._count += 1
        if len(self._first) < SHOWN:
            self._first.append(detail)

    def settle(self) -> None:
        """Raise a `UserError` that names the file, if there is any fault."""
        if not self._count:
            return
        more = self._count - len(self._first)
        parts = [f"{self._file}: {self._first[0]}", *self._first[1:]]
        if more:
            parts.append(f"and {more:,} more of such faults")
        raise UserError("\n       ".join(parts))


def names_of(paths: list[Path]) -> list[str]:
    """A name for each file of predictions: the end of its path that tells it from the others.

    Raises:
        UserError: a file is given twice.
    """
    for path in paths:
        if [other.resolve() for other in paths].count(path.resolve()) > 1:
            raise UserError(f"{path}: given twice; name every file of predictions once")
    parts = [path.resolve().with_suffix("").parts for path in paths]
    while len(paths) > 1 and len({one[-1] for one in parts}) == 1:  # runs/a/labels, runs/b/labels: a, b
        parts = [one[:-1] for one in parts]
    depth = 1
    while True:
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(paths):
            return names
        depth += 1

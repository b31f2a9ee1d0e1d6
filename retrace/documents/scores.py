"""metrics/<study>/<phase>.json: every score of a phase's shipped weights, read back from disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from retrace.config.metrics import CLASS, FILE, find, names
from retrace.config.trainings import stage_of
from retrace.documents.base import Document, Part, parse, read
from retrace.documents.training import Training
from retrace.statistics.estimate import UNDEFINED, Estimate

AGAIN = "`dvc repro evaluate@{stem}`"


class Weights(Part):
    """The shipped file; `file` is its name in models/<study>/<phase>, `bytes` its size."""

    file: str
    sha256: str
    bytes: int


class Floor(Part):
    """The best constant answer under a score, a fraction; see docs/metrics.md.

    `beaten`: whether the score is above it beyond chance; None where there is no interval.
    """

    value: float | None
    beaten: bool | None
    answer: str


class Scored(Part):
    """A part whose fields are metrics, by their names in `retrace.config.metrics`."""

    def estimate(self, name: str) -> Estimate:
        """The metric of this name; undefined where the file does not have it."""
        value = getattr(self, name, UNDEFINED)
        return value if isinstance(value, Estimate) else UNDEFINED

    def has(self, name: str) -> bool:
        """Whether the file has this key."""
        return name in self.model_fields_set


class SegmentationClass(Scored):
    """Scores of a class, fractions."""

    IoU: Estimate = UNDEFINED
    precision: Estimate = UNDEFINED
    recall: Estimate = UNDEFINED
    F1: Estimate = UNDEFINED
    images: int  # that show the class
    units: int = 0  # independent units that show the class
    pixels: int  # of the class in the truth
    reliable: bool  # in at least `min_reliable` images
    predicted_pixels: int
    floor: Floor | None = None  # under IoU
    boundary_F1: Estimate = UNDEFINED

    @property
    def seen(self) -> int:
        """Examples of the class: images that show it."""
        return self.images


class Masks(Part):
    """The predicted masks of a split as the PNG files that `retrace predict` writes, in bytes."""

    bytes_mean: Estimate
    bytes_median: float | None
    bytes_total: int
    classes_used: int  # classes that occur in any of them


class SegmentationSplit(Scored):
    """Scores on a split (fractions) and counts; `confusion` in pixels, rows are the truth."""

    images: int
    units: int = 0  # independent units
    mIoU: Estimate = UNDEFINED
    focus_mIoU: Estimate = UNDEFINED
    pixel_accuracy: Estimate = UNDEFINED
    balanced_accuracy: Estimate = UNDEFINED
    per_class: dict[str, SegmentationClass]
    confusion: list[list[int]] = []
    unit: str = "image"  # what a unit is: image, sequence or group
    floor: dict[str, Floor] = {}  # by metric
    mean_boundary_F1: Estimate = UNDEFINED
    masks: Masks | None = None

    @property
    def classes_predicted(self) -> int:
        """Classes that are predicted anywhere on the split."""
        if (
            self.masks is not None
        ):  # every pixel; the confusion matrix leaves out the unlabeled ones
            return self.masks.classes_used
        return used(self.confusion, len(self.per_class))


class DetectionClass(Scored):
    """Scores of a class, fractions."""

    AP50: Estimate = UNDEFINED
    AP: Estimate = UNDEFINED
    precision: Estimate = UNDEFINED
    recall: Estimate = UNDEFINED
    F1: Estimate = UNDEFINED
    instances: int  # objects of the class
    images: int  # that show one
    units: int = 0  # independent units that show one
    reliable: bool  # at least `min_reliable` objects
    floor: Floor | None = None  # under AP50

    @property
    def seen(self) -> int:
        """Examples of the class: its objects."""
        return self.instances


class Instances(Part):
    """Objects that count, by COCO's size: small up to 32 x 32 pixels, large from 96 x 96."""

    all: int
    small: int
    medium: int
    large: int


class DetectionSplit(Scored):
    """Scores on a split (fractions) and counts.

    Precision, recall and F1 are at `confidence` and `iou_threshold`; `best_F1` is at the confidence
    with the highest F1 on these images. `confusion` in objects, rows are the truth, the last row
    and column are the background.
    """

    images: int
    units: int = 0  # independent units
    instances: Instances
    AP50: Estimate = UNDEFINED
    AP: Estimate = UNDEFINED
    AR: Estimate = UNDEFINED
    AP_small: Estimate = UNDEFINED
    AP_medium: Estimate = UNDEFINED
    AP_large: Estimate = UNDEFINED
    precision: Estimate = UNDEFINED
    recall: Estimate = UNDEFINED
    F1: Estimate = UNDEFINED
    best_F1_precision: Estimate = UNDEFINED
    best_F1_recall: Estimate = UNDEFINED
    best_F1: Estimate = UNDEFINED
    best_F1_confidence: float
    confidence: float
    iou_threshold: float
    per_class: dict[str, DetectionClass]
    unit: str = "image"  # what a unit is: image, sequence or group
    floor: dict[str, Floor] = {}  # by metric
    AP50_as_logged: Estimate = UNDEFINED  # YOLO phases: as the training log shows it
    logged_confidence: float | None = None  # which the log's validator requires
    confusion: list[list[int]] = []

    @property
    def classes_predicted(self) -> int:
        """Classes that are predicted anywhere on the split."""
        return used(self.confusion, len(self.per_class))


Split = SegmentationSplit | DetectionSplit
Splits = Mapping[str, Split]


def used(confusion: list[list[int]], classes: int) -> int:
    """How many of the first `classes` columns of a confusion matrix hold a count."""
    return sum(any(row[column] for row in confusion) for column in range(classes))


class Scores(Document):
    """What both tasks share. `parameters` counts the network's numbers."""

    again: ClassVar[str] = AGAIN

    study: str
    phase: str
    task: str
    engine: str
    classes: list[str]
    weights: Weights
    parameters: int
    training: Training
    min_reliable: int  # examples that a class needs for a reliable score
    unpinned: bool = False  # written only where true
    inference_precision: str = "32-true"  # written only where it is another
    splits: Splits

    @property
    def headline_split(self) -> str:
        """test where it has images, else the first split that was scored."""
        test = self.splits.get("test")
        return "test" if test is not None and test.images else next(iter(self.splits))

    def metric(self, name: str, split: str) -> Estimate:
        """A metric as `claims` and `expected` name it: `mIoU`, `IoU/<class>`, `bytes`.

        Undefined where it was not measured.
        """
        declared = find(self.task, name)
        if declared is not None and declared.place == FILE:
            values = {
                "parameters": self.parameters,
                "bytes": self.weights.bytes,
                "best_value": self.training.best_value,
            }
            return Estimate(values[name])
        scored = self.splits.get(split)
        if declared is None or scored is None:
            return UNDEFINED
        label = name.partition("/")[2]
        if not label:
            return scored.estimate(name)
        row = scored.per_class.get(label)
        return row.estimate(declared.name) if row is not None else UNDEFINED

    def floor(self, name: str, split: str) -> Floor | None:
        """The floor under a metric; None where there is none."""
        scored = self.splits[split]
        metric, _, label = name.partition("/")
        if not label:
            return scored.floor.get(metric)
        row = scored.per_class.get(label)
        is_main = metric == names(self.task, CLASS)[0]
        return row.floor if row is not None and is_main else None


class SegmentationScores(Scores):
    """The scores of a segmentation phase."""

    task: Literal["segmentation"]
    splits: dict[str, SegmentationSplit]


class DetectionScores(Scores):
    """The scores of a detection phase."""

    task: Literal["detection"]
    splits: dict[str, DetectionSplit]


def _again(path: Path) -> str:
    return f"`dvc repro {stage_of('evaluate', path.stem)}`"


KINDS = {"segmentation": SegmentationScores, "detection": DetectionScores}
EITHER = Annotated[SegmentationScores | DetectionScores, Field(discriminator="task")]


def read_scores(path: Path, name: str | None = None) -> Scores:
    """Read metrics/<study>/<phase>.json; raises as `Document.read` does."""
    scores: Scores = read(EITHER, path, _again(path), name)
    return scores


def parse_scores(text: str | bytes, name: str) -> Scores:
    """The scores that JSON holds; raises as `Document.read` does."""
    scores: Scores = parse(EITHER, text, name, _again(Path(name)))
    return scores

"""label_check.json of `retrace label-check`: labels to look at, the most suspicious first."""

from typing import ClassVar

from retrace.documents.base import Document, Part
from retrace.statistics.estimate import Estimate

LABEL_CHECK = "label_check.json"


class SuspectRow(Part):
    """A label, or what has none. `suspicion`: 0 to 1, the order; it is no probability.

    Boxes are (x, y, width, height) in pixels of the image.
    """

    rank: int
    suspicion: float
    kind: str  # missing | wrong class | badly placed | duplicated | region
    image: str
    split: str
    label: str | None  # as labeled; null: there is no label
    suggested: str | None  # what the model sees; null: a label is one too many
    box: list[float]  # of the label or region; where there is none, of the detection
    better: list[float] | None = None  # where the model sees the object
    position: int | None = None  # of the label among the boxes of its image, from 0
    crop: str | None = None  # file name of its picture


class Without(Part):
    """The score after the images of the first `suspects` on this split are left out."""

    suspects: int
    images_left_out: int
    score: Estimate


class CheckedSplit(Part):
    """`labels`: objects, for masks images. `score`: of all images."""

    images: int
    labels: int
    suspects: int
    score: Estimate
    without: list[Without]


class LabelCheck(Document):
    """Suspects of splits that the phase was not trained on, and what its score is without them.

    Images are left out because the model disagrees with their labels, so the score tends to rise
    even where the labels are right.
    """

    again: ClassVar[str] = "`retrace label-check`"

    study: str
    phase: str
    task: str
    metric: str
    splits: dict[str, CheckedSplit]
    suspects: list[SuspectRow]

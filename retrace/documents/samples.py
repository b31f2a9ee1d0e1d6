"""metrics/<study>/<phase>/samples.json: the sample pictures of a phase."""

from pathlib import Path

from retrace.documents.base import Part, read
from retrace.documents.scores import AGAIN
from retrace.files import write_json


class Entry(Part):
    """A color of a picture's legend: a class that occurs in it, or a kind of box.

    style: filled for masks; of a box's line solid (hit), dashed (miss) or dotted (false alarm).
    """

    name: str
    color: str  # #rrggbb
    style: str = "filled"


class Sample(Part):
    """One picture. `score` is a fraction: the mIoU of a mask, the panoptic quality of boxes.

    panels: what stands side by side in it, in columns of equal width.
    """

    file: str  # below metrics/<study>/<phase>
    id: str
    split: str
    kind: str  # best | median | worst
    score: float
    panels: tuple[str, ...] = ()
    legend: tuple[Entry, ...] = ()
    truth: int | None = None  # detection only, as are the following: objects in the truth
    predicted: int | None = None
    IoU: float | None = None  # mean of the hits; None without any
    confidence: float | None = None  # mean of the predictions


def read_samples(path: Path) -> list[Sample]:
    """The rows of samples.json; raises as `Document.read` does."""
    rows: list[Sample] = read(list[Sample], path, AGAIN.format(stem=path.parent.name))
    return rows


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Write samples.json atomically."""
    write_json(path, [sample.content() for sample in samples])

"""metrics/<study>/<phase>/errors.json: the pictures behind the cells of the confusion matrix."""

from pathlib import Path

from retrace.documents.base import Part, read
from retrace.documents.samples import Entry
from retrace.documents.scores import AGAIN
from retrace.files import write_json


class ErrorPicture(Part):
    """One picture of one cell of the confusion matrix.

    Where `truth` and `predicted` are the same class, it is one of the worst images of that class.
    A measure that does not apply is null: masks have `pixels`, boxes the rest.
    """

    file: str  # below metrics/<study>/<phase>
    id: str
    split: str
    truth: str | None  # a class; null: there is no object
    predicted: str | None  # a class; null: nothing was detected
    legend: tuple[Entry, ...] = ()
    pixels: int | None = None  # of the error; on the diagonal all that are missed or wrongly given
    confidence: float | None = None  # of the detection; null for an object that was missed
    IoU: float | None = None  # of the detection and the object; null where one of them is missing
    side: float | None = None  # of a missed object: the square root of its area in pixels


def read_error_pictures(path: Path) -> list[ErrorPicture]:
    """The rows of errors.json; raises as `Document.read` does."""
    rows: list[ErrorPicture] = read(list[ErrorPicture], path, AGAIN.format(stem=path.parent.name))
    return rows


def write_error_pictures(path: Path, pictures: list[ErrorPicture]) -> None:
    """Write errors.json atomically."""
    write_json(path, [picture.content() for picture in pictures])

"""models/<study>/{pretrain,none}/start.json: what the starting weights beside it are."""

from typing import ClassVar

from retrace.documents.base import Document, Part

START = "start.json"


class StartFile(Part):
    """A file with weights, by its name in the folder."""

    file: str
    sha256: str


class Start(Document):
    """The starting weights; the facts of a training are None where nothing was trained.

    `files`: by key of `pretrain.weights`, or `all`.
    """

    again: ClassVar[str] = "`dvc repro pretrain`"

    method: str  # mae | weights | none
    encoder: str | None = None
    first_loss: float | None = None  # mean over the first epoch
    last_loss: float | None = None  # mean over the last epoch
    decreased: bool | None = None
    images: int | None = None
    epochs: int | None = None
    processes: int | None = None  # how many trained together
    files: dict[str, StartFile]
    unpinned: bool = False  # written only where true

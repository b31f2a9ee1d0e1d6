"""data/<study>/raw/dataset.json: what was collected from where."""

from typing import ClassVar

from retrace.documents.base import Document, Part


class Source(Part):
    """Images of one source and given split; `labelled` are those with annotations."""

    name: str
    split: str | None  # as given; None: dealt by a ratio
    images: int
    labelled: int


class Dataset(Document):
    """Classes, sources and problems of a data set."""

    again: ClassVar[str] = "`dvc repro collect`"

    study: str
    task: str
    classes: list[str]
    sources: list[Source]
    problems: dict[str, int]  # by kind
    quarantined: int  # files that were left out
    unpinned: bool = False  # written only where true

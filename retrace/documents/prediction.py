"""summary.json of `retrace predict`: what was predicted; it marks the folder as ours."""

from typing import ClassVar

from retrace.documents.base import Document

SUMMARY = "summary.json"


class Prediction(Document):
    """`seconds` by what they were spent on; `problems` are files that could not be read."""

    again: ClassVar[str] = "`retrace predict`"

    phase: str
    frames: int
    seconds: dict[str, float]
    problems: list[str] = []

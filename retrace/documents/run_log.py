"""logs/<study>/[<phase>/]<stage>.json: what a stage did here, and when."""

from typing import ClassVar

from retrace.documents.base import Document
from retrace.environment import Image


class RunLog(Document):
    """A run of a stage. The stage may add facts of its own."""

    again: ClassVar[str] = "`dvc repro`"

    stage: str
    phase: str | None = None
    started: str  # ISO 8601, UTC
    seconds: float
    status: str  # RUNNING | SUCCESS | FAILED
    pid: int = 0
    host: str = ""
    image: Image | None = None
    device: str | None = None
    device_name: str | None = None
    cuda: str | None = None  # version
    error: str | None = None

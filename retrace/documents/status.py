"""logs/<study>/<phase>/status.json: where a training is; `retrace watch` reads it."""

from typing import ClassVar

from retrace.documents.base import Document


class Status(Document):
    """A training at work; a number that is not known yet is left out.

    Epochs and steps count from 1 and are those being worked on; times are ISO 8601, UTC.
    """

    again: ClassVar[str] = "`dvc repro`"

    study: str
    phase: str
    state: str  # running | finished | failed
    error: str | None
    pid: int
    host: str
    started: str
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    monitor: str | None = None
    loss: float | None = None
    rates: dict[str, float] = {}  # learning rates by name
    eta_seconds: int | None = None
    best_epoch: int | None = None
    best_value: float | None = None
    rows: list[dict[str, int | float | None]] = []  # the last rows of the history
    updated: str

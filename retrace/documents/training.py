"""models/<study>/<phase>/train.json: how a phase was trained."""

from typing import ClassVar

from retrace.documents.base import Document


class Training(Document):
    """The outcome of a training; `best_value` is a fraction, losses are those of its log."""

    again: ClassVar[str] = "`dvc repro finetune`"

    init: str  # what the phase started from: pretrain, none or another phase
    monitor: str
    best_epoch: int  # from 1; the first epoch with the best monitored value on val
    best_value: float | None
    epochs_run: int
    epochs_planned: int
    stopped: str  # completed | early
    first_loss: float | None  # of the first batch
    last_loss: float | None  # mean of the last epoch
    parameters: int
    trainable_parameters: int
    processes: int | None = None  # how many trained together
    chain: list[str] | None = None  # of hashes.json, a value for every epoch, the start first
    unpinned: bool = False  # written only where true

"""models/<study>/<training>/hashes.json: the bits of a training after every epoch.

Also the lines of logs/<study>/<training>/steps.jsonl, and what two of them are compared with.
"""

from typing import ClassVar

from retrace.documents.base import Document, Part

HASHES = "hashes.json"
SHORT = 8  # hex digits of the digest of one tensor
STATE = ("model", "average", "optimizer")  # what the next epoch starts from
CAUSES = ("order", "batch", *STATE, "generators", "history")  # the earlier explains the later


class StateHashes(Part):
    """Digests (the first 32 hex digits of a sha256) of the state of a training."""

    model: str  # parameters and buffers
    average: str | None  # of the averaged weights; None: there is no average
    optimizer: str  # its tensors, learning rates and loss scale
    generators: str  # PyTorch's random numbers that come next, on the CPU and on the GPU if used
    tensors: str  # 8 hex digits for each name of the file's `tensors`, one after the other


class EpochHashes(StateHashes):
    """The state after an epoch."""

    epoch: int  # 0: before the first step
    order: str  # ids of the training images as they came; of several processes the first one's
    history: str  # the epoch's row of history.csv
    chain: str  # sha256 over the chain of the epoch before and all else in this row


class StepHashes(StateHashes):
    """The state after a batch: a line of steps.jsonl, kept on request."""

    epoch: int
    step: int  # batch of the epoch, from 1
    images: list[str]  # ids
    batch: str  # what the network was given: pixels and labels


class Hashes(Document):
    """The state of a training after every epoch."""

    again: ClassVar[str] = "`dvc repro finetune`"

    tensors: list[str]  # names; `optimizer/<name>`: what the optimizer keeps for a parameter
    epochs: list[EpochHashes]


class Comparison(Document):
    """What a training that is run again is compared with, as it goes."""

    again: ClassVar[str] = "`retrace verify`"

    chain: list[str]  # of every epoch, from epoch 0
    record: Hashes | None  # None: only the chain is known
    after: int | None = None  # it must go on from the kept state after this epoch
    until: int | None = None  # end after this epoch and write no results
    steps: bool = False  # write steps.jsonl


class Outcome(Document):
    """What such a comparison found: the first difference, or none up to `epoch`."""

    again: ClassVar[str] = "`retrace verify`"

    epoch: int
    step: int | None = None  # None: known by epoch only
    same: bool
    parts: list[str] = []  # digests that differ, causes first; empty: only the chain is known
    tensors: list[str] = []  # names
    images: list[str] = []  # of the batch
    note: str = ""

    def sentence(self) -> str:
        """Where the training parts from the record."""
        place = f"epoch {self.epoch}" if self.epoch else "the start, before the first step,"
        place += f", step {self.step}" if self.step is not None else ""
        note = f"; {self.note}" if self.note else ""
        if self.same:
            return f"the same as the record up to {place.rstrip(',')}{note}"
        known = f": {', '.join(self.parts)}" if self.parts else ""
        first = f"; first tensor: {self.tensors[0]}" if self.tensors else ""
        more = f" (and {len(self.tensors) - 1} more)" if len(self.tensors) > 1 else ""
        batch = f"; images of the batch: {', '.join(self.images)}" if self.images else ""
        return f"{place} differs from the record{known}{first}{more}{batch}{note}"


def differing_parts(one: StateHashes, other: StateHashes) -> list[str]:
    """Names of the digests that differ, causes before consequences."""
    return [name for name in CAUSES if getattr(one, name, None) != getattr(other, name, None)]


def differing_tensors(one: StateHashes, other: StateHashes, names: list[str]) -> list[str]:
    """Names of the tensors that differ, in the order of the network."""
    found = []
    for index, name in enumerate(names):
        place = slice(index * SHORT, (index + 1) * SHORT)
        if one.tensors[place] != other.tensors[place]:
            found.append(name)
    return found

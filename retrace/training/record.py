"""The record of a training's bits: a chain of digests over its epochs, and over its steps on request.

`retrace verify` gives a training that it runs again the chain of the first run (`COMPARE`, a folder with a
`Comparison` for each training); it then ends at the first epoch, or step, that differs, and says what differs.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrace.config.machine import Machine
from retrace.documents.hashes import (
    HASHES,
    STATE,
    Comparison,
    EpochHashes,
    Hashes,
    Outcome,
    StateHashes,
    StepHashes,
    differing_parts,
    differing_tensors,
)
from retrace.errors import UserError
from retrace.files import LOGS, read_jsonl, write_jsonl
from retrace.training.digests import State, digest, digest_of

COMPARE = "RETRACE_COMPARE"


@dataclass(frozen=True)
class Trace:
    """What is wanted beside the chain of epochs.

    log: steps.jsonl, None for no digests of steps. wanted, steps: the record to compare with.
    found: where the outcome of the comparison goes.
    """

    log: Path | None = None
    wanted: Comparison | None = None
    steps: dict[tuple[int, int], StepHashes] = field(default_factory=dict)
    found: Path | None = None


def steps_path(study: str, name: str) -> Path:
    """logs/<study>/<training>/steps.jsonl"""
    return LOGS / study / name / "steps.jsonl"


def trace_of(study: str, name: str, machine: Machine) -> Trace:
    """What `machine.record_steps` and a running `retrace verify` ask of the training `name`."""
    log = steps_path(study, name)
    folder = Path(os.environ.get(COMPARE) or "nowhere")
    file = folder / f"{name}.json"
    if COMPARE not in os.environ or not file.is_file():
        return Trace(log if machine.record_steps else None)
    wanted, steps = Comparison.read(file), folder / f"{name}.steps.jsonl"
    kept = read_steps(steps) if steps.is_file() else {}
    recorded = machine.record_steps or wanted.steps or bool(kept)
    return Trace(log if recorded else None, wanted, kept, folder / f"{name}.found.json")


def read_steps(path: Path) -> dict[tuple[int, int], StepHashes]:
    """The lines of a steps.jsonl by (epoch, step)."""
    rows = [StepHashes.model_validate(row) for row in read_jsonl(path)]
    return {(row.epoch, row.step): row for row in rows}


class Recorder:
    """Fills `hashes`, the content of hashes.json, and compares it with the record if there is one.

    hashes: {"tensors": names, "epochs": rows}; empty at the start, that of the last epoch where a training goes on.
    Raises `UserError` from any method at the first difference, and where the comparison ends.
    """

    def __init__(self, hashes: dict[str, Any], state: State, trace: Trace):
        self._hashes, self._state, self._trace = hashes, state, trace
        self._images: list[str] = []
        self._step = 0

    def begin(self) -> None:
        """Record the start, or check that an interrupted training goes on from the state that was recorded."""
        wanted = self._trace.wanted
        done = self._hashes["epochs"][-1]["epoch"] if self._hashes else 0
        if wanted is not None and wanted.after not in (None, done):
            note = f"no state after epoch {wanted.after} fits this code, data and parameters"
            self._end(Outcome(epoch=done, same=False, note=note))
        if not self._hashes:
            self._hashes |= {"tensors": self._state.names(), "epochs": []}
            self._begin_log(0)
            self._add(0, {})
            return
        last = EpochHashes.model_validate(self._hashes["epochs"][-1])
        self._begin_log(last.epoch)
        if wanted is not None:
            here = StateHashes.model_validate(self._state.digests())
            other = [name for name in STATE if getattr(here, name) != getattr(last, name)]
            if other:
                note = "the state that was kept is not the one that was recorded"
                self._end(Outcome(epoch=last.epoch, same=False, parts=other, note=note))
            self._compare(last)

    def batch(self, images: list[str], batch: object) -> None:
        """Note a batch after its step. images: ids."""
        self._images += images
        self._step += 1
        if self._trace.log is None or not self._hashes["epochs"]:
            return
        epoch = self._hashes["epochs"][-1]["epoch"] + 1
        row = StepHashes.model_validate(
            {
                "epoch": epoch,
                "step": self._step,
                "images": images,
                "batch": digest_of(batch),
                **self._state.digests(),
            }
        )
        with open(self._trace.log, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row.content(), separators=(",", ":"), ensure_ascii=False) + "\n")
        other = self._trace.steps.get((epoch, self._step))
        if other is not None and (parts := differing_parts(other, row)):
            tensors = differing_tensors(other, row, self._hashes["tensors"])
            found = Outcome(epoch=epoch, step=self._step, same=False, parts=parts, tensors=tensors, images=images)
            self._end(found)

    def epoch(self, row: dict[str, Any]) -> None:
        """Add a complete epoch with its row of history.csv."""
        self._add(int(row["epoch"]), row)

    def _add(self, epoch: int, row: dict[str, Any]) -> None:
        shown = {name: f"{value:.8g}" if isinstance(value, float) else value for name, value in row.items()}
        entry: dict[str, Any] = {
            "epoch": epoch,
            "order": digest_of(self._images),
            **self._state.digests(),
            "history": digest_of(shown),
        }
        before = self._hashes["epochs"][-1]["chain"] if self._hashes["epochs"] else ""
        entry["chain"] = link(before, entry)
        self._images, self._step = [], 0
        self._hashes["epochs"].append(entry)
        self._compare(EpochHashes.model_validate(entry))

    def _compare(self, row: EpochHashes) -> None:
        wanted = self._trace.wanted
        if wanted is None:
            return
        if row.epoch >= len(wanted.chain):
            self._end(Outcome(epoch=row.epoch, same=False, parts=["more epochs than the record has"]))
        if wanted.chain[row.epoch] != row.chain:
            parts, tensors = [], []
            if wanted.record is not None:
                other = wanted.record.epochs[row.epoch]
                parts = differing_parts(other, row)
                tensors = differing_tensors(other, row, wanted.record.tensors)
            self._end(Outcome(epoch=row.epoch, same=False, parts=parts, tensors=tensors))
        if wanted.until is not None and row.epoch >= wanted.until:
            self._end(Outcome(epoch=row.epoch, same=True))

    def _end(self, found: Outcome) -> None:
        assert self._trace.found is not None
        found.write(self._trace.found)
        raise UserError(found.sentence())

    def _begin_log(self, done: int) -> None:
        """Steps after the last complete epoch are run again."""
        if self._trace.log is None:
            return
        rows = list(read_jsonl(self._trace.log)) if done and self._trace.log.is_file() else []
        write_jsonl(self._trace.log, [row for row in rows if row["epoch"] <= done])


def link(before: str, entry: dict[str, Any]) -> str:
    """The chain's value for an epoch. before: that of the epoch before, "" for the first; entry: without `chain`."""
    return digest([before.encode(), json.dumps(entry, sort_keys=True).encode()])


def chain_of(hashes: dict[str, Any]) -> list[str]:
    """The chain's value for every epoch, the start first."""
    return [entry["chain"] for entry in hashes["epochs"]]


def write_hashes(folder: Path, hashes: dict[str, Any]) -> None:
    """hashes.json."""
    Hashes.model_validate(hashes).write(folder / HASHES)

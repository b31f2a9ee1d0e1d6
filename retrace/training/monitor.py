"""What a running training shows: bars or lines, a live status file for `retrace watch`, and TensorBoard."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrace.documents.status import Status
from retrace.files import LOGS
from retrace.progress import bars, on_terminal, say
from retrace.training.lines import Lines

PERIOD = 1.0  # seconds between two writes of the status file
ROWS = 5  # epochs shown by `retrace watch`


def status_path(study: str, phase: str) -> Path:
    """logs/<study>/<phase>/status.json"""
    return LOGS / study / phase / "status.json"


class Monitor:
    """Follows one training; a context manager. Only the first process of several writes and prints (`active`).

    On a terminal there are bars, which leave one line behind; in a pipe there is a line for every epoch.

    It writes status.json (`retrace.documents.status`).
    """

    def __init__(self, study: str, phase: str, active: bool = True):
        self._path, self._active = status_path(study, phase), active
        self._status: dict[str, Any] = {
            "study": study,
            "phase": phase,
            "state": "running",
            "error": None,
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "started": _now(),
        }
        self._board: Any = None
        self._lines = Lines(phase)
        self._written = self._clock = 0.0
        self._done = self._first = 0  # batches in all, and those of an earlier run

    def __enter__(self) -> "Monitor":
        self._bars = bars() if self._active and on_terminal() else None
        self._progress = self._bars.__enter__() if self._bars else None
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._bars:
            self._bars.__exit__(kind, error, trace)
        if self._board:
            self._board.close()
            if error is None:
                say("\n".join(self._lines.outcome()))
        text = None if error is None else (str(error).splitlines() or [type(error).__name__])[0]
        self._write(state="finished" if error is None else "failed", error=text, eta_seconds=0, force=True)

    def begin(self, epochs: int, steps: int, history: list[dict[str, Any]], monitor: str | None) -> None:
        """epochs: planned. steps: batches per epoch. history: rows of the epochs already done by an interrupted run."""
        done = len(history)
        self._epochs, self._steps, self._rows = epochs, steps, list(history)
        self._done = self._first = done * steps
        self._clock = time.monotonic()
        self._lines.begin(epochs, steps, done, monitor)
        if not self._active:
            return
        if not self._bars or done:
            say(self._lines.start())
        board = self._path.parent / "tensorboard"
        if done == 0:
            shutil.rmtree(board, ignore_errors=True)
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(board), purge_step=self._done + 1 if done else None)
        if self._progress:
            self._epoch_bar = self._progress.add_task(self._status["phase"], total=epochs, completed=done, info="")
            self._step_bar = self._progress.add_task(f"epoch {done + 1}", total=steps, info="")
        self._write(epoch=done + 1, epochs=epochs, step=0, steps=steps, monitor=monitor, force=True)

    def advance(self) -> None:
        """One more batch was handed to the device."""
        self._done += 1
        if self._progress:
            self._progress.advance(self._step_bar)

    def step(self, step: int, values: dict[str, float], rates: dict[str, float]) -> None:
        """The numbers of batch `step` (from 1, over all epochs): losses and gradient norm by name, learning rates."""
        if not self._active:
            return
        for name, value in values.items():
            self._board.add_scalar("train/grad_norm" if name == "grad_norm" else f"train/{name}", value, step)
        for name, value in rates.items():
            self._board.add_scalar(f"learning_rate/{name}", value, step)
        if self._progress:
            self._progress.update(self._step_bar, info=f"loss {values['loss']:.4f}")
        elif line := self._lines.step(step, values["loss"]):
            say(line)
        left = self._epochs * self._steps - self._done
        pace = (time.monotonic() - self._clock) / max(1, self._done - self._first)
        within = (step - 1) % self._steps + 1
        self._write(
            epoch=(step - 1) // self._steps + 1,
            step=within,
            loss=values["loss"],
            rates=rates,
            eta_seconds=round(left * pace),
        )

    def epoch(self, row: dict[str, Any], best_epoch: int, best_value: float | None) -> None:
        """An epoch is complete: its history row, and the best epoch so far."""
        if not self._active:
            return
        for name, value in row.items():
            if value is not None and not name.startswith(("epoch", "grad_norm", "skipped_steps", "train_", "lr")):
                self._board.add_scalar(f"val/{name}", value, self._done)
        self._board.flush()
        self._rows.append(row)
        line = self._lines.epoch(row, best_epoch, best_value)
        if not self._progress:
            say(line)
        else:
            info = f"best {best_value:.4f} (epoch {best_epoch})" if best_value is not None else ""
            self._progress.update(self._epoch_bar, completed=row["epoch"], info=info)
            upcoming = min(row["epoch"] + 1, self._epochs)
            self._progress.reset(self._step_bar, description=f"epoch {upcoming}", info="")
        self._write(
            epoch=row["epoch"], best_epoch=best_epoch, best_value=best_value, rows=self._rows[-ROWS:], force=True
        )

    def _write(self, force: bool = False, **values: Any) -> None:
        self._status.update(values)
        if self._active and (force or time.monotonic() - self._written >= PERIOD):
            finite = {name: value for name, value in self._status.items() if value == value}  # NaN is not JSON
            Status(**finite, updated=_now()).write(self._path)
            self._written = time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

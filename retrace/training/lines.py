"""What a training says in a pipe, a line an epoch, and the one line that it leaves behind everywhere."""

import time
from typing import Any

from retrace.progress import WIDTH, clock

SILENCE = 300.0  # seconds without a line, within a long epoch


class Lines:
    """Makes the lines of one training and keeps its time; prints nothing itself. `begin` comes first.

    An epoch is `baseline  epoch 3/14  loss 0.4312  mIoU 0.6121  best 0.6121 (3)  12.3 s  left 2:15`: the mean training
    loss, the monitored metric, its best value so far with the epoch, the time that the epoch took with its validation,
    and the time that is left if all planned epochs are run.
    """

    def __init__(self, phase: str):
        self._phase = phase

    def begin(self, epochs: int, steps: int, done: int, monitor: str | None) -> None:
        """epochs: planned. steps: batches per epoch. done: epochs of an interrupted run."""
        self._epochs, self._steps, self._done, self._metric = epochs, steps, done, monitor
        self._first, self._best = done, ""
        self._began = self._epoch_began = self._spoke = time.monotonic()
        self._layout = self._choose_layout()

    def start(self) -> str:
        """What is about to be trained."""
        if self._done:
            return f"{self._phase}: goes on after epoch {self._done} of {self._epochs}, where it was interrupted"
        best = f", the best by {self._metric}" if self._metric else ""
        return f"{self._phase}: {_count(self._epochs, 'epoch')} of {_count(self._steps, 'batch', 'es')}{best}"

    def step(self, step: int, loss: float) -> str | None:
        """A line about batch `step` (from 1, over all epochs) where an epoch takes long, else None."""
        now = time.monotonic()
        if now - self._spoke < SILENCE:
            return None
        self._spoke = now
        epoch, batch = (step - 1) // self._steps + 1, (step - 1) % self._steps + 1
        left = (now - self._began) / (step - self._first * self._steps) * (self._epochs * self._steps - step)
        return self._join(epoch, f"batch {batch}/{self._steps}", f"loss {loss:#.4g}", f"left {clock(left)}")

    def epoch(self, row: dict[str, Any], best_epoch: int, best_value: float | None) -> str:
        """The line of a complete epoch: its history row and the best epoch so far."""
        now = time.monotonic()
        took, self._epoch_began = now - self._epoch_began, now
        self._spoke, self._done = now, row["epoch"]
        left = (now - self._began) / (self._done - self._first) * (self._epochs - self._done)
        scores: list[str] = []
        if self._metric is None:
            self._best = f", loss {row['train_loss']:#.4g}"
        if self._metric and self._metric in row:
            scores.append(_score(self._metric, row[self._metric]))
        if self._metric and best_value is not None:
            scores.append(f"{_score('best', best_value)} ({best_epoch})")
            self._best = f", {_score(f'best {self._metric}', best_value)} at epoch {best_epoch}"
        return self._line(row["epoch"], row["train_loss"], scores, took, left)

    def outcome(self) -> list[str]:
        """How the training ended; epochs and time are those of this run."""
        ran = f"epochs {self._first + 1} to {self._done}" if self._first else _count(self._done, "epoch")
        if self._done == self._first:
            return [f"{self._phase}: no epoch was left to run"]
        shown = [f"{self._phase}: {ran} in {clock(time.monotonic() - self._began)}{self._best}"]
        if self._done < self._epochs:
            shown.insert(0, f"{self._phase}: stopped early after {self._done} of {self._epochs} epochs")
        return shown

    def _choose_layout(self) -> tuple[str, str]:
        """(phase, word before the epoch), so that the widest line fits; without the phase, only `start` names it."""
        for layout in ((self._phase, "epoch "), (self._phase, "")):
            self._layout = layout
            scores = [_score(self._metric, 0.5), f"{_score('best', 0.5)} ({self._epochs})"] if self._metric else []
            if len(self._line(self._epochs, 0.5, scores, 10.0, 600.0)) <= WIDTH:
                return layout
        return "", ""

    def _line(self, epoch: int, loss: float, scores: list[str], took: float, left: float) -> str:
        lasted = f"{took:.1f} s" if took < 100 else clock(took)
        return self._join(epoch, f"loss {loss:#.4g}", *scores, lasted, f"left {clock(left)}")

    def _join(self, epoch: int, *parts: str) -> str:
        phase, word = self._layout
        planned = str(self._epochs)
        words = [*([phase] if phase else []), f"{word}{epoch:>{len(planned)}}/{planned}", *parts]
        line = "  ".join(words)
        return line if len(line) <= WIDTH else " ".join(words)


def _score(name: str, value: float | None) -> str:
    return f"{name} undefined" if value is None else f"{name} {value:.4f}"


def _count(number: int, noun: str, ending: str = "s") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{ending}"

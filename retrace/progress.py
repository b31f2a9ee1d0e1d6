"""Progress on stderr: bars on a terminal, and in a pipe now and then a line.

A stage writes to a pipe in every container, in CI and under nohup or Slurm. There a line has no color, no carriage
return and nothing but ASCII of its own, and it is flushed at once.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

WIDTH = 80  # columns of a line in a pipe
SHORT = 10.0  # seconds: what is over sooner prints nothing in a pipe
PARTS = 10  # lines of one task in a pipe, after its first


def on_terminal() -> bool:
    """Whether stderr is a terminal (bars go there, so that stdout stays clean)."""
    return sys.stderr.isatty()


def say(line: str) -> None:
    """One line on stderr, at once. A reader that has gone away (`dvc repro 2>&1 | head`) does not end the work."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`2:05` or `1:02:05`"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def bars() -> Iterator[Any]:
    """A Rich progress display: `with bars() as p: task = p.add_task("epoch", total=10); p.advance(task)`.

    In a pipe a task that takes longer than `SHORT` prints a line then, and another at every tenth of its total.
    """
    if not on_terminal():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


@dataclass
class _Task:
    description: str
    total: float | None
    completed: float
    info: str
    first: float  # completed when the task was added
    started: float
    told: float = -1.0  # the part of the total, or without a total the seconds, that the last line was about


class Lines:
    """What `bars` gives in a pipe: the methods of Rich's display that are used here."""

    def __init__(self) -> None:
        self._tasks: list[_Task] = []

    def add_task(self, description: str, total: float | None = None, completed: float = 0, info: str = "") -> int:
        """As in Rich."""
        self._tasks.append(_Task(description, total, completed, info, completed, time.monotonic()))
        return len(self._tasks) - 1

    def advance(self, task_id: int, advance: float = 1) -> None:
        """As in Rich."""
        self.update(task_id, advance=advance)

    def update(
        self, task_id: int, *, advance: float = 0, completed: float | None = None, info: str | None = None
    ) -> None:
        """As in Rich."""
        task = self._tasks[task_id]
        task.completed = (task.completed if completed is None else completed) + advance
        task.info = task.info if info is None else info
        seconds = time.monotonic() - task.started
        if seconds < SHORT:
            return
        if task.total:
            part = int(PARTS * task.completed / task.total) / PARTS
            if part > task.told:
                task.told = part
                say(_line(task, seconds))
        elif seconds >= 2 * task.told:  # no end in sight: ever more seldom
            task.told = seconds
            say(_line(task, seconds))


def _line(task: _Task, seconds: float) -> str:
    """`evaluate val: 40 % (128/320), 0:12, left 0:18`"""
    if not task.total:
        return f"{task.description}: {task.completed:.0f} {task.info}".rstrip() + f", {clock(seconds)}"
    share = 100 * task.completed / task.total
    line = f"{task.description}: {share:.0f} % ({task.completed:.0f}/{task.total:.0f}), {clock(seconds)}"
    done, rest = task.completed - task.first, task.total - task.completed
    if rest > 0 and done > 0:
        line += f", left {clock(seconds / done * rest)}"
    longer = f"{line}, {task.info}"
    return longer if task.info and len(longer) <= WIDTH else line


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar, or with the lines of `bars` in a pipe."""
    with bars() as progress:
        size = total if total is not None else len(items) if isinstance(items, Sized) else None
        task = progress.add_task(description, total=size, info="")
        for item in items:
            yield item
            progress.advance(task)

"""Progress bars on a terminal, silence in a pipe."""

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def on_terminal() -> bool:
    """Whether stderr is a terminal (bars go there, so that stdout stays clean)."""
    return sys.stderr.isatty()


@contextmanager
def bars():
    """A Rich progress display: `with bars() as p: task = p.add_task("epoch", total=10); p.advance(task)`."""
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
    progress = Progress(*columns, console=Console(stderr=True), disable=not on_terminal(), transient=True)
    with progress:
        yield progress


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar."""
    with bars() as progress:
        size = total if total is not None else len(items) if isinstance(items, Sized) else None
        task = progress.add_task(description, total=size, info="")
        for item in items:
            yield item
            progress.advance(task)

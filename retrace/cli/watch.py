"""`retrace watch`: show the progress of a study's trainings from another terminal, read from logs/."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from retrace.cli.running import Stage, is_alive, journals, pipelines, running_stages
from retrace.documents.status import Status
from retrace.errors import UserError
from retrace.files import LOGS
from retrace.progress import clock

REFRESH = 1.0  # seconds
GRACE = 30.0  # seconds that the next stage may take to begin where DVC cannot be seen
COLUMNS = ("phase", "state", "epoch", "step", "loss", "learning rate", "best (epoch)", "left")
DROPPED = ("learning rate", "step", "loss", "state")  # in this order, where a terminal is too narrow for all
GAP = 2  # columns between two
FOLDED = 18  # columns that a phase's name may take before others are dropped


@dataclass(frozen=True)
class Work:
    """Trainings (running and finished), running stages, and running DVC processes."""

    trainings: list[Status]
    stages: list[Stage]
    pipelines: set[int]

    @property
    def goes_on(self) -> bool:
        """Whether a training, a stage or DVC is running."""
        running = any(status.state == "running" for status in self.trainings)
        return running or bool(self.stages) or bool(self.pipelines)

    @property
    def elsewhere(self) -> bool:
        """Whether another machine or a container is running a stage, whose DVC process is not visible here."""
        running = [status.host for status in self.trainings if status.state == "running"]
        return any(host != os.uname().nodename for host in [*running, *(stage.host for stage in self.stages)])


def statuses(study: str) -> list[Status]:
    """The status of every training of the study, the latest started last; a dead process is "stopped"."""
    found = []
    for path in sorted((LOGS / study).glob("*/status.json")):
        status = Status.read(path)
        if status.state == "running" and not is_alive(status, status.updated):
            status = status.model_copy(update={"state": "stopped"})
        found.append(status)
    return sorted(found, key=lambda status: status.started)


def watch(study: str, once: bool = False) -> None:
    """Show the study's trainings until the pipeline has ended, before the first training and between stages too.

    `once`, or in a pipe: print them and return. Raises `UserError` then if nothing of the study has been started here.
    """
    console = Console()
    if once or not console.is_terminal:
        work = _look(study, set())
        if not work.trainings and not work.goes_on:
            raise UserError(f"{LOGS / study}: no training of study {study!r} has been started here; run `dvc repro`")
        console.print(Group(*_view(study, work, console.width)))
        return
    with suppress(KeyboardInterrupt):  # the way to leave before the end
        _follow(study, console)


def _follow(study: str, console: Console) -> None:
    seen: set[int] = set()  # DVC gives up its locks for moments
    begun, until = False, 0.0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            work = _look(study, seen)
            seen |= work.pipelines
            begun = begun or work.goes_on or bool(work.trainings)
            live.update(Group(*_view(study, work, console.width, begun)), refresh=True)
            if work.elsewhere:
                until = time.monotonic() + GRACE
            if begun and not work.goes_on and time.monotonic() >= until:
                return
            time.sleep(REFRESH)


def _look(study: str, seen: set[int]) -> Work:
    """seen: processes of DVC that were at work before; they are until they end."""
    return Work(statuses(study), running_stages(study), pipelines() | {pid for pid in seen if _runs(pid)})


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _view(study: str, work: Work, width: int, begun: bool = True) -> list[Any]:
    """The parts of the view from top to bottom, `width` columns wide."""
    view: list[Any] = []
    if work.trainings:
        view.append(_grid([_row(status) for status in work.trainings], COLUMNS, width))
        latest = work.trainings[-1]
        if latest.rows:
            view += ["", f"{latest.phase}: last epochs", _epochs(latest, width)]
    sentences = [Text(sentence) for sentence in _sentences(study, work, begun)]  # no markup: errors may hold brackets
    return [*view, *([""] if view else []), *sentences]


def _sentences(study: str, work: Work, begun: bool) -> list[str]:
    """What is running or expected next, or how the pipeline ended."""
    if work.goes_on:
        training = {status.phase for status in work.trainings if status.state == "running"}
        others = [stage for stage in work.stages if (stage.phase or stage.name) not in training]
        found = [f"running: {_called(s.name, s.phase)}, {clock(s.seconds)}" for s in others]
        if not found and not training:
            found = ["waiting for the next stage"]
        return found if work.trainings else [*found, f"waiting for the first training of study {study!r}"]
    if not begun:
        return [f"waiting for study {study!r}: nothing runs here yet; start it with `dvc repro` (Ctrl-C ends this)"]
    return [*_failure(study), "the pipeline does not run"]


def _failure(study: str) -> list[str]:
    """The error of the latest stage, if it failed."""
    for entry in journals(study)[-1:]:
        name = _called(entry.stage, entry.phase)
        if entry.status == "FAILED":
            return [f"{name} failed: {entry.error}"]
        if entry.status == "RUNNING":
            return [f"{name} was ended before it could say why; `dvc repro` goes on from the last complete epoch"]
    return []


def _called(stage: str, phase: str | None) -> str:
    return f"{stage} {phase}" if phase else stage


def _row(status: Status) -> dict[str, str]:
    best = _number(status.best_value)
    return {
        "phase": status.phase,
        "state": status.state,
        "epoch": f"{status.epoch}/{_known(status.epochs)}",
        "step": f"{status.step}/{_known(status.steps)}",
        "loss": _number(status.loss),
        "learning rate": ", ".join(f"{rate:.3g}" for rate in status.rates.values()),
        "best (epoch)": f"{best} ({status.best_epoch})" if best else "",
        "left": _left(status),
    }


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _left(status: Status) -> str:
    seconds = status.eta_seconds
    return clock(seconds) if status.state == "running" and seconds is not None else ""


def _epochs(status: Status, width: int) -> Table:
    names = [name for name in status.rows[-1] if name in ("epoch", "train_loss", "val_loss", status.monitor)]
    rows = [{name: str(row[name]) if name == "epoch" else _number(row.get(name)) for name in names}
            for row in status.rows]  # fmt: skip
    return _grid(rows, names, width)


def _grid(rows: Sequence[dict[str, str]], names: Sequence[str], width: int) -> Table:
    """A table that cuts no number: whole columns go where `width` is too little, and a long phase is folded."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    if "phase" in widths:
        widths["phase"] = min(widths["phase"], FOLDED)
    for name in DROPPED:
        if sum(widths.values()) + GAP * (len(widths) - 1) > width:
            widths.pop(name, None)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name in widths:
        left = name in ("phase", "state")
        table.add_column(name, no_wrap=name != "phase", overflow="fold", justify="left" if left else "right")
    for row in rows:
        table.add_row(*(row[name] for name in widths))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

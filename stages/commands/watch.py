"""The live view of trainings, from another terminal: `retrace watch`. Reads logs/<study>/<phase>/status.json only."""

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from stages.errors import UserError
from stages.files import LOGS, read_json

REFRESH = 1.0  # seconds
SILENT = 600  # seconds without a sign of life (a validation of a large data set stays below)


def statuses(study: str) -> list[dict[str, Any]]:
    """The status of every training of the study, the latest started last; a dead process is "stopped"."""
    found = [read_json(path) for path in sorted((LOGS / study).glob("*/status.json"))]
    for status in found:
        if status["state"] == "running" and not _alive(status):
            status["state"] = "stopped"
    return sorted(found, key=lambda status: status["started"])


def watch(study: str, once: bool = False) -> None:
    """Show the study's trainings, refreshed until none is running; `once`: print them and return.

    Raises `UserError` when no training of the study has been started here.
    """
    from rich.console import Console, Group
    from rich.live import Live

    if not statuses(study):
        raise UserError(f"{LOGS / study}: no training of study {study!r} has been started here; run `dvc repro`")
    console = Console()
    if once or not console.is_terminal:
        console.print(Group(*_view(statuses(study))))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = statuses(study)
            live.update(Group(*_view(found)), refresh=True)
            if all(status["state"] != "running" for status in found):
                return
            time.sleep(REFRESH)


def _view(found: list[dict[str, Any]]) -> Iterable[Any]:
    from rich.table import Table

    table = Table("phase", "state", "epoch", "step", "loss", "learning rate", "best", "left")
    for status in found:
        rates = ", ".join(f"{rate:.3g}" for rate in (status.get("rates") or {}).values())
        best = _number(status.get("best_value"))
        if status.get("best_epoch"):
            best = f"{best} (epoch {status['best_epoch']})"
        table.add_row(
            status["phase"],
            status["state"],
            f"{status.get('epoch', 0)}/{status.get('epochs', '?')}",
            f"{status.get('step', 0)}/{status.get('steps', '?')}",
            _number(status.get("loss")),
            rates,
            best,
            _duration(status.get("eta_seconds")) if status["state"] == "running" else "",
        )
    yield table
    latest = found[-1]
    if latest.get("error"):
        yield f"{latest['phase']}: {latest['error']}"
    if latest.get("rows"):
        yield _epochs(latest)


def _epochs(status: dict[str, Any]) -> Any:
    from rich.table import Table

    shown = [name for name in status["rows"][-1] if name.startswith(("epoch", "train_loss", "val_loss"))]
    if status.get("monitor"):
        shown.append(status["monitor"])
    table = Table(*shown, title=f"{status['phase']}: last epochs")
    for row in status["rows"]:
        table.add_row(*(str(row[name]) if name == "epoch" else _number(row.get(name)) for name in shown))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _alive(status: dict[str, Any]) -> bool:
    silence = (datetime.now(UTC) - datetime.fromisoformat(status["updated"])).total_seconds()
    if silence > SILENT:
        return False
    if status.get("host") != os.uname().nodename:  # another machine (or container) writes into a shared folder
        return True
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

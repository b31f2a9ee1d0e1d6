"""What a training leaves besides weights: history.csv and train.json, the same for every engine."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.files import write_json, write_text


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One row per epoch, columns in the order in which they first appear; 8 significant digits, empty = undefined."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    write_text(path, stream.getvalue())


def write_train(
    path: Path,
    *,
    init: str,
    monitor: str | None,
    best_epoch: int,
    best_value: float | None,
    epochs_run: int,
    epochs_planned: int,
    stopped: str,
    first_loss: float | None,
    last_loss: float | None,
    parameters: int,
    trainable_parameters: int,
) -> None:
    """train.json. stopped: "completed" or "early"; losses: of the first batch and the mean of the last epoch."""
    write_json(path, {name: value for name, value in locals().items() if name != "path"})


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)

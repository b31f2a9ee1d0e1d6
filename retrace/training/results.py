"""What a training leaves besides weights: history.csv, hashes.json and train.json, the same for every engine."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrace.documents.training import Training
from retrace.environment import unpinned_mark
from retrace.files import write_text
from retrace.training.loop import Result
from retrace.training.record import chain_of, write_hashes


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One row per epoch, columns in the order in which they first appear; 8 significant digits, empty = undefined."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    write_text(path, stream.getvalue())


def write_results(
    folder: Path,
    result: Result,
    *,
    init: str,
    monitor: str,
    epochs_planned: int,
    parameters: int,
    trainable_parameters: int,
    processes: int = 1,
) -> None:
    """history.csv, hashes.json and train.json. first_loss is of the first batch, last_loss the mean of the last epoch.

    processes: how many trained together, which is no parameter but decides the last bits and more (docs/scaling.md).
    """
    write_history(folder / "history.csv", result.history)
    write_hashes(folder, result.hashes)
    training = Training(
        init=init,
        monitor=monitor,
        best_epoch=result.best_epoch,
        best_value=result.best_value,
        epochs_run=result.epochs_run,
        epochs_planned=epochs_planned,
        stopped=result.stopped,
        first_loss=result.first_loss,
        last_loss=result.last_loss,
        parameters=parameters,
        trainable_parameters=trainable_parameters,
        processes=processes,
        chain=chain_of(result.hashes),
        **unpinned_mark(),
    )
    training.write(folder / "train.json")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)

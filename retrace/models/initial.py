"""start.json, which says what the starting weights beside it are. Light on purpose: it needs no torch."""

from pathlib import Path

from retrace.documents.start import START, Start, StartFile
from retrace.environment import unpinned_mark
from retrace.files import whole_folder


def write_start(
    folder: Path,
    method: str,
    files: dict[str, StartFile] | None = None,
    *,
    encoder: str | None = None,
    first_loss: float | None = None,
    last_loss: float | None = None,
    images: int | None = None,
    epochs: int | None = None,
    processes: int | None = None,
) -> None:
    """Write start.json. files: by key of `pretrain.weights`, or "all". The rest are facts of a training."""
    decreased = last_loss < first_loss if first_loss is not None and last_loss is not None else None
    start = Start(
        method=method,
        encoder=encoder,
        first_loss=first_loss,
        last_loss=last_loss,
        decreased=decreased,
        images=images,
        epochs=epochs,
        processes=processes,
        files=files or {},
        **unpinned_mark(),
    )
    start.write(folder / START)


def start_folder(study: str, name: str) -> Path:
    """models/<study>/pretrain or models/<study>/none."""
    return Path("models", study, name)


def write_none(study: str) -> None:
    """models/<study>/none, from which a phase with `init: none` starts."""
    with whole_folder(start_folder(study, "none")) as folder:
        write_start(folder, "none")

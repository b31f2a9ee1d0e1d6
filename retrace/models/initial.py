"""start.json, which says what the starting weights beside it are. Light on purpose: it needs no torch."""

from pathlib import Path
from typing import Any

from retrace.environment import unpinned_mark
from retrace.files import whole_folder, write_json

START = "start.json"
TRAINED = ("encoder", "first_loss", "last_loss", "decreased", "images", "epochs", "processes")


def write_start(folder: Path, method: str, files: dict[str, dict[str, str]] | None = None, **trained: Any) -> None:
    """Write start.json. files: key of `pretrain.weights` (or "all") -> file name and sha256.

    trained: the `TRAINED` facts of a self-supervised training, null otherwise; its losses are the means over the first
    and the last epoch.
    """
    facts = dict.fromkeys(TRAINED) | trained
    write_json(folder / START, {"method": method, **facts, "files": files or {}, **unpinned_mark()})


def start_folder(study: str, name: str) -> Path:
    """models/<study>/pretrain or models/<study>/none."""
    return Path("models", study, name)


def write_none(study: str) -> None:
    """models/<study>/none, from which a phase with `init: none` starts."""
    with whole_folder(start_folder(study, "none")) as folder:
        write_start(folder, "none")

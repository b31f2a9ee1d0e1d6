"""The lists of `data/<study>/splits`: one image id per line, plus what changed and why."""

from pathlib import Path

from retrace.errors import UserError
from retrace.files import write_text
from retrace.text_files import read_utf8

# val_as_given: the validation list before rebalancing, so that a model can be scored on both
LISTS = ("train", "val", "test", "unlabeled", "train_as_given", "val_as_given", "test_as_given")


def write_list(folder: Path, name: str, ids: list[str]) -> None:
    """Write `<name>.txt`, sorted."""
    write_text(folder / f"{name}.txt", "".join(f"{image_id}\n" for image_id in sorted(ids)))


def read_list(folder: Path, name: str) -> list[str]:
    """The ids of one list, in file order."""
    path = folder / f"{name}.txt"
    try:
        return read_utf8(path).split()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro rebalance` first") from None

"""Name the first image for which two versions of an out differ."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from retrace.documents.manifest import read_records
from retrace.errors import UserError

MANIFEST = "manifest.jsonl"
PER_IMAGE = ("confusion", "boundary")  # .npy, a row per image
LISTS = ("train", "val", "test", "unlabeled")


def first_difference(out: str, recorded: Path, found: Path) -> str | None:
    """The first image that differs and what of it; None where the files of both sides do not tell.

    Args:
        out: its path in the project: data/<study>/raw, data/<study>/splits or metrics/<study>/<training>.
        recorded, found: the two folders; each may lack files.
    """
    parts = Path(out).parts
    if parts[0] == "data" and parts[-1] == "raw":
        differences = _of_manifests(recorded / MANIFEST, found / MANIFEST)
    elif parts[0] == "data" and parts[-1] == "splits":
        differences = _of_lists(recorded, found)
    elif parts[0] == "metrics":
        differences = _of_scores(recorded, found)
    else:
        return None
    try:
        return next(differences, None)
    except UserError:  # a damaged manifest
        return None


def _of_manifests(recorded: Path, found: Path) -> Iterator[str]:
    if not (recorded.is_file() and found.is_file()):
        return
    old, new = ({row.id: asdict(row) for row in read_records(path)} for path in (recorded, found))
    for image in sorted({*old, *new}):
        if image not in new:
            yield f"{image}: missing"
        elif image not in old:
            yield f"{image}: not in the record"
        elif old[image] != new[image]:
            yield f"{image}: {', '.join(key for key in new[image] if old[image][key] != new[image][key])}"


def _of_lists(recorded: Path, found: Path) -> Iterator[str]:
    old, new = _splits(recorded), _splits(found)
    for image in sorted({*old, *new}) if old and new else ():
        if old.get(image) != new.get(image):
            yield f"{image}: {old.get(image, 'in no list')}, rerun {new.get(image, 'in no list')}"


def _splits(folder: Path) -> dict[str, str]:
    files = [folder / f"{split}.txt" for split in LISTS]
    return {image: path.stem for path in files if path.is_file() for image in _lines(path)}


def _of_scores(recorded: Path, found: Path) -> Iterator[str]:
    """Of the images in the order in which they were scored."""
    for path in sorted(recorded.glob("images_*.txt")):
        split = path.stem.removeprefix("images_")
        if not (found / path.name).is_file():
            continue
        ids, others = _lines(path), _lines(found / path.name)
        if ids != others:
            pairs = zip(ids, others, strict=False)
            place = next((row for row, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))
            yield f"{[*ids, 'none'][place]} of {split}, rerun {[*others, 'none'][place]}"
            continue
        rows = [row for name in PER_IMAGE for row in _rows(recorded, found, f"{name}_{split}.npy")]
        predictions = f"predictions_{split}.jsonl"
        if (recorded / predictions).is_file() and (found / predictions).is_file():
            one, other = _lines(recorded / predictions), _lines(found / predictions)
            rows += [row for row in range(min(len(one), len(other))) if one[row] != other[row]]
        if rows:
            yield f"{ids[min(rows)]} of {split}"


def _rows(recorded: Path, found: Path, name: str) -> list[int]:
    """The rows that differ of an array with one row per image."""
    if not ((recorded / name).is_file() and (found / name).is_file()):
        return []
    one, other = np.load(recorded / name), np.load(found / name)
    if one.shape != other.shape:
        return [0]
    return [row for row in range(len(one)) if not np.array_equal(one[row], other[row])]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()

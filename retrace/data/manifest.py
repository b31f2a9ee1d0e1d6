"""The canonical layout of `data/<study>/raw`: image bytes as they came, index masks, and one manifest row per image.

The manifest names every file with its sha256, and `dataset.loading` refuses other bytes. So a stage that depends on
manifest.jsonl depends on all that it names, and DVC need not look at every image for every stage.

raw/manifest.jsonl   one row per image, sorted by id
raw/dataset.json     task, classes, sources with their counts, problems found: only the report reads it
raw/images/<id>.<ext>  bytes verbatim      raw/masks/<id>.png  8-bit class index, 255 = not scored
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retrace.files import read_jsonl, write_json, write_jsonl

IGNORE = 255  # mask value of pixels that are neither trained on nor scored


@dataclass(frozen=True)
class Box:
    """One object: class index and (x, y, width, height) in pixels of the original image, top-left origin."""

    label: int
    xywh: tuple[float, float, float, float]
    crowd: bool = False  # a region of many objects: ignored in training, neither hit nor miss in scoring


@dataclass(frozen=True)
class Record:
    """One image of the data set."""

    id: str  # unique, [A-Za-z0-9._-] only
    path: str  # below raw/
    mask: str | None  # below raw/; None for detection and unlabelled images
    sha256: str  # of the image bytes
    phash: str  # 64-bit perceptual hash, 16 hex digits
    width: int
    height: int
    group: str  # images of one sequence or source share it
    split: str | None  # as given: train | val | test | unlabeled
    source: str  # where it came from: path below the root
    counts: dict[str, int] = field(default_factory=dict)  # class -> pixels (segmentation) or objects (detection)
    boxes: tuple[Box, ...] = ()
    mask_sha256: str | None = None  # of the mask file's bytes; None where there is no mask


@dataclass(frozen=True)
class Manifest:
    """A read data set."""

    folder: Path
    records: dict[str, Record]  # by id, sorted

    def image(self, image_id: str) -> Path:
        """Path of an image file."""
        return self.folder / self.records[image_id].path

    def mask(self, image_id: str) -> Path:
        """Path of an index mask; only for labelled segmentation images."""
        mask = self.records[image_id].mask
        assert mask is not None, f"{image_id} has no mask"
        return self.folder / mask


def write_manifest(folder: Path, header: dict[str, Any], records: Iterable[Record]) -> None:
    """Write manifest.jsonl (sorted by id) and dataset.json into `folder`."""
    write_jsonl(folder / "manifest.jsonl", (asdict(record) for record in sorted(records, key=lambda r: r.id)))
    write_json(folder / "dataset.json", header)


def read_manifest(folder: Path) -> Manifest:
    """Read what `write_manifest` wrote; a missing one is a `UserError`."""
    records = {}
    for row in read_jsonl(folder / "manifest.jsonl"):
        boxes = tuple(Box(b["label"], tuple(b["xywh"]), b["crowd"]) for b in row.pop("boxes"))
        records[row["id"]] = Record(**row, boxes=boxes)
    return Manifest(folder, records)

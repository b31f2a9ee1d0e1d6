"""The canonical layout of `data/<study>/raw`: image bytes as they came, index masks, and one manifest row per image.

The manifest names every file with its sha256, and `dataset.loading` refuses other bytes. So a stage that depends on
manifest.jsonl depends on all that it names, and DVC need not look at every image for every stage.

raw/manifest.jsonl   one row per image, sorted by id
raw/dataset.json     task, classes, sources with their counts, problems found: only the report reads it
raw/images/<id>.<ext>  bytes verbatim      raw/masks/<id>.png  8-bit class index, 255 = not scored
"""

from dataclasses import dataclass
from pathlib import Path

from retrace.documents.manifest import Record, read_records

IGNORE = 255  # mask value of pixels that are neither trained on nor scored


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


def read_manifest(folder: Path) -> Manifest:
    """Read raw/manifest.jsonl; raises `UserError` where it is missing or damaged."""
    return Manifest(folder, {record.id: record for record in read_records(folder / "manifest.jsonl")})

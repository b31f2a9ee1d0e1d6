"""data/<study>/raw/manifest.jsonl: one row per image, sorted by id."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from retrace.documents.base import damaged
from retrace.errors import UserError
from retrace.files import write_jsonl
from retrace.programs import how_to_get

AGAIN = "`dvc repro collect`"


@dataclass(frozen=True)
class Box:
    """One object: its class index, and (x, y, width, height) in pixels of the original image."""

    label: int
    xywh: tuple[float, float, float, float]
    crowd: bool = (
        False  # a region of many objects: ignored in training, neither hit nor miss in scoring
    )


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
    counts: dict[str, int] = field(
        default_factory=dict
    )  # class -> pixels (segmentation) or objects (detection)
    boxes: tuple[Box, ...] = ()
    mask_sha256: str | None = None  # of the mask file's bytes; None where there is no mask


def read_records(path: Path) -> Iterator[Record]:
    """The rows of manifest.jsonl, one at a time.

    Raises:
        UserError: the file is missing, or a row is damaged.
    """
    adapter = TypeAdapter(Record)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {how_to_get(str(path), 'dvc repro')}")
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield adapter.validate_json(line, strict=True)
            except ValidationError as error:
                raise damaged(error, f"{path}, line {number}", AGAIN) from None


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write manifest.jsonl, sorted by id."""
    write_jsonl(path, (asdict(record) for record in sorted(records, key=lambda record: record.id)))

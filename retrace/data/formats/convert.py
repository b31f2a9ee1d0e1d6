"""From listed items to the canonical layout: ids, verbatim images, index masks, manifest rows, on a few processes."""

import hashlib
import multiprocessing
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from retrace.data.formats import Item
from retrace.data.formats.damage import reason_of
from retrace.data.formats.rawmask import class_pixels, encode_mask, read_raw_mask, to_classes
from retrace.data.hashing import BadImage, inspect, read_bytes
from retrace.data.shapes import draw
from retrace.documents.manifest import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 120  # characters of an id: file systems stop at 255 bytes with suffixes and temporary names
WORTH_A_POOL = 64  # images: below this, starting processes takes longer than it saves


@dataclass(frozen=True)
class Job:
    """One image to convert, complete: jobs are sent to other processes."""

    item: Item
    id: str
    group: str
    split: str
    folder: Path  # the raw/ folder being filled
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """The row of an image, and what must be said of it: pairs of a kind for the problems table and a sentence."""

    record: Record
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Refused:
    """Why an image did not make it."""

    kind: str
    path: str
    detail: str


def ids(names: Sequence[str]) -> list[str]:
    """One id per path: [A-Za-z0-9._-], unique also where case does not count, independent of the order of `names`.

    Folders are joined by `-`, the suffix goes, accents go, other characters become `_`. Where two paths end up alike,
    or nothing readable is left, 8 hex digits of the path's sha256 are appended.
    """
    plain = [_plain(name) for name in names]
    taken = Counter(image_id.lower() for image_id in plain)
    return [
        f"{image_id[:LONGEST]}-{_digest(name)}".lstrip("-")
        if taken[image_id.lower()] > 1 or len(image_id) > LONGEST or not image_id.strip("_-.")
        else image_id
        for image_id, name in zip(plain, names, strict=True)
    ]


def _plain(name: str) -> str:
    path = PurePosixPath(name)
    text = "-".join(path.with_suffix("").parts if path.suffix else path.parts)
    text = unicodedata.normalize("NFKD", text)
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".-")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def convert(job: Job) -> Converted | Refused:
    """Check, hash and write one image (and its mask) into the canonical layout; an unusable one is `Refused`."""
    item, shown, read = job.item, job.item.name, job.item.path
    try:
        content = read_bytes(item.path)
        found = inspect(content)
        if item.size is not None and item.size != (found.width, found.height):
            detail = f"the image is {found.width} x {found.height}, its annotation says {item.size[0]} x {item.size[1]}"
            raise BadImage("size_mismatch", detail)
        mask, mask_sha256, counts = None, None, _objects(item, job.classes)
        lost: list[str] = []
        if item.mask is not None:
            shown, read = _mask_shown(item.mask, item), item.mask
        if item.mask is not None or item.drawing is not None:
            indices, lost = _mask(item, (found.width, found.height))
            classes, pixels = encode_mask(indices), class_pixels(indices)
            counts = {name: pixels[index] for index, name in enumerate(job.classes) if pixels[index]}
            mask, mask_sha256 = f"masks/{job.id}.png", hashlib.sha256(classes).hexdigest()
    except BadImage as bad:
        return Refused(bad.kind, shown, bad.detail + reason_of(read))
    path = f"images/{job.id}{item.path.suffix.lower()}"
    (job.folder / path).write_bytes(content)
    if mask is not None:
        (job.folder / mask).write_bytes(classes)
    record = Record(
        id=job.id, path=path, mask=mask, sha256=found.sha256, phash=found.phash, width=found.width, height=found.height,
        group=job.group, split=job.split, source=item.name, counts=counts, boxes=item.boxes,
        mask_sha256=mask_sha256,
    )  # fmt: skip
    return Converted(record, tuple(("shape_without_pixel", text) for text in lost))


def _mask_shown(mask: Path, item: Item) -> str:
    """The mask's own path below the root, and whose mask it is."""
    depth = len(PurePosixPath(item.name).parts)
    root = Path(*item.path.parts[:-depth])
    path = mask.relative_to(root).as_posix() if mask.is_relative_to(root) else mask.name
    return f"{path.encode('utf-8', 'backslashreplace').decode()} (mask of {item.name})"


def _objects(item: Item, classes: tuple[str, ...]) -> dict[str, int]:
    """Objects by class, crowd regions not counted; empty for segmentation and unlabelled images."""
    counts = Counter(box.label for box in item.boxes if not box.crowd)
    return {name: counts[index] for index, name in enumerate(classes) if counts[index]}


def _mask(item: Item, size: tuple[int, int]) -> tuple["NDArray[np.uint8]", list[str]]:
    """Class indices [H, W] of the mask file, or drawn from the shapes; and the shapes that are not to be seen in it."""
    if item.drawing is not None:
        return draw(item.drawing, size)
    assert item.mask is not None and item.codes is not None
    raw, colored = read_raw_mask(item.mask, item.codes.colors)
    if raw.shape != (size[1], size[0]):
        detail = f"the image is {size[0]} x {size[1]}, its mask {raw.shape[1]} x {raw.shape[0]}"
        raise BadImage("size_mismatch", detail)
    return to_classes(raw, colored, item.codes), []


def convert_all(
    jobs: Sequence[Job], processes: int, one: Callable[[Job], Converted | Refused] = convert
) -> Iterator[Converted | Refused]:
    """`one` of every job, in their order whatever the number of processes."""
    if processes < 2 or len(jobs) < WORTH_A_POOL:
        yield from map(one, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(one, jobs, chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


def by_group(items: Sequence[Item], groups: Sequence[str]) -> dict[str, int]:
    """Number of images in each group."""
    sizes: dict[str, int] = defaultdict(int)
    for _, group in zip(items, groups, strict=True):
        sizes[group] += 1
    return dict(sizes)

"""What is in a data set and what is wrong with its split: pure functions over manifest records, no files touched."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from retrace.data.duplicates import Hashes, Indices, hash_array, near_duplicate_sets, nearest
from retrace.documents.manifest import Record
from retrace.documents.splits import ClassCount, Leak, SplitCount

SPLITS = ("train", "val", "test")
# sqrt(width * height) in pixels, doubling; 32 and 96 are COCO's limits between small, medium and large
BOX_EDGES = (0, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, math.inf)


def instances(record: Record, classes: Sequence[str], min_pixels: int | None) -> list[int]:
    """Instances per class: objects (detection, `min_pixels` None), or 1 where a class covers at least `min_pixels`."""
    amounts = [record.counts.get(name, 0) for name in classes]
    return amounts if min_pixels is None else [int(amount >= min_pixels) for amount in amounts]


def split_counts(
    records: Mapping[str, Record], splits: Mapping[str, Collection[str]], classes: Sequence[str], min_pixels: int | None
) -> dict[str, SplitCount]:
    """Images and, per class, instances, images it appears in and pixels (null for detection) of each split.

    splits: split -> ids.
    """
    table = {}
    for split, ids in splits.items():
        chosen = [records[image_id] for image_id in ids]
        per_image = np.array([instances(record, classes, min_pixels) for record in chosen], dtype=np.int64)
        per_image = per_image.reshape(len(chosen), len(classes))
        rows = {}
        for index, name in enumerate(classes):
            amounts = [record.counts.get(name, 0) for record in chosen]
            rows[name] = ClassCount(
                instances=int(per_image[:, index].sum()),
                images=sum(amount > 0 for amount in amounts),
                pixels=None if min_pixels is None else sum(amounts),
            )
        table[split] = SplitCount(images=len(chosen), classes=rows)
    return table


def images_per_split(records: Iterable[Record]) -> dict[str, int]:
    """Images of train, val, test and unlabeled as given."""
    counts = dict.fromkeys((*SPLITS, "unlabeled"), 0)
    for record in records:
        counts[record.split or "unlabeled"] += 1
    return counts


def unreliable_classes(counts: Mapping[str, SplitCount], min_reliable: int) -> dict[str, list[str]]:
    """Classes with fewer than `min_reliable` instances, by split of a table of `split_counts`."""
    return {
        split: [name for name, row in table.classes.items() if row.instances < min_reliable]
        for split, table in counts.items()
    }


def box_sizes(records: Iterable[Record], classes: Sequence[str]) -> dict[str, list[int]]:
    """Histogram of sqrt(box area) in pixels of the original image: class -> counts between neighbouring `BOX_EDGES`.

    An edge belongs to the bin above it. Crowd regions are left out: they are no objects.
    """
    sizes: dict[int, list[float]] = defaultdict(list)
    for record in records:
        for box in record.boxes:
            if not box.crowd:
                sizes[box.label].append(math.sqrt(box.xywh[2] * box.xywh[3]))
    bins = np.array(BOX_EDGES[1:-1])
    return {
        name: np.bincount(np.searchsorted(bins, sizes[label], side="right"), minlength=len(bins) + 1).tolist()
        for label, name in enumerate(classes)
    }


def find_leaks(records: Sequence[Record], distance: int) -> list[Leak]:
    """Images of different given splits that should share one, sorted by kind and id.

    exact: all byte-identical copies of one image. near: a whole set of near-duplicates (chains of perceptual hashes at
    most `distance` bits apart) that are not just copies; the row's distance is that of its closest images of different
    splits. group: one sequence or source (distance null), also where
    `rebalance.keep_groups` leaves it as it is. An unlabeled image is compared directly,
    not by chains, and with val and test only: it may well resemble train images.
    """
    labeled = [r for r in records if r.split in SPLITS]
    hashes = hash_array([r.phash for r in labeled])
    leaks = [_leak("exact", rows, 0) for rows in _sets(labeled, [r.sha256 for r in labeled])]
    for rows in _sets(labeled, near_duplicate_sets(hashes, distance).tolist()):
        if len({r.sha256 for r in rows}) > 1:
            leaks.append(_leak("near", rows, _closest_across(rows)))
    leaks += [_leak("group", rows, None) for rows in _sets(labeled, [r.group or r.id for r in labeled])]
    held_out = [r for r in labeled if r.split != "train"]
    by_twin = defaultdict(list)
    for image_id, (twin, bits) in unlabeled_twins(records, held_out, distance).items():
        by_twin[twin].append((image_id, bits))
    known = {r.id: r for r in records}
    for twin, found in by_twin.items():
        rows = [known[twin], *(known[image_id] for image_id, _ in found)]
        kind = "exact" if len({r.sha256 for r in rows}) == 1 else "near"
        leaks.append(_leak(kind, rows, min(bits for _, bits in found)))
    return sorted(leaks, key=lambda leak: (("exact", "near", "group").index(leak.kind), leak.ids))


def unlabeled_twins(records: Iterable[Record], held_out: Sequence[Record], distance: int) -> dict[str, tuple[str, int]]:
    """Unlabeled images that show what a held-out one shows: id -> (nearest held-out id, bits between their hashes)."""
    unlabeled = sorted((r for r in records if r.split == "unlabeled"), key=lambda r: r.id)
    held_out = sorted(held_out, key=lambda r: r.id)
    index, bits = nearest(hash_array([r.phash for r in unlabeled]), hash_array([r.phash for r in held_out]), distance)
    return {record.id: (held_out[i].id, int(b)) for record, i, b in zip(unlabeled, index, bits, strict=True) if i >= 0}


def _sets(records: Sequence[Record], labels: Sequence[Any]) -> list[list[Record]]:
    """The sets of one label that lie in more than one split."""
    sets = defaultdict(list)
    for record, label in zip(records, labels, strict=True):
        sets[label].append(record)
    return [rows for rows in sets.values() if len({r.split for r in rows}) > 1]


def _closest_across(records: Sequence[Record]) -> int:
    """Fewest bits between two images of different splits that are not copies of one another."""
    hashes: Hashes = hash_array([r.phash for r in records])
    splits, copies = (_codes([getattr(r, name) for r in records]) for name in ("split", "sha256"))
    best = 64
    for row, own in enumerate(hashes):
        other = (splits != splits[row]) & (copies != copies[row])
        if other.any():
            best = min(best, int(np.bitwise_count(hashes[other] ^ own).min()))
    return best


def _codes(texts: Sequence[str]) -> Indices:
    return np.unique(texts, return_inverse=True)[1]


def _leak(kind: str, records: Sequence[Record], distance: int | None) -> Leak:
    rows = sorted(records, key=lambda r: r.id)
    found = {r.split for r in rows}
    splits = [split for split in (*SPLITS, "unlabeled") if split in found]
    return Leak(kind=kind, ids=[r.id for r in rows], splits=splits, distance=distance)

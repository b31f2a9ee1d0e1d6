"""Which images of a data set are independent of each other, for intervals and verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from retrace.data.duplicates import by_first_appearance, hash_array, join, near_duplicate_sets
from retrace.documents.manifest import Record

Rule = Literal["auto", "image", "group"]


def unit_names(records: Mapping[str, Record], image_ids: Sequence[str], rule: Rule, distance: int) -> list[str]:
    """The unit of every listed image, named by the smallest image id in it.

    Args:
        records: every image of the data set by its id. Two listed images can be of one unit because
            both resemble a third that is not listed.
        rule: `image`: every image is a unit. `group`: the images of one group (sequence, source) are one.
            `auto`: so are near-duplicates, chains of perceptual hashes at most `distance` bits apart.
    """
    if rule == "image":
        return list(image_ids)
    known = sorted(records)
    labels = _groups(records[image_id] for image_id in known)
    if rule == "auto":
        hashes = hash_array([records[image_id].phash for image_id in known])
        labels = join(labels, near_duplicate_sets(hashes, distance))
    first: dict[int, str] = {}
    unit = {}
    for image_id, label in zip(known, labels.tolist(), strict=True):
        unit[image_id] = first.setdefault(label, image_id)
    return [unit[image_id] for image_id in image_ids]


def unit_kind(records: Mapping[str, Record], names: Sequence[str], image_ids: Sequence[str]) -> str:
    """What the units of the listed images are called: `image`, `sequence` (images of one group) or `group`.

    names: their `unit_names`. They are called groups where near-duplicates join images of several groups.
    """
    if len(set(names)) == len(image_ids):
        return "image"
    held = {(name, records[image_id].group) for name, image_id in zip(names, image_ids, strict=True)}
    return "sequence" if len(held) == len(set(names)) else "group"


def _groups(records: Iterable[Record]) -> np.ndarray:
    keys = [f"group {record.group}" if record.group else f"image {record.id}" for record in records]
    return by_first_appearance(np.unique(keys, return_inverse=True)[1])

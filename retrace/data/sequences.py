"""Images that probably belong together although no group says so: frames of one video, copies, mirrored pictures.

Pure functions over manifest records. What is found here is a suspicion: nothing is moved because of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrace.data.duplicates import Hashes, Indices, hash_array, near_duplicate_sets, nearest
from retrace.data.names import numbered, photographs
from retrace.documents.manifest import Record

SHORTEST = 8  # numbered images from which the pictures can tell whether they are a sequence
CLEARER = 4.0  # bits that neighbors in number must be closer than images far apart, in the median
SURE = 2.0  # standard errors of that difference, in the mean
MIRROR_BITS = 6  # between a hash and the mirrored hash of another; true mirror images have 0 to 4, rarely more
SIMILAR_BITS = 8  # unrelated pictures of the demos and of real sets have 10 and more to their nearest
SIDE = 8  # a perceptual hash has 8 x 8 bits: vertical frequencies 0 to 7 by horizontal ones


@dataclass(frozen=True)
class Suspicion:
    """Images that look as if they came from one scene."""

    kind: str  # clip | copies | mirrored | similar
    name: str  # of the clip or the photograph
    ids: tuple[str, ...]  # sorted


def suspicions(records: Sequence[Record]) -> list[Suspicion]:
    """Clips, copies of one photograph, pairs of mirror images and pictures that resemble each other closely.

    Sorted by kind and name. Similar pictures that belong to one of the others are not named again.
    """
    found = [Suspicion("clip", name, ids) for name, ids in clips(records).items()]
    found += [Suspicion("copies", name, ids) for name, ids in _copies(records).items()]
    found += [Suspicion("mirrored", ids[0], ids) for ids in mirrored(records)]
    known = [set(one.ids) for one in found]
    for ids in similar(records):
        if not any(set(ids) <= others for others in known):
            found.append(Suspicion("similar", ids[0], ids))
    return sorted(found, key=lambda one: (one.kind, one.name))


def clips(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Images whose names are one stem with running numbers and that are frames of one video: name -> sorted ids.

    The name says so (`_MOV-3`, `frame_0014`), or the pictures do: images with neighboring numbers resemble each other
    clearly more than images with numbers far apart, as frames do and photographs of a camera do not.
    """
    by_key: dict[str, list[tuple[int, Record]]] = defaultdict(list)
    video: set[str] = set()
    for record in records:
        found = numbered(record.source)
        if found is not None:
            by_key[found.key].append((found.number, record))
            video |= {found.key} if found.video else set()
    clips_found = {}
    for key, rows in sorted(by_key.items()):
        if len(rows) > 1 and (key in video or _continuous(rows)):
            clips_found[key] = tuple(sorted(record.id for _, record in rows))
    return clips_found


def mirrored(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Pairs of images that are mirrored or rotated copies (by 90, 180 or 270 degrees) of each other; sorted."""
    ordered = sorted(records, key=lambda record: record.id)
    hashes = hash_array([record.phash for record in ordered])
    pairs = set()
    for turned in _symmetries(hashes):
        index, _ = nearest(turned, hashes, MIRROR_BITS)
        for row, other in enumerate(index.tolist()):
            if other >= 0 and other != row:  # a symmetric picture is its own mirror image
                first, second = sorted((row, other))
                pairs.add((ordered[first].id, ordered[second].id))
    return sorted(pairs)


def similar(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Sets of images linked by steps of at most `SIMILAR_BITS` between their perceptual hashes; sorted ids."""
    ordered = sorted(records, key=lambda record: record.id)
    sets: dict[int, list[str]] = defaultdict(list)
    labels = near_duplicate_sets(hash_array([record.phash for record in ordered]), SIMILAR_BITS)
    for record, label in zip(ordered, labels.tolist(), strict=True):
        sets[label].append(record.id)
    return [tuple(ids) for ids in sets.values() if len(ids) > 1]


def _symmetries(hashes: Hashes) -> list[Hashes]:
    """The hashes of the seven mirrored and rotated copies of each picture: uint64 [n] each.

    Mirroring a picture negates its cosine coefficients of odd frequency along that axis, and exchanging rows and
    columns transposes them. A bit says whether a coefficient is above the median, which is close to zero (Zauner 2010,
    "Implementation and benchmarking of perceptual image hash functions"), so the bits turn with the signs, except for
    a few coefficients near the median.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8)).reshape(-1, SIDE, SIDE)
    odd = (np.arange(SIDE) % 2).astype(np.uint8)
    found = []
    for turned in (bits, bits.transpose(0, 2, 1)):
        for vertical in (0, 1):
            for horizontal in (0, 1):
                if turned is not bits or vertical or horizontal:
                    changed = turned ^ (vertical * odd)[:, None] ^ (horizontal * odd)[None, :]
                    packed = np.packbits(changed.reshape(-1, SIDE * SIDE), axis=1)
                    found.append(packed.view(">u8").ravel().astype(np.uint64))
    return found


def cut(found: Sequence[Suspicion], split: Mapping[str, str]) -> list[Suspicion]:
    """The suspicions whose images lie in more than one split. split: image id -> split."""
    return [one for one in found if len({split[image_id] for image_id in one.ids if image_id in split}) > 1]


def _copies(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    by_name: dict[str, list[str]] = defaultdict(list)
    for record, name in zip(records, photographs([record.source for record in records]), strict=True):
        by_name[name].append(record.id)
    return {name: tuple(sorted(ids)) for name, ids in sorted(by_name.items()) if len(ids) > 1}


def _continuous(rows: Sequence[tuple[int, Record]]) -> bool:
    """Whether pictures with neighboring numbers resemble each other clearly more than others of this name."""
    ordered = sorted(rows, key=lambda row: (row[0], row[1].id))
    numbers = [number for number, _ in ordered]
    if len(set(numbers)) < SHORTEST:
        return False
    hashes = hash_array([record.phash for _, record in ordered])
    near = _bits(hashes, 1)
    far = np.concatenate([_bits(hashes, step) for step in (len(hashes) // 2, len(hashes) // 3)])
    error = float(np.sqrt(near.var() / len(near) + far.var() / len(far)))
    return bool(np.median(far) - np.median(near) >= CLEARER and far.mean() - near.mean() >= SURE * error)


def _bits(hashes: Hashes, step: int) -> Indices:
    return np.bitwise_count(hashes[step:] ^ hashes[:-step]).astype(np.int64)

"""Recognizers of masks as picture files: any two folders whose names pair up, and the BDD100K layout."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from retrace.data.formats.bdd100k import TRAIN_IDS
from retrace.data.formats.rawmask import read_raw_mask
from retrace.data.hashing import BadImage, image_size
from retrace.data.inspection.classes import IGNORED, Raw, class_names
from retrace.data.inspection.folder import Candidate, Folder, Value
from retrace.data.inspection.pairing import RATHER_NOT, Pairing, pairings
from retrace.data.inspection.splits import by_folder, by_list, by_ratio

LOOKED_AT = 5  # files of a folder that tell whether it holds masks
MOST_VALUES = 64  # more of them in a data set are numbers of objects, not classes
LAST = 255  # by convention, where there are several classes: not scored


def bdd100k(folder: Folder) -> list[Candidate]:
    """The official layout, unpacked."""
    parts = ("bdd100k/images/10k/train", "bdd100k/labels/sem_seg/masks/train")
    if not all(part in folder.images for part in parts):
        return []
    count = sum(len(names) for key, names in folder.images.items() if key.startswith("bdd100k/labels/sem_seg/masks"))
    return [Candidate("BDD100K", "segmentation", TRAIN_IDS, {"kind": "bdd100k"}, count)]


def masks(folder: Folder) -> list[Candidate]:
    """Two folders (or one) whose files pair up by name, the second one masks."""
    pairs = [pairing for pairing in pairings(folder) if _are_masks(folder, pairing)]
    pairs.sort(key=lambda one: (any(word in one.masks.lower() for word in RATHER_NOT), -len(one.pairs)))
    if not pairs:
        return []
    first = pairs[0]
    alike = [one for one in pairs if one.rule == first.rule]
    rule, (images, holder) = by_folder([(one.images, one.masks) for one in alike])
    chosen = [first]
    if rule is None:
        images, holder = first.images, first.masks
        rule = by_list(folder, {PurePosixPath(image).stem for image, _ in first.pairs}) or by_ratio()
    else:
        folders = rule["folders"]
        assert isinstance(folders, dict)
        places = {(images.replace("{split}", str(f)), holder.replace("{split}", str(f))) for f in folders.values()}
        chosen = [one for one in alike if (one.images, one.masks) in places]
    values = _values(folder, [mask for one in chosen for _, mask in one.pairs])
    if not 1 < len(values) <= MOST_VALUES:
        return []
    names, stated = class_names(folder, [one.masks for one in chosen])
    table, ignore = _meaning(values, names)
    if len(table) < 2:
        return []
    source: dict[str, Value] = {"kind": "masks", "images": images, "masks": holder}
    if first.suffix:
        source["image_pattern"] = f"*{first.suffix}"
    source |= {"mask_name": first.rule, "values": table, "ignore": ignore, "split": rule}
    used = {one.images for one in chosen} | {one.masks for one in pairs}
    count = sum(len(one.pairs) for one in chosen)
    notes = _notes(stated, values, ignore, [one.masks for one in pairs if one.images == first.images])
    return [Candidate("masks", "segmentation", tuple(table), source, count, notes, _unlabeled(folder, used))]


def _notes(stated: str, values: Counter[Raw], ignore: list[Value], folders: list[str]) -> tuple[str, ...]:
    notes = [f"the class names are those of {stated}"]
    if not stated:
        notes = ["no file states the names of the classes: give them names, here and in classes"]
        notes.append("a value that should be neither trained on nor scored belongs into ignore")
    if ignore:
        notes.append(f"not scored: {', '.join(map(str, ignore))}")
    others = sorted(set(folders[1:]) - set(folders[:1]))
    if others:
        notes.append(f"other masks of the same images: {', '.join(others)}")
    return tuple(notes)


def _meaning(values: Counter[Raw], names: dict[Raw, str]) -> tuple[dict[str, Value], list[Value]]:
    """`values` and `ignore` of a source: every raw value that occurs, and classes that a file names."""
    table: dict[str, list[Value]] = {}
    ignore: list[Value] = []
    fits = set(names) & set(values)
    known = names if fits else {}
    raws = sorted(set(values) | set(known), key=lambda raw: (isinstance(raw, str), raw))
    for raw in raws:
        name = known.get(raw, "")
        if name.lower() in IGNORED or (not name and raw == LAST and len(values) > 2):
            ignore.append(raw)
        else:
            shown = f"{raw:03d}" if isinstance(raw, int) else raw.removeprefix("#")
            table.setdefault(name or f"class_{shown}", []).append(raw)
    return {name: list(raw) for name, raw in table.items()}, ignore


def _are_masks(folder: Folder, pairing: Pairing) -> bool:
    """Whether the second pictures are index or few-colored pictures of the size of the first."""
    for image, mask in pairing.pairs[:: max(1, len(pairing.pairs) // LOOKED_AT)][:LOOKED_AT]:
        try:
            raw, _ = read_raw_mask(folder.root / mask)
            width, height = image_size(folder.root / image)
        except BadImage:
            continue
        if raw.shape != (height, width) or len(np.unique(raw)) > MOST_VALUES:
            return False
        if _few_values(folder, image):  # a mask that another mask pairs up with
            return False
    return True


def _few_values(folder: Folder, image: str) -> bool:
    try:
        return len(np.unique(read_raw_mask(folder.root / image)[0])) <= MOST_VALUES
    except BadImage:
        return False


def _values(folder: Folder, paths: Iterable[str]) -> Counter[Raw]:
    """Pixels of every raw value; a color is written `#rrggbb`."""
    numbers: Counter[Raw] = Counter()
    colors: Counter[Raw] = Counter()
    for path in paths:
        try:
            raw, colored = read_raw_mask(folder.root / path)
        except BadImage:  # `collect` names it
            continue
        found, counts = np.unique(raw, return_counts=True)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            if colored:
                colors[f"#{value:06x}"] += count
            else:
                numbers[value] += count
    return colors if sum(colors.values()) > sum(numbers.values()) else numbers


def _unlabeled(folder: Folder, used: set[str]) -> tuple[str, ...]:
    """Folders of photographs without labels."""
    found = []
    for holder, names in sorted(folder.images.items()):
        inside = any(holder == one or one == "." or holder.startswith(f"{one}/") for one in used)
        photographs = all(PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg") for name in names)
        if not inside and photographs and holder != ".":
            found.append(holder)
    return tuple(found)

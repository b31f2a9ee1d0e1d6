"""How a folder states its split: by folders, by list files, or not at all."""

import re
from pathlib import PurePosixPath

from retrace.config.data import Split
from retrace.data.inspection.folder import Folder, Value
from retrace.data.names import SPLIT_WORDS

SHARE = 0.2  # of the images, for val and for test, where the folder states no split
LIST_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Pair = tuple[str, str]  # folders of images and of their labels


def by_folder(pairs: list[Pair]) -> tuple[dict[str, Value] | None, Pair]:
    """The rule `by: folder` that explains most pairs, and their common template with `{split}`.

    Only with train and one more split; otherwise None.
    """
    templates: dict[Pair, dict[Split, str]] = {}
    for images, labels in pairs:
        for word in sorted(SPLIT_WORDS):
            template = (_replaced(images, word), _replaced(labels, word))
            if "{split}" in template[0] and "{split}" in template[1]:
                templates.setdefault(template, {}).setdefault(SPLIT_WORDS[word], word)
    fits = {key: folders for key, folders in templates.items() if "train" in folders and len(folders) > 1}
    if not fits:
        return None, ("", "")
    best = max(sorted(fits), key=lambda key: len(fits[key]))
    folders: dict[str, Value] = {split: fits[best][split] for split in sorted(fits[best], key=_rank)}
    return {"by": "folder", "folders": folders}, best


def by_list(folder: Folder, stems: set[str]) -> dict[str, Value] | None:
    """The rule `by: list` if text files named after splits list these images; otherwise None."""
    places: dict[str, dict[str, Value]] = {}
    for path in folder.ending(".txt"):
        split = LIST_NAMES.get(path.stem.lower())
        if split is None:
            continue
        lines = [line.split()[0] for line in folder.text(path).splitlines() if line.strip()]
        known = [line for line in lines if PurePosixPath(line.replace("\\", "/").split(",")[0]).stem in stems]
        if known and len(known) * 2 > len(lines):
            places.setdefault(path.parent.as_posix(), {})[split] = path.as_posix()
    fits = [lists for lists in places.values() if "train" in lists]
    return {"by": "list", "lists": max(fits, key=len)} if fits else None


def by_ratio() -> dict[str, Value]:
    """The rule `by: ratio`."""
    return {"by": "ratio", "val": SHARE, "test": SHARE}


def _replaced(path: str, word: str) -> str:
    """The first part of a path that starts with the word has `{split}` in its place."""
    return re.sub(rf"(^|/|[^a-z]){word}", r"\g<1>{split}", path, count=1)


def _rank(split: Split) -> int:
    return ("train", "val", "test").index(split)

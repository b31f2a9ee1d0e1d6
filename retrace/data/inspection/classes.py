"""Names of mask values, from the files that tools and data sets put beside their masks."""

import csv
from collections.abc import Iterable
from pathlib import PurePosixPath

from retrace.data.inspection.folder import Folder

IGNORED = ("ignore", "__ignore__", "unlabeled", "unlabelled", "unlabel", "void", "ignored", "don't care", "unknown")
LISTS = ("labels.txt", "class_names.txt", "classes.txt")
COLOR_LISTS = ("label_colors.txt", "color_map.txt", "labelmap.txt", "colormap.txt")
Raw = int | str


def class_names(folder: Folder, masks: Iterable[str]) -> tuple[dict[Raw, str], str]:
    """Names by raw value (a color as `#rrggbb`), and the file that states them; empty where no file does.

    masks: the folders of the masks. A file that lies nearer to them wins.
    """
    near = {up.as_posix() for mask in masks for up in (PurePosixPath(mask), *PurePosixPath(mask).parents)}
    found: list[tuple[int, str, dict[Raw, str]]] = []
    for path in folder.ending(".csv", ".txt"):
        if path.parent.as_posix() not in near:
            continue
        text = folder.text(path)
        names = _table(text) if path.suffix.lower() == ".csv" else _list(path.name.lower(), text)
        if names:
            found.append((len(path.parts), path.as_posix(), names))
    if not found:
        return {}, ""
    _, stated, names = max(found, key=lambda one: one[0])
    return names, stated


def _table(text: str) -> dict[Raw, str]:
    """Columns of a value and a name (Roboflow's `_classes.csv`), or of a name and red, green, blue."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    heads = [cell.lower() for cell in rows[0]] if rows else []
    rows = [row for row in rows[1:] if len(row) == len(heads)]
    name = next((heads.index(word) for word in ("class", "name", "class name", "label") if word in heads), None)
    value = next((heads.index(word) for word in ("pixel value", "value", "id", "index") if word in heads), None)
    if name is None:
        return {}
    if value is not None:
        return {int(row[value]): row[name] for row in rows if row[value].isdecimal()}
    if not {"r", "g", "b"} <= set(heads):
        return {}
    return _colors([(row[name], [row[heads.index(letter)] for letter in "rgb"]) for row in rows])


def _list(name: str, text: str) -> dict[Raw, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if name in LISTS:  # LabelMe: __ignore__ is -1, so _background_ is 0
        first = -1 if lines and lines[0] == "__ignore__" else 0
        return {number: line for number, line in enumerate(lines, start=first) if number >= 0}
    if name not in COLOR_LISTS:
        return {}
    rows = []
    for line in lines:  # "r g b name", or CVAT's "name:r,g,b::"
        label, _, rest = line.partition(":")
        words = line.split()
        if rest:
            rows.append((label.strip(), rest.split(":")[0].split(",")))
        elif len(words) > 3:
            rows.append((" ".join(words[3:]), words[:3]))
    return _colors(rows)


def _colors(rows: list[tuple[str, list[str]]]) -> dict[Raw, str]:
    found: dict[Raw, str] = {}
    for name, parts in rows:
        if name and len(parts) == 3 and all(part.strip().isdecimal() and int(part) < 256 for part in parts):
            found["#{:02x}{:02x}{:02x}".format(*map(int, parts))] = name
    return found

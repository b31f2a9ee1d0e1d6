"""Recognizers of COCO, YOLO and Pascal VOC."""

import json
from collections import Counter
from pathlib import PurePosixPath
from xml.etree import ElementTree

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from retrace.config.data import TASKS, Split
from retrace.data.formats.yolo import SPLIT_KEYS
from retrace.data.inspection.folder import Candidate, Folder, Task, Value
from retrace.data.inspection.splits import by_folder, by_list, by_ratio
from retrace.data.names import split_word

SAMPLE = 200  # annotation files that are looked at where there is one for each image


def coco(folder: Folder) -> list[Candidate]:
    """JSON files with images, annotations and categories; one for each split, or one for all images."""
    files: dict[Split, tuple[PurePosixPath, str, int]] = {}
    names: Counter[str] = Counter()
    drawn = bare = 0
    for path in folder.ending(".json"):
        content = json_of(folder, path)
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
            continue
        rows = [row for row in rows_of(content["images"]) if isinstance(row.get("file_name"), str)]
        split = split_word(path.as_posix()) or "train"
        holder, found = _image_folder(folder, path, split, [str(row["file_name"]) for row in rows])
        if holder is None or split in files:
            continue
        files[split] = (path, holder, found)
        known = {str(row.get("id")): str(row.get("name")) for row in rows_of(content["categories"])}
        for row in rows_of(content["annotations"]):
            names[known.get(str(row.get("category_id")), "")] += 1
            drawn += _outlined(row.get("segmentation"))
            bare += not row.get("segmentation")  # an object with a box alone
    classes = tuple(sorted(name for name in names if name))
    if not files or not classes:
        return []
    source: dict[str, Value] = {
        "kind": "coco",
        "annotations": {split: path.as_posix() for split, (path, _, _) in sorted(files.items())},
        "images": {split: holder for split, (_, holder, _) in sorted(files.items())},
    }
    images = sum(found for _, _, found in files.values())
    notes = ["categories without any annotation are left out of classes"]
    detection = Candidate("COCO JSON", "detection", classes, source, images, tuple(notes))
    if drawn and not bare and "segmentation" in TASKS["coco"]:
        return [as_masks("COCO JSON", classes, source, images), detection]
    return [detection]


def yolo(folder: Folder) -> list[Candidate]:
    """A YAML file with class names and the images of train."""
    found: list[Candidate] = []
    for path in folder.ending(".yaml", ".yml"):
        content = _yaml(folder, path)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not any(content.get(key) for keys in SPLIT_KEYS.values() for key in keys):
            continue
        classes = tuple(str(name) for _, name in sorted(names.items(), key=str))
        labels = [file for file in folder.ending(".txt") if "labels" in file.parts]
        rows = [line.split() for file in labels[:SAMPLE] for line in folder.text(file).splitlines() if line.strip()]
        polygons = sum(len(row) >= 7 and len(row) % 2 == 1 for row in rows)
        source: dict[str, Value] = {"kind": "yolo", "data_yaml": path.as_posix()}
        if polygons and "segmentation" in TASKS["yolo"]:
            found.append(as_masks("YOLO segmentation", classes, source, len(labels)))
        boxes = {**source, "polygons": "to_boxes"} if polygons else source
        notes = ("the labels are polygons; each is read as the box around it",) if polygons else ()
        found.append(Candidate("YOLO", "detection", classes, boxes, len(labels), notes))
    return found


def voc(folder: Folder) -> list[Candidate]:
    """Folders of XML files with <annotation> and <object>, one for each image."""
    by_parent: dict[str, list[str]] = {}
    for path in folder.ending(".xml"):
        by_parent.setdefault(path.parent.as_posix(), []).append(path.stem)
    pairs: list[tuple[str, str]] = []
    names: set[str] = set()
    images = 0
    for parent, stems in sorted(by_parent.items()):
        classes = _voc_classes(folder, parent, stems)
        holder = same_stems(folder, parent, stems)
        if classes is None or holder is None:
            continue
        names |= classes
        pairs.append((holder, parent))
        images += len(stems)
    if not pairs or not names:
        return []
    rule, kept = by_folder(pairs)
    if rule is None:
        kept = pairs[0]
        there = {PurePosixPath(name).stem for name in folder.images[kept[0]]}
        rule = by_list(folder, there) or by_ratio()
        images = len(by_parent[kept[1]])
    source: dict[str, Value] = {"kind": "voc", "images": kept[0], "annotations": kept[1], "split": rule}
    return [Candidate("Pascal VOC", "detection", tuple(sorted(names)), source, images)]


def as_masks(name: str, classes: tuple[str, ...], source: dict[str, Value], images: int) -> Candidate:
    """Polygons for segmentation: what none of them covers is one more class."""
    background = next((one for one in classes if one.strip("_").lower() == "background"), "background")
    rest = tuple(one for one in classes if one != background)
    task: Task = "segmentation"
    return Candidate(name, task, (background, *rest), {**source, "background": background}, images)


def _outlined(segmentation: object) -> bool:
    """Whether an outline says more than its box: RLE, or a polygon of more than four corners."""
    if isinstance(segmentation, dict):
        return True
    parts = segmentation if isinstance(segmentation, list) else []
    return any(isinstance(part, list) and len(part) > 8 for part in parts)


def _image_folder(folder: Folder, path: PurePosixPath, split: Split, names: list[str]) -> tuple[str | None, int]:
    """The folder below which most of a COCO file's images lie, and how many; of several that named after the split."""
    tails = [name.replace("\\", "/").removeprefix("./") for name in names[:SAMPLE]]
    best, most = None, (0, False)
    for holder in [path.parent.as_posix(), *sorted({up for key in folder.images for up in _and_above(key)})]:
        count = sum(f"{holder}/{tail}".removeprefix("./") in folder.image_paths for tail in tails)
        found = (count, count > 0 and split_word(holder) == split)
        if found > most:
            best, most = holder, found
    return best, most[0] * len(names) // max(len(tails), 1)


def _and_above(folder: str) -> list[str]:
    path = PurePosixPath(folder)
    return [path.as_posix(), *(up.as_posix() for up in path.parents)]


def _voc_classes(folder: Folder, parent: str, stems: list[str]) -> set[str] | None:
    """Names of the objects of VOC files; None if the files are something else."""
    names: set[str] = set()
    for stem in stems:
        text = folder.read(PurePosixPath(parent, f"{stem}.xml"))
        if b"<!DOCTYPE" in text:  # where entities come from; the reader refuses it by name
            continue
        try:
            tree = ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError, LookupError):
            continue
        if tree.tag != "annotation":
            return None
        names |= {(node.text or "").strip() for node in tree.findall("object/name")}
    return names - {""}


def same_stems(folder: Folder, parent: str, stems: list[str]) -> str | None:
    """The image folder that shares most stems with the annotation files of `parent`, the nearest if several do."""
    wanted = set(stems)

    def fit(holder: str) -> tuple[int, int]:
        shared = {PurePosixPath(name).stem for name in folder.images[holder]} & wanted
        near = len(set(PurePosixPath(holder).parts) & set(PurePosixPath(parent).parts))
        return len(shared), near

    best = max(sorted(folder.images), key=fit, default=None)
    return best if best is not None and fit(best)[0] * 2 > len(wanted) else None


def json_of(folder: Folder, path: PurePosixPath) -> object:
    try:
        return json.loads(folder.read(path))
    except (ValueError, RecursionError):
        return None


def _yaml(folder: Folder, path: PurePosixPath) -> dict[str, object]:
    try:
        content = YAML(typ="safe", pure=True).load(folder.text(path))
    except (YAMLError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def rows_of(value: object) -> list[dict[str, object]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []

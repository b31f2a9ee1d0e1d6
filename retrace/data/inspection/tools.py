"""Recognizers of label tools' own files: LabelMe, CVAT, VGG Image Annotator, Label Studio and Supervisely.

Each looks for the keys that its tool alone writes.
"""

import csv
import json
from pathlib import PurePosixPath
from xml.etree import ElementTree

from retrace.data.inspection.boxes import as_masks, json_of, rows_of, same_stems
from retrace.data.inspection.folder import Candidate, Folder, Value
from retrace.data.inspection.splits import by_folder, by_ratio

AREAS = ("polygon", "polygonlabels", "brushlabels", "mask", "bitmap", "polyline")


def labelme(folder: Folder) -> list[Candidate]:
    """One JSON file for each image, with `shapes` and `imagePath`."""
    by_parent: dict[str, list[PurePosixPath]] = {}
    for path in folder.ending(".json"):
        by_parent.setdefault(path.parent.as_posix(), []).append(path)
    found = []
    for parent, files in sorted(by_parent.items()):
        kinds, names, count = set(), set(), 0
        for path in files:
            content = json_of(folder, path)
            if not isinstance(content, dict) or "shapes" not in content or "imagePath" not in content:
                continue
            count += 1
            for shape in rows_of(content["shapes"]):
                kinds.add(str(shape.get("shape_type", "polygon")))
                names.add(str(shape.get("label")))
        holder = same_stems(folder, parent, [path.stem for path in files])
        if not count or not names or holder is None:
            continue
        source: dict[str, Value] = {"kind": "labelme", "annotations": parent, "images": holder, "split": by_ratio()}
        labels = [path.as_posix() for path in folder.ending(".txt") if path.name == "labels.txt"]
        near = [path for path in labels if parent.startswith(PurePosixPath(path).parent.as_posix().removeprefix("."))]
        ignored = sorted(name for name in names if name.startswith("__ignore"))
        if near:
            source["labels"] = max(near, key=len)
        if ignored:
            source["ignore"] = list(ignored)
        found += _both("LabelMe", names - set(ignored), source, count, bool(kinds - {"rectangle", "point", "line"}))
    rule, (images, labels_in) = by_folder(
        [(str(one.source["images"]), str(one.source["annotations"])) for one in found]
    )
    if rule is None:
        return found
    classes = {name for one in found for name in one.classes} - {"background", "_background_"}
    source = {"kind": "labelme", "annotations": labels_in, "images": images, "split": rule}
    whole = _both("LabelMe", classes, source, sum(one.images for one in found), found[0].task == "segmentation")
    return [*whole, *found]


def cvat(folder: Folder) -> list[Candidate]:
    """An XML file whose root is <annotations> with images or tracks."""
    for path in folder.ending(".xml"):
        text = folder.read(path)
        if b"<annotations" not in text[:2000] or b"<!DOCTYPE" in text:
            continue
        try:
            tree = ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError, LookupError):
            continue
        shapes = [node for node in tree.iter() if node.get("label") is not None]
        names = {str(node.get("label")) for node in shapes}
        if tree.tag != "annotations" or not names or not folder.images:
            continue
        areas = any(node.tag in AREAS for node in tree.iter())
        count = len(tree.findall("image")) or sum(map(len, folder.images.values()))
        source: dict[str, Value] = {
            "kind": "cvat",
            "annotations": path.as_posix(),
            "images": _holder(folder, [node.get("name") or "" for node in tree.findall("image")]),
            "split": by_ratio(),
        }
        return _both("CVAT XML", names, source, count, areas)
    return []


def via(folder: Folder) -> list[Candidate]:
    """A JSON file whose entries have `filename` and `regions`, or a CSV file with a row for each region."""
    for path in folder.ending(".json", ".csv"):
        rows = _via_table(folder.text(path)) if path.suffix.lower() == ".csv" else _via_entries(json_of(folder, path))
        regions = [region for row in rows for region in _regions(row["regions"])]
        keys = sorted({str(key) for region in regions for key in _map(region.get("region_attributes"))})
        names = {str(_map(region.get("region_attributes")).get(keys[0])) for region in regions} if keys else set()
        if not names or not folder.images:
            continue
        source: dict[str, Value] = {
            "kind": "via",
            "annotations": path.as_posix(),
            "images": _holder(folder, [str(row["filename"]) for row in rows]),
            "split": by_ratio(),
        }
        if len(keys) > 1:
            source["attribute"] = keys[0]
        areas = any(_map(region.get("shape_attributes")).get("name") != "rect" for region in regions)
        return _both("VGG Image Annotator", names - {"None", ""}, source, len(rows), areas)
    return []


def _via_entries(content: object) -> list[dict[str, object]]:
    entries = _map(_map(content).get("_via_img_metadata")) or _map(content)
    rows = [row for row in entries.values() if isinstance(row, dict)]
    return [row for row in rows if "filename" in row and "regions" in row]


def _via_table(text: str) -> list[dict[str, object]]:
    """The rows of a CSV file as the entries of a JSON file."""
    entries: dict[str, list[object]] = {}
    for row in csv.DictReader(text.splitlines()):
        name, shape, attributes = (row.get(key) for key in ("filename", "region_shape_attributes", "region_attributes"))
        if not name or not shape or not attributes:
            return []
        try:
            region = {"shape_attributes": json.loads(shape), "region_attributes": json.loads(attributes)}
        except (ValueError, RecursionError):
            return []
        entries.setdefault(name, []).append(region)
    return [{"filename": name, "regions": regions} for name, regions in entries.items()]


def label_studio(folder: Folder) -> list[Candidate]:
    """A JSON list of tasks with `annotations` and `data`."""
    for path in folder.ending(".json"):
        content = json_of(folder, path)
        rows = [row for row in rows_of(content) if "data" in row and ("annotations" in row or "completions" in row)]
        names, areas = set(), False
        for row in rows:
            for made in rows_of(row.get("annotations")):
                for result in rows_of(made.get("result")):
                    kind, value = str(result.get("type")), _map(result.get("value"))
                    labels = value.get(kind)
                    names |= {str(label) for label in labels} if isinstance(labels, list) else set()
                    areas = areas or kind in AREAS
        if not names or not folder.images:
            continue
        files = [str(value).rsplit("/", 1)[-1] for row in rows for value in list(_map(row["data"]).values())[:1]]
        source: dict[str, Value] = {
            "kind": "label_studio",
            "annotations": path.as_posix(),
            "images": _holder(folder, files),
            "split": by_ratio(),
        }
        return _both("Label Studio JSON", names, source, len(rows), areas)
    return []


def supervisely(folder: Folder) -> list[Candidate]:
    """meta.json with classes, and folders `ann` beside `img`."""
    for path in folder.ending(".json"):
        content = json_of(folder, path) if path.name == "meta.json" else None
        rows = rows_of(content.get("classes")) if isinstance(content, dict) else []
        names = {str(row.get("title")) for row in rows}
        pairs = [(key, f"{key[:-3]}ann") for key in sorted(folder.images) if key.endswith("/img")]
        if not names or not pairs:
            continue
        rule, kept = by_folder(pairs)
        images = sum(len(folder.images[key]) for key, _ in pairs) if rule else len(folder.images[pairs[0][0]])
        kept = kept if rule else pairs[0]
        source: dict[str, Value] = {
            "kind": "supervisely",
            "meta": path.as_posix(),
            "annotations": kept[1],
            "images": kept[0],
            "split": rule or by_ratio(),
        }
        areas = any(str(row.get("shape")) in AREAS for row in rows)
        return _both("Supervisely", names, source, images, areas)
    return []


def _both(name: str, names: set[str], source: dict[str, Value], images: int, areas: bool) -> list[Candidate]:
    """As segmentation first where the shapes have areas of their own, and as detection."""
    classes = tuple(sorted(names))
    boxes = tuple(one for one in classes if one.strip("_").lower() != "background")
    detection = Candidate(name, "detection", boxes, source, images)
    return [as_masks(name, classes, source, images), detection] if areas else [detection]


def _holder(folder: Folder, names: list[str]) -> str:
    """The folder below which the named images lie; the first with images if none does."""
    for holder in sorted({".", *folder.images, *(PurePosixPath(key).parent.as_posix() for key in folder.images)}):
        if any(f"{holder}/{name}".removeprefix("./") in folder.image_paths for name in names[:50]):
            return holder
    return min(folder.images)


def _regions(value: object) -> list[dict[str, object]]:
    return rows_of(list(value.values()) if isinstance(value, dict) else value)


def _map(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}

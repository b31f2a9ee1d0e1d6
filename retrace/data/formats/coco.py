"""Source `coco`: COCO JSON as Roboflow exports it or as COCO publishes it, one annotation file per split.

`bbox` is [x, y, width, height] in pixels, origin at the top left corner of the image. Roboflow's category 0 is an empty
supercategory: categories that no class asks for are left out, and said if they had objects.
"""

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from retrace.config.data import CocoSource, Split
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Labels, labels_of
from retrace.data.formats.boxes import RawBox, check, note_left_out, stored_size
from retrace.data.formats.coco_ids import alike
from retrace.data.formats.coco_shapes import shape_of
from retrace.data.formats.json_files import read_json_file
from retrace.data.formats.listing import AnyCase, below, shown, there, usable, walk
from retrace.data.formats.problems import Problems
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

LISTS = ("images", "annotations", "categories")


@dataclass
class _File:
    """One annotation file, its lists checked to be lists of objects."""

    split: Split
    shown: str  # its path below the root
    folder: Path  # of its images
    content: dict[str, list[dict[str, Any]]]
    names: dict[int | str, str] = field(default_factory=dict)  # category id -> name


@dataclass
class _Found:
    """Images of all files so far, and the objects passed over."""

    listed: dict[Path, str] = field(default_factory=dict)  # image file -> annotation file
    left_out: Counter[str] = field(default_factory=Counter)
    crowds: int = 0


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that an annotation file lists and that lies in its folder."""
    source = params.data.source
    assert isinstance(source, CocoSource)
    if source.annotations.keys() != source.images.keys():
        raise UserError("params.yaml: data.source: annotations and images must name the same splits")
    files = [file for split in sorted(source.annotations) if (file := _open(root, source, split, problems)) is not None]
    if not files:
        return []
    for file in files:
        file.names = _categories(file, problems)
    where = ", ".join(file.shown for file in files)
    labels = labels_of(params, (name for f in files for name in f.names.values()), where)
    items: list[Item] = []
    found = _Found()
    for file in files:
        items += _items(file, root, source, labels, found, problems)
        note_left_out(found.left_out, file.shown, problems)
        found.left_out.clear()
    labels.finish(problems)
    if found.crowds:
        problems.note("crowd_left_out", where, f"{found.crowds} crowd regions left out; data.source.crowd is drop")
    for folder in sorted({file.folder for file in files}):
        for path in walk(folder, root, problems):
            if path.suffix.lower() in IMAGE_SUFFIXES and path not in found.listed:
                detail = f"not listed in {where}; list it (without annotations if it shows nothing) or move it away"
                problems.add("image_without_label", shown(path, root), detail)
    return items


def _open(root: Path, source: CocoSource, split: Split, problems: Problems) -> _File | None:
    path = below(root, source.annotations[split], f"data.source.annotations.{split}")
    folder = below(root, source.images[split], f"data.source.images.{split}")
    where = shown(path, root)
    before = len(problems.rows)
    content = read_json_file(path, root, problems)
    if len(problems.rows) > before:
        return None
    for key in LISTS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            problems.stop("bad_json", where, f"not COCO: {key!r} must be a list of objects")
            return None
    assert isinstance(content, dict)
    return _File(split, where, folder, {key: content[key] for key in LISTS})


def _categories(file: _File, problems: Problems) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for number, row in enumerate(file.content["categories"]):
        category_id, name = row.get("id"), row.get("name")
        if not _is_id(category_id) or not isinstance(name, str):
            problems.stop(
                "missing_id", file.shown, f"categories[{number}]: needs an id (a whole number or text) and a name"
            )
        elif category_id in names:
            detail = (
                f"categories[{number}]: id {category_id!r} is also {names[category_id]!r}; every category needs its own"
            )
            problems.stop("repeated_id", file.shown, detail)
        else:
            names[category_id] = name
    return names


def _items(
    file: _File, root: Path, source: CocoSource, labels: Labels, found: _Found, problems: Problems
) -> list[Item]:
    """The images of one file with their boxes or shapes."""
    paths = _image_paths(file, root, found, problems)
    annotations, damaged = _by_image(file, paths, root, problems)
    items = []
    for image_id, (row, path) in paths.items():
        name = shown(path, root)
        size, stated = _size(row, path, name, file, problems)
        if size is None or image_id in damaged:
            continue
        if labels.params.task == "segmentation":
            item = _drawn(annotations.get(image_id, []), path, name, file, size, labels, problems)
            items += [] if item is None else [replace(item, size=stated)]
            continue
        before = len(problems.serious)
        raw = []
        for number, annotation in annotations.get(image_id, []):
            box = _raw_box(annotation, f"{file.shown} annotations[{number}]", name, file, labels.table, found, problems)
            if box is not None and box.crowd and source.crowd == "drop":
                found.crowds += 1
            elif box is not None:
                raw.append(box)
        boxes = check(raw, size, name, problems)
        if boxes is None or len(problems.serious) > before:
            continue
        if not boxes and source.empty_images == "drop":
            problems.note("empty_image", name, "no object of a class; left out (data.source.empty_images: drop)")
            continue
        items.append(Item(path, name, file.split, boxes=boxes, size=stated))
    return items


def _drawn(
    rows: list[tuple[int, dict[str, Any]]],
    path: Path,
    name: str,
    file: _File,
    size: tuple[int, int],
    labels: Labels,
    problems: Problems,
) -> Item | None:
    """An image with the drawing of its segmentations; None if one cannot be used, or if there is none to be kept."""
    shapes, before = [], len(problems.serious)
    for number, row in rows:
        where, category = f"{file.shown} annotations[{number}]", row.get("category_id")
        if not _is_id(category) or category not in file.names:
            problems.add("class_out_of_range", name, f"{where}: {_no_category(category, file)}")
            continue
        try:
            shapes.append(shape_of(row, file.names[category], where, size))
        except BadShape as bad:
            problems.add(bad.kind, name, f"{where} ({file.names[category]!r}): {bad.detail}")
    item = labels.item(path, name, file.split, size, shapes, problems)
    if item is None or len(problems.serious) > before:
        return None
    if not shapes and getattr(labels.source, "empty_images", "keep") == "drop":
        problems.note("empty_image", name, "no object; left out (data.source.empty_images: drop)")
        return None
    return item


def _image_paths(
    file: _File, root: Path, found: _Found, problems: Problems
) -> dict[int | str, tuple[dict[str, Any], Path]]:
    """Row and path of each image by id; rows without id, file or a name that stays in the folder are problems."""
    counts = Counter(row["id"] for row in file.content["images"] if _is_id(row.get("id")))
    paths: dict[int | str, tuple[dict[str, Any], Path]] = {}
    any_case = AnyCase(Path(folder, name) for folder, _, names in os.walk(file.folder) for name in names)
    for number, row in enumerate(file.content["images"]):
        image_id, file_name, where = row.get("id"), row.get("file_name"), f"{file.shown} images[{number}]"
        path = _inside(file.folder, file_name)
        if path is None:
            detail = f"file_name {file_name!r:.120} must be a path that stays in {shown(file.folder, root)}"
            problems.add("file_name_leaves_folder", file.shown, f"images[{number}]: {detail}")
            continue
        path = any_case.find(path)
        name = shown(path, root)
        first = found.listed.setdefault(path, where)
        if not there(path):
            problems.add("label_without_image", name, f"{where}: no such image file; add it or delete the entry")
        elif first != where:
            problems.add("listed_twice", name, f"{where}: already listed by {first}; keep one")
        elif not _is_id(image_id):
            problems.add("missing_id", name, f"{where}: id {image_id!r:.80}; must be a whole number or text")
        elif counts[image_id] > 1:
            problems.add(
                "repeated_id",
                name,
                f"{where}: id {image_id!r} belongs to {counts[image_id]} images; which boxes are whose?",
            )
        elif usable(path, root, problems):
            paths[image_id] = (row, path)
    return paths


def _by_image(
    file: _File, paths: dict[int | str, tuple[dict[str, Any], Path]], root: Path, problems: Problems
) -> tuple[dict[int | str, list[tuple[int, dict[str, Any]]]], set[int | str]]:
    """Annotations with their numbers by image id, and the ids of images with one that has no id of its own."""
    rows = file.content["annotations"]
    counts = Counter(row["id"] for row in rows if _is_id(row.get("id")))
    images = {row["id"]: str(row.get("file_name")) for row in file.content["images"] if _is_id(row.get("id"))}
    by_image: dict[int | str, list[tuple[int, dict[str, Any]]]] = {}
    damaged: set[int | str] = set()
    orphans = 0
    for number, row in enumerate(rows):
        annotation_id, image = row.get("id"), row.get("image_id")
        if not _is_id(image) or image not in images:
            meant = alike(image, images)
            said = "is no image of this file" if meant is None else meant.said
            problems.add("label_without_image", file.shown, f"annotations[{number}]: image_id {image!r:.80} {said}")
            damaged |= set() if meant is None else {meant.id}
            orphans += 1
            continue
        name = shown(paths[image][1], root) if image in paths else file.shown
        if not _is_id(annotation_id):
            problems.add(
                "missing_id",
                name,
                f"{file.shown} annotations[{number}]: id {annotation_id!r:.80}; must be a whole number or text",
            )
            damaged.add(image)
        elif counts[annotation_id] > 1:
            where = f"{file.shown} annotations[{number}]"
            detail = f"{where}: id {annotation_id!r} belongs to {counts[annotation_id]} annotations"
            problems.add("repeated_id", name, detail)
            damaged.add(image)
        by_image.setdefault(image, []).append((number, row))
    if rows and orphans == len(rows) and images:
        detail = (
            f"not one of its {orphans} annotations belongs to one of its {len(images)} images, see label_without_image"
        )
        problems.stop("no_annotation_fits", file.shown, detail)
    return by_image, damaged


def _raw_box(
    row: dict[str, Any],
    where: str,
    image: str,
    file: _File,
    table: dict[str, int],
    found: _Found,
    problems: Problems,
) -> RawBox | None:
    category, bbox, crowd = row.get("category_id"), row.get("bbox"), row.get("iscrowd", 0)
    if not _is_id(category) or category not in file.names:
        problems.add("class_out_of_range", image, f"{where}: {_no_category(category, file)}")
    elif file.names[category] not in table:
        found.left_out[file.names[category]] += 1
    elif not isinstance(bbox, list) or len(bbox) != 4 or not all(type(value) in (int, float) for value in bbox):
        problems.add("bad_box", image, f"{where}: bbox {bbox!r:.80} must be four numbers: x, y, width, height")
    elif type(crowd) not in (int, bool) or crowd not in (0, 1):
        problems.add("bad_box", image, f"{where}: iscrowd {crowd!r:.80} must be 0 or 1")
    else:
        x, y, w, h = (_float(value) for value in bbox)
        return RawBox(table[file.names[category]], (x, y, w, h), where, bool(crowd))
    return None


def _no_category(given: object, file: _File) -> str:
    """What is wrong with a category id that is none of the file's."""
    meant = alike(given, file.names)
    said = f"; the ids are {', '.join(map(repr, file.names))}" if meant is None else f" {meant.said}"
    return f"category_id {given!r:.80}{said}"


def _size(
    row: dict[str, Any], path: Path, name: str, file: _File, problems: Problems
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(width, height) to check boxes against, and the same if the annotations state it."""
    width, height = row.get("width"), row.get("height")
    if width is None and height is None:
        return stored_size(path, name, problems), None
    if type(width) is not int or type(height) is not int or width < 1 or height < 1:
        detail = f"{file.shown}: width {width!r:.40} and height {height!r:.40} must be whole numbers above 0"
        problems.add("bad_size", name, detail)
        return None, None
    return (width, height), (width, height)


def _inside(folder: Path, name: Any) -> Path | None:
    if (
        not isinstance(name, str)
        or not name.strip()
        or "\0" in name
        or name.startswith(("/", "\\"))
        or name[1:2] == ":"
    ):
        return None
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return None if ".." in parts or not parts else folder.joinpath(*parts)


def _is_id(value: Any) -> TypeGuard[int | str]:
    return type(value) in (int, str)


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON numbers have no bounds
        return float("inf")

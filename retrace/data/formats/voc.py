"""Source `voc`: Pascal VOC, one XML file per image.

`bndbox` holds xmin, ymin, xmax, ymax as pixel numbers that count from 1 and belong to the object: a box around a whole
image of W x H pixels is 1, 1, W, H. So x = xmin - 1, y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from retrace.config.data import SplitByFolder, SplitByList, VocSource
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.boxes import RawBox, check, class_table, note_left_out, read_annotations, stored_size
from retrace.data.formats.listing import below, read_lists, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.xml_files import RefuseDoctype
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class _Labels:
    """One parsed XML file."""

    size: tuple[int, int] | None
    objects: list[tuple[str, tuple[float, float, float, float], bool, str]]  # name, xywh, difficult, where


@dataclass
class _Found:
    left_out: Counter[str] = field(default_factory=Counter)
    difficult: int = 0


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that has its XML file; an image or an XML file alone is a problem."""
    source = params.data.source
    assert isinstance(source, VocSource)
    pairs = _pairs(root, source, problems)
    parsed = {name: _parse(xml, name, root, problems) for name, (_, _, xml) in pairs.items()}
    names = {entry[0] for labels in parsed.values() if labels is not None for entry in labels.objects}
    if not any(parsed.values()):
        return []
    table = class_table(source.classes, params.classes, names, f"the XML files of {source.annotations}")
    found, items = _Found(), []
    for name, (path, split, _) in pairs.items():
        labels = parsed[name]
        size = (labels.size or stored_size(path, name, problems)) if labels is not None else None
        if labels is None or size is None:
            continue
        boxes = check(list(_raw_boxes(labels, source, table, found)), size, name, problems)
        if boxes is None:
            continue
        if not boxes and source.empty_images == "drop":
            problems.note("empty_image", name, "no object of a class; left out (data.source.empty_images: drop)")
            continue
        items.append(Item(path, name, split, boxes=boxes, size=labels.size))
    note_left_out(found.left_out, source.annotations, problems)
    if found.difficult:
        detail = f"{found.difficult} difficult objects left out; data.source.difficult is drop"
        problems.note("difficult_left_out", source.annotations, detail)
    return items


def _pairs(root: Path, source: VocSource, problems: Problems) -> dict[str, tuple[Path, str | None, Path]]:
    """Image path, split and XML path by the image's name below the root."""
    rule = source.split
    if isinstance(rule, SplitByFolder):
        if "{split}" not in source.images or "{split}" not in source.annotations:
            raise UserError(
                "params.yaml: data.source: split by folder needs {split} in images and in annotations, "
                "e.g. images: '{split}'"
            )
        pairs: dict[str, tuple[Path, str | None, Path]] = {}
        for split, folder in sorted(rule.folders.items()):
            images, xmls = (text.replace("{split}", folder) for text in (source.images, source.annotations))
            pairs |= _folder_pairs(root, source, images, xmls, split, problems)
        return pairs
    if "{split}" in source.images + source.annotations:
        raise UserError(f"params.yaml: data.source: {{split}} is only for split: {{by: folder}}, not {{by: {rule.by}}}")
    return _folder_pairs(root, source, source.images, source.annotations, None, problems)


def _folder_pairs(
    root: Path, source: VocSource, images: str, xmls: str, split: str | None, problems: Problems
) -> dict[str, tuple[Path, str | None, Path]]:
    image_folder, xml_folder = below(root, images, "data.source.images"), below(root, xmls, "data.source.annotations")
    pictures = [path for path in walk(image_folder, root, problems) if path.suffix.lower() in IMAGE_SUFFIXES]
    there = {path for path in walk(xml_folder, root, problems) if path.suffix.lower() == ".xml"}
    xml_of = {path: xml_folder / path.relative_to(image_folder).with_suffix(".xml") for path in pictures}
    sharing = Counter(xml_of.values())
    splits: dict[str, str | None] = {shown(path, root): split for path in pictures}
    if isinstance(source.split, SplitByList):
        listed = read_lists(
            root,
            dict(source.split.lists.items()),
            list(splits),
            shown(image_folder, root),
            problems,
        )
        for name in sorted(splits.keys() - listed.keys()):
            problems.note("not_listed", name, "in no list file, so not part of the data set")
        splits = dict(listed)
    for path in sorted(there - set(xml_of.values())):
        problems.add("label_without_image", shown(path, root), f"no image of this name in {images}")
    pairs: dict[str, tuple[Path, str | None, Path]] = {}
    for path, xml in xml_of.items():
        name = shown(path, root)
        if name not in splits:
            continue
        if xml not in there:
            problems.add("image_without_label", name, f"no {shown(xml, root)}; add it or move the image away")
        elif sharing[xml] > 1:
            problems.add("same_name", name, f"shares {shown(xml, root)} with another image; rename one")
        else:
            pairs[name] = (path, splits[name], xml)
    return pairs


def _parse(xml: Path, image: str, root: Path, problems: Problems) -> _Labels | None:
    """The objects of one XML file; a damaged one is a problem of its image and None."""
    content = read_annotations(xml, image, problems)
    if content is None:
        return None
    where = shown(xml, root)
    try:
        tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=RefuseDoctype()))
        size = tree.find("size")
        stated = None if size is None else (_whole(size, "width"), _whole(size, "height"))
        objects = [
            _object(node, f"{where} object {number}") for number, node in enumerate(tree.findall("object"), start=1)
        ]
    except (ElementTree.ParseError, ValueError, RecursionError, LookupError) as error:
        problems.add("bad_xml", image, f"{where}: {error}")
        return None
    return _Labels(stated, objects)


def _object(node: Any, where: str) -> tuple[str, tuple[float, float, float, float], bool, str]:
    name, box = (node.findtext("name") or "").strip(), node.find("bndbox")
    if not name or box is None:
        raise ValueError(f"{where.split(' ', 1)[1]} needs a name and a bndbox")
    xmin, ymin, xmax, ymax = (float(_text(box, corner)) for corner in CORNERS)
    difficult = (node.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise ValueError(f"difficult is {difficult[:40]!r}; must be 0 or 1")
    return name, (xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1), difficult == "1", where


def _whole(node: Any, key: str) -> int:
    text = _text(node, key)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"size: {key} is {text[:40]!r}; must be a whole number above 0")
    return int(text)


def _text(node: Any, key: str) -> str:
    text = node.findtext(key)
    if text is None:
        raise ValueError(f"{node.tag} has no {key}")
    return text.strip()


def _raw_boxes(labels: _Labels, source: VocSource, table: dict[str, int], found: _Found) -> Iterator[RawBox]:
    for name, xywh, difficult, where in labels.objects:
        if name not in table:
            found.left_out[name] += 1
        elif difficult and source.difficult == "drop":
            found.difficult += 1
        else:
            yield RawBox(table[name], xywh, where, difficult and source.difficult == "crowd")

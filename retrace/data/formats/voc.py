"""Source `voc`: Pascal VOC, one XML file per image.

`bndbox` holds xmin, ymin, xmax, ymax. In Pascal VOC itself (`origin: 1`) they are pixel numbers that count from 1 and
belong to the object: a box around a whole image of W x H pixels is 1, 1, W, H. So x = xmin - 1, y = ymin - 1,
width = xmax - xmin + 1, height = ymax - ymin + 1. Many tools write distances from the upper left corner instead
(`origin: 0`): the whole image is 0, 0, W, H, and x = xmin, y = ymin, width = xmax - xmin, height = ymax - ymin. Without
`origin` the files are Pascal VOC, unless a corner shows that they are not: then the choice is the user's.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrace.config.data import SplitByFolder, SplitByList, VocSource
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.boxes import RawBox, check, class_table, note_left_out, read_annotations, stored_size
from retrace.data.formats.listing import AnyCase, below, read_lists, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.voc_xml import CORNERS, VocFile, parse_voc
from retrace.data.hashing import IMAGE_SUFFIXES
from retrace.errors import UserError

WHOLE = 1e-3  # pixels: corners this close to a whole number are one, written through 32-bit floats


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
    files = [labels for labels in parsed.values() if labels is not None]
    names = {entry.name for labels in files for entry in labels.objects}
    if not files or not _origin_is_clear(files, source, problems):
        return []
    table = class_table(source.classes, params.classes, names, f"the XML files of {source.annotations}")
    found, items = _Found(), []
    for name, (path, split, _) in pairs.items():
        labels = parsed[name]
        size = (labels.size or stored_size(path, name, problems)) if labels is not None else None
        if labels is None or size is None:
            continue
        if labels.zero_size:
            problems.note("size_not_stated", name, f"{shown(pairs[name][2], root)}: size 0 x 0; read from the image")
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
    any_case = AnyCase(there)
    xml_of = {path: any_case.find(xml_folder / path.relative_to(image_folder).with_suffix(".xml")) for path in pictures}
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


def _parse(xml: Path, image: str, root: Path, problems: Problems) -> VocFile | None:
    """The objects of one XML file; a damaged one is a problem of its image and None."""
    content = read_annotations(xml, image, problems)
    if content is None:
        return None
    where = shown(xml, root)
    try:
        return parse_voc(content, where)
    except ValueError as error:
        problems.add("bad_xml", image, f"{where}: {error}")
        return None


def _origin_is_clear(files: Sequence[VocFile], source: VocSource, problems: Problems) -> bool:
    """False after `stop`, where `origin` is not given and corners are no pixel numbers that count from 1."""
    if source.origin is not None:
        return True
    odd = [found for file in files for found in file.objects if not _are_pixel_numbers(found.corners)]
    if not odd:
        return True
    text = ", ".join(f"{key} {value:.6g}" for key, value in zip(CORNERS, odd[0].corners, strict=True))
    detail = (
        f"{odd[0].where} has {text}: Pascal VOC has pixel numbers that count from 1, but {len(odd)} "
        f"box{'es have' if len(odd) > 1 else ' has'} a fraction or begin{'s' * (len(odd) == 1)} below 1; set "
        "data.source.origin: 0 (a whole image is 0, 0, width, height, as most label tools write it) or "
        "1 (it is 1, 1, width, height)"
    )
    problems.stop("voc_origin", source.annotations, detail)
    return False


def _are_pixel_numbers(corners: tuple[float, ...]) -> bool:
    finite = [value for value in corners if math.isfinite(value)]  # others are named box by box
    below_one = min(corners[0], corners[1]) < 1 - WHOLE
    return not below_one and all(abs(value - round(value)) <= WHOLE for value in finite)


def _xywh(corners: tuple[float, ...], origin: int) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = corners
    return xmin - origin, ymin - origin, xmax - xmin + origin, ymax - ymin + origin


def _raw_boxes(labels: VocFile, source: VocSource, table: dict[str, int], found: _Found) -> Iterator[RawBox]:
    origin = 1 if source.origin is None else source.origin
    for one in labels.objects:
        if one.name not in table:
            found.left_out[one.name] += 1
        elif one.difficult and source.difficult == "drop":
            found.difficult += 1
        else:
            crowd = one.difficult and source.difficult == "crowd"
            yield RawBox(table[one.name], _xywh(one.corners, origin), one.where, crowd)

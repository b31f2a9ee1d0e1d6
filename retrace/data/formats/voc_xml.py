"""The objects of one Pascal VOC file.

What is not VOC is refused by name: a file whose objects this reader does not see would become an image of background.
Namespaces are ignored. An object may hold several `bndbox` (some exporters write all boxes of a class into one object):
each is an object of that class. Boxes in a `part` (head, hand, foot of a person) are not objects.
"""

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from retrace.data.formats.xml_files import parse_xml
from retrace.text_files import NotUtf8, decoded

CORNERS = ("xmin", "ymin", "xmax", "ymax")
# what a VOC file has beside its objects; in a file without objects anything else may be an object by another name
HEADER = {
    *("annotation", "folder", "filename", "path", "source", "database", "image", "flickrid", "owner", "url"),
    *("name", "size", "width", "height", "depth", "segmented", "verified", "imagesize", "nrows", "ncols"),
}
# names of objects and of their shapes in other dialects
SHAPES = {
    *("object", "objects", "item", "items", "outputs", "bndbox", "box", "boxes", "bbox", "robndbox", "rectangle"),
    *("polygon", "polyline", "points", "track", "obj", "annotations", "rotatedbox", "hbndbox", "cuboid"),
}


@dataclass(frozen=True)
class VocObject:
    """One box as the file has it."""

    name: str
    corners: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax
    difficult: bool
    where: str


@dataclass(frozen=True)
class VocFile:
    """One parsed file. size: (width, height) that it states; None if it states none, or 0 x 0 (not known)."""

    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]
    zero_size: bool = False


def parse_voc(content: bytes, where: str) -> VocFile:
    """The objects of a file's bytes, which `where` names.

    Raises:
        ValueError: not XML, another dialect, or an object without a name or a box.
    """
    try:
        root = parse_xml(content)
    except ValueError as error:
        raise ValueError(f"{error}{_encoding(content)}") from None
    for node in root.iter():
        if isinstance(node.tag, str):
            node.tag = node.tag.rpartition("}")[2]
    _check_dialect(root)
    objects: list[VocObject] = []
    for number, node in enumerate(root.findall("object"), start=1):
        objects += _objects(node, f"{where} object {number}")
    size = root.find("size")
    zero = size is not None and _text(size, "width") == _text(size, "height") == "0"
    stated = None if size is None or zero else (_whole(size, "width"), _whole(size, "height"))
    return VocFile(stated, tuple(objects), zero)


def _encoding(content: bytes) -> str:
    """What to say behind a parser's words where the encoding is the reason."""
    try:
        decoded(content)
    except NotUtf8 as error:
        return f" ({error})"
    return ""


def _check_dialect(root: Element) -> None:
    if root.tag != "annotation":
        cvat = root.tag == "annotations" and (root.find("image") is not None or root.find("track") is not None)
        what = "Pascal VOC has <annotation>; export it again as Pascal VOC"
        if cvat:
            what = "this is CVAT's own XML and not Pascal VOC: use data.source.kind: cvat"
        raise ValueError(f"the outermost element is <{root.tag}>; {what}")
    inside = {id(node) for found in root.findall("object") for node in found.iter()}
    others = [node for node in root.iter() if id(node) not in inside and node is not root]
    strange = [node.tag for node in others if str(node.tag).lower() in SHAPES]
    if not inside:
        strange += [node.tag for node in others if str(node.tag).lower() not in HEADER]
    if strange:
        raise ValueError(
            f"<{strange[0]}> where Pascal VOC has <object> elements, so its objects would be lost; "
            "export it again as Pascal VOC"
        )


def _objects(node: Element, where: str) -> list[VocObject]:
    number = where.rpartition(" object ")[2]
    names, boxes = [(child.text or "").strip() for child in node.findall("name")], node.findall("bndbox")
    if len(names) != 1 or not names[0] or not boxes:
        held = ", ".join(f"<{child.tag}>" for child in node) or "nothing"
        raise ValueError(f"object {number} needs one name and a bndbox; it holds {held}")
    difficult = (node.findtext("difficult") or "0").strip() or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"difficult is {difficult[:40]!r}; must be 0 or 1")
    found = []
    for place, box in enumerate(boxes, start=1):
        xmin, ymin, xmax, ymax = (_number(box, corner) for corner in CORNERS)
        spot = where if len(boxes) == 1 else f"{where} bndbox {place}"
        found.append(VocObject(names[0], (xmin, ymin, xmax, ymax), difficult == "1", spot))
    return found


def _number(node: Element, key: str) -> float:
    text = _text(node, key)
    try:
        return float(text)
    except ValueError:
        comma = "; write the decimal point as ." if "," in text else ""
        raise ValueError(f"{node.tag}: {key} is {text[:40]!r}; must be a number{comma}") from None


def _whole(node: Element, key: str) -> int:
    text = _text(node, key)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 1 or not value.is_integer():
        raise ValueError(f"size: {key} is {text[:40]!r}; must be a whole number above 0")
    return int(value)


def _text(node: Element, key: str) -> str:
    found = node.findall(key)
    if len(found) != 1:
        raise ValueError(f"{node.tag} has {'no' if not found else 'more than one'} {key}")
    return (found[0].text or "").strip()

"""Source `labelme`: LabelMe's JSON, one file per image.

A shape is painted as LabelMe's own `shape_to_mask` and `labelme2voc` paint it, later shapes over earlier ones, so the
masks are those that the tool exports. Shapes with one `group_id` and label are one object: it has one box.
"""

import base64
import binascii
import io
import math
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from retrace.config.data import LabelmeSource
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Shape
from retrace.data.formats.json_files import read_json_file
from retrace.data.formats.listing import below, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.tool_files import (
    Annotation,
    Parsed,
    Place,
    points_of,
    read_tool,
    shapes_of,
    whole_size,
)
from retrace.data.hashing import MAX_PIXELS
from retrace.data.shapes import Bitmap, Ellipse, Outline, Polygon, Rectangle, bitmap
from retrace.text_files import NotUtf8, decoded

KINDS = ("polygon", "rectangle", "circle", "mask", "line", "linestrip", "point", "points")
WITHOUT_AREA = KINDS[4:]


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image with its JSON file."""
    return read_tool(root, params, problems, _parse)


def _parse(place: Place, params: Params, problems: Problems) -> Parsed:
    source = params.data.source
    assert isinstance(source, LabelmeSource)
    entries = []
    for path in walk(place.annotations, place.root, problems):
        if path.suffix.lower() == ".json":
            entry = _annotation(path, place, problems)
            entries += [] if entry is None else [entry]
    return Parsed(tuple(entries), _declared(source, place.root, problems))


def _declared(source: LabelmeSource, root: Path, problems: Problems) -> frozenset[str]:
    """The names of labels.txt."""
    if source.labels is None:
        return frozenset()
    path = below(root, source.labels, "data.source.labels")
    if not path.is_file():
        problems.stop("missing_file", shown(path, root), "no such file; correct data.source.labels or set it to null")
        return frozenset()
    try:
        lines = decoded(path.read_bytes()).splitlines()
    except NotUtf8 as error:
        problems.stop("encoding", shown(path, root), str(error))
        return frozenset()
    return frozenset(line.strip() for line in lines if line.strip())


def _annotation(path: Path, place: Place, problems: Problems) -> Annotation | None:
    where = shown(path, place.root)
    content = read_json_file(path, place.root, problems)
    if content is None:
        return None
    stem = path.relative_to(place.annotations).with_suffix("").as_posix()
    names = [stem + suffix for suffix in _suffixes(place.images, stem)] or [f"{stem}.jpg"]
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        problems.add("bad_json", where, "not LabelMe: 'shapes' must be a list; move other JSON files away")
        return None
    image = content.get("imagePath")
    if isinstance(image, str) and image.strip():
        names.insert(0, f"{PurePosixPath(stem).parent}/{image}")
    try:
        size = whole_size(content.get("imageWidth"), content.get("imageHeight"))
    except BadShape as bad:
        problems.add(bad.kind, where, f"imageWidth and imageHeight: {bad.detail}")
        return Annotation(tuple(names), where, None, damaged=True)
    shapes = shapes_of(content["shapes"], where, where, _shape, problems)
    return Annotation(tuple(names), where, shapes, size, damaged=shapes is None)


def _suffixes(folder: Path, stem: str) -> list[str]:
    """What follows the stem in the names of the image files that have it."""
    parent = folder / PurePosixPath(stem).parent
    name = PurePosixPath(stem).name
    if not parent.is_dir():
        return []
    return sorted(path.suffix for path in parent.iterdir() if path.stem == name and path.suffix.lower() != ".json")


def _shape(row: dict[str, object], where: str) -> Shape:
    label, kind, group = row.get("label"), row.get("shape_type") or "polygon", row.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise BadShape("bad_shape", f"label {label!r:.80} must be a text")
    if kind not in KINDS:
        raise BadShape("bad_shape", f"({label!r}) shape_type {kind!r:.80}; allowed: {', '.join(KINDS)}")
    try:
        outline = None if kind in WITHOUT_AREA else _outline(str(kind), row)
    except BadShape as bad:
        raise BadShape(bad.kind, f"({label!r}) {bad.detail}") from None
    return Shape(label, outline, where, str(kind), None if group is None else str(group))


def _outline(kind: str, row: dict[str, object]) -> Outline:
    points = points_of(row.get("points"))
    if kind == "polygon":
        if len(points) < 3:
            raise BadShape("bad_shape", f"a polygon of {len(points)} points; at least 3 are needed")
        return Polygon((tuple(points),), fill="outline")
    if len(points) != 2:
        raise BadShape("bad_shape", f"a {kind} of {len(points)} points; exactly 2 are needed")
    (x0, y0), (x1, y1) = points
    if kind == "circle":  # its center and a point on it
        radius = math.hypot(x0 - x1, y0 - y1)
        return Ellipse(x0, y0, radius, radius, fill="outline")
    if kind == "rectangle":
        return Rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), fill="outline")
    return _mask(row.get("mask"), points)


def _mask(text: object, points: list[tuple[float, float]]) -> Bitmap:
    """A PNG in base64 of the frame between two pixels, both inside of it."""
    if not isinstance(text, str) or not all(math.isfinite(value) for point in points for value in point):
        raise BadShape("bad_shape", "a mask needs two points and a PNG in base64 as 'mask'")
    (x0, y0), (x1, y1) = ((int(x), int(y)) for x, y in points)
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BadShape("bad_shape", f"a mask of {picture.width} x {picture.height} pixels is too large")
            pixels = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadShape("bad_shape", f"the mask is not a PNG in base64 ({error})") from None
    if pixels.shape != (y1 - y0 + 1, x1 - x0 + 1):
        detail = f"a mask of {pixels.shape[1]} x {pixels.shape[0]} pixels between ({x0}, {y0}) and ({x1}, {y1})"
        raise BadShape("bad_shape", f"{detail}; it must be {x1 - x0 + 1} x {y1 - y0 + 1}")
    return bitmap(pixels, x0, y0)

"""Source `supervisely`: a Supervisely project: meta.json, and in each data set folders `img` and `ann`.

`ann/a.jpg.json` belongs to `img/a.jpg`. Objects lie over each other in their order. Points are pixel numbers, and a
polygon is painted with its outline, as the tool's own export does (cv2.fillPoly; holes are painted out likewise).
"""

import base64
import binascii
import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from retrace.config.data import SuperviselySource
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
    numbers,
    points_of,
    read_tool,
    shapes_of,
    whole_size,
)
from retrace.data.hashing import IMAGE_SUFFIXES, MAX_PIXELS
from retrace.data.shapes import Bitmap, Outline, Polygon, Rectangle, bitmap

WITHOUT_AREA = ("line", "point", "graph", "cuboid")
KINDS = ("polygon", "bitmap", "rectangle", *WITHOUT_AREA)
LARGEST = 2**26  # bytes of the PNG inside of a bitmap


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image with its JSON file."""
    return read_tool(root, params, problems, _parse)


def _parse(place: Place, params: Params, problems: Problems) -> Parsed:
    source = params.data.source
    assert isinstance(source, SuperviselySource)
    meta = read_json_file(below(place.root, source.meta, "data.source.meta"), place.root, problems)
    rows = meta.get("classes") if isinstance(meta, dict) else None
    if not isinstance(rows, list):
        if meta is not None:
            problems.stop("bad_json", source.meta, "not Supervisely: 'classes' must be a list")
        return Parsed(())
    titles = (row.get("title") for row in rows if isinstance(row, dict))
    entries = []
    for path in walk(place.annotations, place.root, problems):
        if path.suffix.lower() == ".json":
            entries.append(_annotation(path, place, problems))
    return Parsed(tuple(entries), frozenset(title for title in titles if isinstance(title, str)))


def _annotation(path: Path, place: Place, problems: Problems) -> Annotation:
    where = shown(path, place.root)
    name = path.relative_to(place.annotations).with_suffix("").as_posix()
    names = (name,) if name.lower().endswith(IMAGE_SUFFIXES) else tuple(name + suffix for suffix in IMAGE_SUFFIXES)
    content = read_json_file(path, place.root, problems)
    size, rows = (content.get("size"), content.get("objects")) if isinstance(content, dict) else (None, None)
    try:
        if not isinstance(size, dict) or not isinstance(rows, list):
            raise BadShape("bad_json", "not Supervisely: needs size and objects")
        stated = whole_size(size.get("width"), size.get("height"))
    except BadShape as bad:
        problems.add(bad.kind, where, bad.detail)
        return Annotation(names, where, None, damaged=True)
    shapes = shapes_of(rows, where, where, _shape, problems)
    return Annotation(names, where, shapes, stated, damaged=shapes is None)


def _shape(row: dict[str, object], where: str) -> Shape:
    title = row.get("classTitle")
    kind = row.get("geometryType") or ("bitmap" if row.get("bitmap") else None)  # old files do not say
    if not isinstance(title, str) or not title.strip():
        raise BadShape("no_label", f"classTitle {title!r:.80} must be a class")
    if kind not in KINDS:
        raise BadShape("bad_shape", f"({title!r}) geometryType {kind!r:.80}; allowed: {', '.join(KINDS)}")
    try:
        return Shape(title, None if kind in WITHOUT_AREA else _outline(str(kind), row), where, str(kind))
    except BadShape as bad:
        raise BadShape(bad.kind, f"({title!r}) {bad.detail}") from None


def _outline(kind: str, row: dict[str, object]) -> Outline:
    if kind == "bitmap":
        return _bitmap(row.get("bitmap"))
    points = row.get("points")
    if not isinstance(points, dict):
        raise BadShape("bad_shape", "points needs exterior and interior")
    exterior = points_of(points.get("exterior"))
    if kind == "rectangle":
        if len(exterior) != 2:
            raise BadShape("bad_shape", f"a rectangle of {len(exterior)} points; exactly 2 are needed")
        (x0, y0), (x1, y1) = exterior
        return Rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), fill="pixels")
    interior = points.get("interior") or []
    holes = [points_of(hole) for hole in interior] if isinstance(interior, list) else [[]]
    if any(len(ring) < 3 for ring in (exterior, *holes)):
        raise BadShape("bad_shape", "exterior and every interior need at least 3 points")
    return Polygon((tuple(exterior),), tuple(tuple(hole) for hole in holes), fill="pixels")


def _bitmap(row: object) -> Bitmap:
    """A compressed PNG in base64, whose top left pixel is at `origin`; painted where it is not 0 (opaque in RGBA)."""
    text = row.get("data") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(text, str):
        raise BadShape("bad_shape", "bitmap needs data and origin")
    left, top = numbers(row.get("origin"), 2)
    if not (left.is_integer() and top.is_integer()):
        raise BadShape("bad_shape", f"origin {row.get('origin')!r:.80} must be two whole numbers")
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), LARGEST)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BadShape("bad_shape", f"a bitmap of {picture.width} x {picture.height} pixels is too large")
            pixels = np.asarray(picture.getchannel("A") if picture.mode in ("RGBA", "LA") else picture.convert("L")) > 0
    except (binascii.Error, zlib.error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadShape("bad_shape", f"the bitmap is not a compressed PNG in base64 ({error})") from None
    return bitmap(pixels, int(left), int(top))

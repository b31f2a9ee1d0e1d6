"""Source `cvat`: CVAT 1.1 XML for images and for video.

Shapes lie over each other by `z_order`, then by their order in the file. Each shape is an object of its own. A video's
annotations belong to frames that lie as image files in the folder: the last number of a file's name is its frame. CVAT
writes the shapes of a track for every frame; a track with gaps is refused, as nobody can see where the object was.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.annotated import BadShape, Shape
from retrace.data.formats.boxes import read_annotations
from retrace.data.formats.listing import holds, shown, walk
from retrace.data.formats.problems import Problems
from retrace.data.formats.tool_files import Annotation, Parsed, Place, read_tool, whole_size
from retrace.data.formats.xml_files import parse_xml
from retrace.data.hashing import IMAGE_SUFFIXES, MAX_PIXELS
from retrace.data.shapes import Bitmap, Ellipse, Outline, Polygon, Rectangle, bitmap

WITH_AREA = ("box", "polygon", "mask", "ellipse")
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
NO_SHAPES = ("tag", "attribute")  # of the whole image


def read(root: Path, params: Params, problems: Problems) -> list[Item]:
    """One item per image that the XML names, or per frame of a video."""
    return read_tool(root, params, problems, _parse)


def _parse(place: Place, params: Params, problems: Problems) -> Parsed:
    where = shown(place.annotations, place.root)
    if not place.annotations.is_file():
        folder = place.annotations.parent
        problems.stop("missing_file", where, f"no such file; {shown(folder, place.root)} holds: {holds(folder)}")
        return Parsed(())
    content = read_annotations(place.annotations, where, problems)
    try:
        tree = parse_xml(content or b"")
    except ValueError as error:
        problems.stop("bad_xml", where, str(error))
        return Parsed(())
    declared = frozenset(name.strip() for label in tree.iter("label") if (name := label.findtext("name")))
    images, tracks = tree.findall("image"), tree.findall("track")
    if tree.tag != "annotations" or bool(images) == bool(tracks):
        detail = f"not CVAT 1.1: <{tree.tag}> with {len(images)} <image> and {len(tracks)} <track>; one kind is needed"
        problems.stop("bad_xml", where, detail)
        return Parsed(())
    if tracks:
        return Parsed(tuple(_frames(tree, tracks, where, place, problems)), declared)
    return Parsed(tuple(_image(node, where, problems) for node in images), declared)


def _image(node: Element, file: str, problems: Problems) -> Annotation:
    """One <image>: its shapes from the lowest to the highest."""
    name = node.get("name") or ""
    where = f"{file} image {name!r:.100}"
    try:
        size = _size(node.get("width"), node.get("height"))
    except BadShape as bad:
        problems.add(bad.kind, file, f"{where}: {bad.detail}")
        return Annotation((name,), where, None, damaged=True)
    found, damaged = [], False
    for number, child in enumerate((one for one in node if one.tag not in NO_SHAPES), start=1):
        at = f"{where} shape {number}"
        try:
            found.append((_order(child), _shape(child, child.get("label"), at)))
        except BadShape as bad:
            problems.add(bad.kind, file, f"{at}: {bad.detail}")
            damaged = True
    return Annotation((name,), where, _by_height(found), size, damaged=damaged)


def _frames(tree: Element, tracks: list[Element], file: str, place: Place, problems: Problems) -> list[Annotation]:
    """Every frame of a video that has a file or a shape."""
    try:
        size = _stated(tree)
        first, last, step = _range(tree)
    except BadShape as bad:
        problems.stop("bad_xml", file, bad.detail)
        return []
    shapes: dict[int, list[tuple[int, Shape]]] = defaultdict(list)
    for number, track in enumerate(tracks, start=1):
        where = f"{file} track {track.get('id', number)}"
        try:
            for frame, order, shape in _track(track, where, step):
                shapes[frame].append((order, shape))
        except BadShape as bad:  # which frames it spoils is not known
            problems.stop(bad.kind, file, f"{where} ({track.get('label')!r}): {bad.detail}")
    files = _numbered(place, problems)
    wanted = sorted({*shapes, *(frame for frame in files if first <= frame and (last is None or frame <= last))})
    return [
        Annotation((files.get(n, f"frame_{n:06d}"),), f"{file} frame {n}", _by_height(shapes[n]), size, file)
        for n in wanted
    ]


def _track(track: Element, where: str, step: int) -> Iterable[tuple[int, int, Shape]]:
    """(frame, z_order, shape) of each frame in which the object is to be seen."""
    before: tuple[int, bool] | None = None
    for node in track:
        if node.tag in NO_SHAPES:
            continue
        frame, outside = _whole(node, "frame"), node.get("outside", "0") == "1"
        if before is not None and frame <= before[0]:
            raise BadShape("bad_shape", f"frame {frame} after frame {before[0]}; frames must ascend")
        if before is not None and not before[1] and frame - before[0] > step:
            detail = f"no shape between the frames {before[0]} and {frame}; export the frames between keyframes too"
            raise BadShape("track_gap", detail)
        before = (frame, outside)
        if not outside:
            yield frame, _order(node), _shape(node, track.get("label"), f"{where} frame {frame}")


def _numbered(place: Place, problems: Problems) -> dict[int, str]:
    """Path below the image folder of each frame, by the last number of the file's name."""
    files: dict[int, str] = {}
    for path in walk(place.images, place.root, problems):
        digits = re.findall(r"\d+", path.stem, re.ASCII)
        if path.suffix.lower() not in IMAGE_SUFFIXES or not digits:
            continue
        name = path.relative_to(place.images).as_posix()
        other = files.setdefault(int(digits[-1]), name)
        if other != name:
            detail = f"frame {int(digits[-1])} like {other}; keep the frames of one video in a folder of their own"
            problems.stop("same_frame", shown(path, place.root), detail)
    return files


def _stated(tree: Element) -> tuple[int, int] | None:
    node = next(tree.iter("original_size"), None)
    return None if node is None else _size(node.findtext("width"), node.findtext("height"))


def _range(tree: Element) -> tuple[int, int | None, int]:
    """First and last frame, and every how many frames one was annotated."""
    texts = {key: next((node.text or "" for node in tree.iter(key)), "") for key in ("start_frame", "stop_frame")}
    values = {key: int(text) if text.strip().isdecimal() else None for key, text in texts.items()}
    steps = re.search(r"step=(\d+)", next((node.text or "" for node in tree.iter("frame_filter")), ""))
    return values["start_frame"] or 0, values["stop_frame"], max(1, int(steps.group(1)) if steps else 1)


def _by_height(found: list[tuple[int, Shape]]) -> tuple[Shape, ...]:
    return tuple(shape for _, shape in sorted(found, key=lambda pair: pair[0]))


def _shape(node: Element, label: str | None, where: str) -> Shape:
    if not label:
        raise BadShape("bad_shape", f"<{node.tag}> has no label")
    if node.tag in WITHOUT_AREA:
        return Shape(label, None, where, node.tag)
    if node.tag not in WITH_AREA:
        allowed = ", ".join(WITH_AREA + WITHOUT_AREA)
        raise BadShape("bad_shape", f"({label!r}) unknown shape <{node.tag}>; allowed: {allowed}")
    try:
        return Shape(label, _outline(node), where, node.tag)
    except BadShape as bad:
        raise BadShape(bad.kind, f"({label!r}) {bad.detail}") from None


def _outline(node: Element) -> Outline:
    if node.tag == "polygon":
        return _polygon(node.get("points") or "")
    if node.tag == "mask":
        return _mask(node)
    turned = _number(node, "rotation") if node.get("rotation") else 0.0
    if node.tag == "ellipse":
        x, y, rx, ry = (_number(node, key) for key in ("cx", "cy", "rx", "ry"))
        return Ellipse(x, y, rx, ry, turned)
    x0, y0, x1, y1 = (_number(node, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if not turned:
        return Rectangle(x0, y0, x1, y1)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    return Polygon((turned_around(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), middle, turned),))


def turned_around(
    points: Iterable[tuple[float, float]], center: tuple[float, float], degrees: float
) -> tuple[tuple[float, float], ...]:
    """Points turned around a center, clockwise as seen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    away = [(x - center[0], y - center[1]) for x, y in points]
    return tuple((center[0] + x * cos - y * sin, center[1] + x * sin + y * cos) for x, y in away)


def _polygon(text: str) -> Polygon:
    """`x,y;x,y;...`"""
    try:
        points = [tuple(float(value) for value in pair.split(",")) for pair in text.split(";")]
    except ValueError:
        raise BadShape("bad_shape", f"points {text[:80]!r} must be `x,y;x,y;...`") from None
    if len(points) < 3 or any(len(point) != 2 for point in points):
        raise BadShape("bad_shape", f"points {text[:80]!r}; at least three `x,y` are needed")
    return Polygon((tuple((point[0], point[1]) for point in points),))


def _mask(node: Element) -> Bitmap:
    """Run lengths along the rows of a frame, zeros first."""
    left, top, width, height = (_whole(node, key) for key in ("left", "top", "width", "height"))
    try:
        lengths = [int(one) for one in (node.get("rle") or "").split(",")]
    except ValueError:
        raise BadShape("bad_shape", f"rle {(node.get('rle') or '')[:80]!r} must be whole numbers and commas") from None
    if any(one < 0 for one in lengths) or sum(lengths) != width * height or width * height > MAX_PIXELS:
        detail = f"run lengths of {sum(lengths)} pixels in a frame of {width} x {height}"
        raise BadShape("bad_shape", detail)
    values = np.arange(len(lengths)) % 2 == 1
    return bitmap(np.repeat(values, lengths).reshape(height, width), left, top)


def _order(node: Element) -> int:
    text = node.get("z_order", "0")
    if not text.removeprefix("-").isdecimal():
        raise BadShape("bad_shape", f"z_order {text[:40]!r} must be a whole number")
    return int(text)


def _whole(node: Element, key: str) -> int:
    text = node.get(key) or ""
    if not text.isdecimal():
        raise BadShape("bad_shape", f"<{node.tag}> {key} {text[:40]!r} must be a whole number")
    return int(text)


def _number(node: Element, key: str) -> float:
    text = node.get(key) or ""
    try:
        return float(text)
    except ValueError:
        raise BadShape("bad_shape", f"<{node.tag}> {key} {text[:40]!r} must be a number") from None


def _size(width: str | None, height: str | None) -> tuple[int, int]:
    values = [int(text) if text and text.strip().isdecimal() else text for text in (width, height)]
    return whole_size(*values)

"""Outlines of objects as label tools draw them: which pixels they cover, and the box around them.

Coordinates are pixels of the stored image; (0, 0) is the top left corner of the top left pixel. Tools differ in which
pixels a polygon covers, so each outline states its rule, and equals what its own tool would export:

- `center`: COCO's own algorithm, about the pixels whose center is inside (COCO, YOLO, CVAT, VIA, Label Studio);
- `outline`: Pillow's, which paints the outline too (LabelMe's shape_to_mask);
- `pixels`: points are pixel numbers, and OpenCV's fillPoly paints the outline too (Supervisely).

A line that crosses itself or touches itself (a hole joined to the outside by a bridge) leaves out what it encloses an
even number of times.
"""

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

Point = tuple[float, float]  # x, y
Fill = Literal["center", "outline", "pixels"]


@dataclass(frozen=True)
class Polygon:
    """One object of one or several parts, with holes cut out of all of them; each has at least three points."""

    parts: tuple[tuple[Point, ...], ...]
    holes: tuple[tuple[Point, ...], ...] = ()
    fill: Fill = "center"


@dataclass(frozen=True)
class Rectangle:
    """Upright; x0 <= x1 and y0 <= y1."""

    x0: float
    y0: float
    x1: float
    y1: float
    fill: Fill = "center"


@dataclass(frozen=True)
class Ellipse:
    """Half axes `rx` and `ry`, turned by `angle` degrees, clockwise as seen."""

    x: float
    y: float
    rx: float
    ry: float
    angle: float = 0.0
    fill: Fill = "center"


@dataclass(frozen=True)
class Bitmap:
    """Single pixels inside of a small frame; `bits` are its rows, packed and compressed."""

    left: int
    top: int
    width: int
    height: int
    bits: bytes


Outline = Polygon | Rectangle | Ellipse | Bitmap


@dataclass(frozen=True)
class Labeled:
    """An outline with its class index (255: not scored). `where` names it in messages."""

    label: int
    outline: Outline
    where: str


@dataclass(frozen=True)
class Drawing:
    """The shapes of one image: each lies over those before it, or (`smaller_on_top`) over all that cover more pixels.

    `background` is the class index of the pixels that none covers.
    """

    shapes: tuple[Labeled, ...]
    background: int
    smaller_on_top: bool = False


def bitmap(pixels: "NDArray[np.bool_]", left: int = 0, top: int = 0) -> Bitmap:
    """The set pixels of [H, W], whose top left pixel is (left, top) of the image; its frame is as small as possible."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not rows.size:
        return Bitmap(left, top, 0, 0, b"")
    small = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    packed = zlib.compress(np.packbits(small).tobytes(), 1)
    return Bitmap(left + int(columns[0]), top + int(rows[0]), small.shape[1], small.shape[0], packed)


def bounds(outline: Outline) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the box around an outline, in pixels."""
    if isinstance(outline, Rectangle):
        one = 1.0 if outline.fill == "pixels" else 0.0  # a pixel number stands for the pixel up to the next one
        return outline.x0, outline.y0, outline.x1 + one, outline.y1 + one
    if isinstance(outline, Bitmap):
        left, top = float(outline.left), float(outline.top)
        return left, top, left + outline.width, top + outline.height
    if isinstance(outline, Ellipse):
        cos, sin = math.cos(math.radians(outline.angle)), math.sin(math.radians(outline.angle))
        half_width = math.hypot(outline.rx * cos, outline.ry * sin)
        half_height = math.hypot(outline.rx * sin, outline.ry * cos)
        return outline.x - half_width, outline.y - half_height, outline.x + half_width, outline.y + half_height
    xs = [x for part in outline.parts for x, _ in part]
    ys = [y for part in outline.parts for _, y in part]
    one = 1.0 if outline.fill == "pixels" else 0.0
    return min(xs), min(ys), max(xs) + one, max(ys) + one


def finite(outline: Outline) -> bool:
    """Whether no number of an outline is NaN or infinite."""
    if isinstance(outline, Polygon):
        rings = outline.parts + outline.holes
        return all(math.isfinite(x) and math.isfinite(y) for ring in rings for x, y in ring)
    if isinstance(outline, Rectangle):
        return all(math.isfinite(value) for value in (outline.x0, outline.y0, outline.x1, outline.y1))
    if isinstance(outline, Ellipse):
        values = (outline.x, outline.y, outline.rx, outline.ry, outline.angle)
        return all(math.isfinite(value) for value in values)
    return True


def covered(outline: Outline, size: tuple[int, int]) -> "NDArray[np.bool_]":
    """Which pixels of an image of (width, height) an outline covers, [H, W]."""
    if isinstance(outline, Bitmap):
        return _placed(outline, size)
    if isinstance(outline, Polygon):
        return _filled(outline, size)
    if outline.fill == "outline":
        return _drawn(outline, size)
    if isinstance(outline, Ellipse):
        return _inside(outline, size)
    corners = ((outline.x0, outline.y0), (outline.x1, outline.y0), (outline.x1, outline.y1), (outline.x0, outline.y1))
    return _filled(Polygon((corners,), fill=outline.fill), size)


def draw(drawing: Drawing, size: tuple[int, int]) -> tuple["NDArray[np.uint8]", list[str]]:
    """Class indices uint8 [H, W] of an image of (width, height), and the shapes that nobody can see in it.

    The second value names every shape that has no pixel of its class: it covers none, or others lie over all of them.
    """
    width, height = size
    shapes = drawing.shapes
    if drawing.smaller_on_top:
        areas = [int(covered(shape.outline, size).sum()) for shape in shapes]
        shapes = tuple(shapes[i] for i in sorted(range(len(shapes)), key=lambda i: -areas[i]))
    owner = np.zeros((height, width), np.int32)  # 1 + the number of the shape on top; 0: none
    for number, shape in enumerate(shapes, start=1):
        owner[covered(shape.outline, size)] = number
    labels = np.array([drawing.background, *(shape.label for shape in shapes)], np.uint8)
    classes = labels[owner]
    lost = []
    counts = np.bincount(owner.ravel(), minlength=len(labels))
    for number, shape in enumerate(shapes, start=1):
        if counts[number]:
            continue
        pixels = covered(shape.outline, size)
        if not pixels.any():
            lost.append(f"{shape.where}: covers no pixel")
        elif not (classes[pixels] == shape.label).any():
            lost.append(f"{shape.where}: other shapes lie over all of its pixels")
    return classes, lost


def _placed(outline: Bitmap, size: tuple[int, int]) -> "NDArray[np.bool_]":
    pixels = np.zeros((size[1], size[0]), bool)
    if outline.width:
        bits = np.unpackbits(np.frombuffer(zlib.decompress(outline.bits), np.uint8))
        small = bits[: outline.width * outline.height].reshape(outline.height, outline.width)
        rows = slice(outline.top, outline.top + outline.height)
        pixels[rows, outline.left : outline.left + outline.width] = small
    return pixels


def _filled(outline: Polygon, size: tuple[int, int]) -> "NDArray[np.bool_]":
    """Union of the parts without the holes."""
    pixels = np.zeros((size[1], size[0]), bool)
    for part in outline.parts:
        pixels |= _ring(part, outline.fill, size)
    for hole in outline.holes:
        pixels &= ~_ring(hole, outline.fill, size)
    return pixels


def _ring(points: tuple[Point, ...], fill: Fill, size: tuple[int, int]) -> "NDArray[np.bool_]":
    width, height = size
    if fill == "center":
        from faster_coco_eval.core import mask

        flat = [[value for point in points for value in point]]
        return np.asarray(mask.decode(mask.frPyObjects(flat, height, width)[0])).astype(bool)
    if fill == "pixels":
        import cv2

        canvas = np.zeros((height, width), np.uint8)
        return cv2.fillPoly(canvas, [np.array(points).round().astype(np.int32)], 1).astype(bool)
    picture = Image.new("1", size)
    ImageDraw.Draw(picture).polygon(list(points), fill=1, outline=1)
    return np.array(picture)


def _drawn(outline: Rectangle | Ellipse, size: tuple[int, int]) -> "NDArray[np.bool_]":
    picture = Image.new("1", size)
    pencil = ImageDraw.Draw(picture)
    if isinstance(outline, Rectangle):
        pencil.rectangle((outline.x0, outline.y0, outline.x1, outline.y1), fill=1, outline=1)
    else:
        pencil.ellipse(bounds(outline), fill=1, outline=1)
    return np.array(picture)


def _inside(outline: Ellipse, size: tuple[int, int]) -> "NDArray[np.bool_]":
    """Pixels whose center is inside of an ellipse."""
    x = np.arange(size[0]) + 0.5 - outline.x
    y = (np.arange(size[1]) + 0.5 - outline.y)[:, None]
    cos, sin = math.cos(math.radians(outline.angle)), math.sin(math.radians(outline.angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    return (along / outline.rx) ** 2 + (across / outline.ry) ** 2 <= 1

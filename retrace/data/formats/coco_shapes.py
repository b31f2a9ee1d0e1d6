"""The `segmentation` of COCO annotations: polygons, run lengths as numbers, and run lengths packed into text.

Polygons are several parts of one object and are joined; COCO has no holes in them. Run lengths go down the columns
of the image, zeros first, and may hold anything, holes too. Later annotations lie over earlier ones.
"""

from collections.abc import Mapping

import numpy as np

from retrace.data.formats.annotated import BadShape, Shape
from retrace.data.formats.tool_files import numbers
from retrace.data.hashing import MAX_PIXELS
from retrace.data.shapes import Bitmap, Outline, Polygon, bitmap

CONTINUED, NEGATIVE = 0x20, 0x10  # bits of a character


def shape_of(row: Mapping[str, object], name: str, where: str, size: tuple[int, int]) -> Shape:
    """The annotation as a shape of an image of (width, height).

    Raises:
        BadShape: what is wrong with its segmentation or iscrowd.
    """
    crowd = row.get("iscrowd", 0)
    if type(crowd) not in (int, bool) or crowd not in (0, 1):
        raise BadShape("bad_shape", f"iscrowd {crowd!r:.80} must be 0 or 1")
    return Shape(name, _outline(row.get("segmentation"), size), where, "segmentation", crowd=bool(crowd))


def _outline(segmentation: object, size: tuple[int, int]) -> Outline:
    if isinstance(segmentation, dict):
        return _runs(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        what = "no segmentation, only a box" if not segmentation else f"segmentation {segmentation!r:.80}"
        raise BadShape("no_segmentation", f"{what}; a list of polygons or run lengths (size, counts) are needed")
    return Polygon(tuple(_part(part) for part in segmentation))


def _part(flat: object) -> tuple[tuple[float, float], ...]:
    values = numbers(flat)
    if len(values) < 6 or len(values) % 2:
        raise BadShape("bad_shape", f"a polygon of {len(values)} numbers; x1, y1, x2, y2, x3, y3, ... are needed")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _runs(segmentation: Mapping[str, object], size: tuple[int, int]) -> Bitmap:
    if segmentation.get("size") != [size[1], size[0]]:
        stated = segmentation.get("size")
        raise BadShape("bad_shape", f"run lengths of size {stated!r:.80}; the image is [{size[1]}, {size[0]}]")
    counts = segmentation.get("counts")
    lengths = unpacked(counts) if isinstance(counts, str) else _whole(counts)
    return bitmap(_pixels(lengths, size[1], size[0]).T)


def _whole(counts: object) -> list[int]:
    if not isinstance(counts, list) or not all(type(one) is int for one in counts):
        raise BadShape("bad_shape", f"counts {counts!r:.80} must be a list of whole numbers or a text")
    return counts


def _pixels(lengths: list[int], height: int, width: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """[width, height]: column after column."""
    if width * height > MAX_PIXELS or any(one < 0 for one in lengths) or sum(lengths) != width * height:
        raise BadShape("bad_shape", f"run lengths of {sum(lengths)} pixels; the image has {width * height}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height)


def unpacked(text: str) -> list[int]:
    """Run lengths of COCO's text: 5 bits a character, the lowest first; from the fourth on, differences to two before.

    Raises:
        BadShape: a character that cannot occur, or an end in the middle of a number.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise BadShape("bad_shape", f"counts: {letter!r} cannot occur in packed run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & CONTINUED:
            continue
        if bits & NEGATIVE:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise BadShape("bad_shape", "counts: packed run lengths end in the middle of a number")
    return lengths

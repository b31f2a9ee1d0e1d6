"""Mask files: reading the values exactly as stored, turning them into class indices, and writing them again."""

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from retrace.data.formats import LARGEST, Codes
from retrace.data.hashing import BadImage, decode, open_image, raw_mode, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = -1
Z_RLE = 3  # zlib strategy: flat regions are what masks consist of; smaller and faster than the default
SCALED = {"L;2": 85, "L;4": 17}  # Pillow stretches grey samples of 2 and 4 bits to 0-255


def read_raw_mask(path: Path, colors: bool = False) -> tuple["NDArray[np.integer]", bool]:
    """Stored values as [H, W] (uint8, uint16 or int32; colors packed 0xRRGGBB) and whether they are colors.

    Indices of palette pictures count as values unless `colors` asks for the palette's colors. An RGB file whose three
    channels are equal everywhere counts as one channel unless `colors`. `BadImage` for what cannot hold exact values.
    """
    content = read_bytes(path)
    image = open_image(content)
    stored = raw_mode(image)
    if stored.endswith("LA;16B"):  # Pillow keeps 8 of its 16 bits
        return _grey16(content), False
    if image.format in ("JPEG", "MPO"):
        raise BadImage("lossy_mask", "a JPEG mask: lossy compression changes the values; export it as PNG")
    if "RGB" in stored and ";16" in stored:
        raise BadImage("mask_mode", "three channels of 16 bits; expected an index, a 16-bit id or an 8-bit RGB color")
    decode(image)
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema()[0] != 255:
        raise BadImage("transparent", "the mask has transparent pixels; which class they are is not defined")
    if image.mode == "P" and colors:
        image = image.convert("RGB")
    if image.mode in ("RGB", "RGBA"):
        return _packed(np.asarray(image)[..., :3], colors)
    if image.mode in ("LA", "PA"):
        return np.asarray(image)[..., 0], False
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise BadImage("mask_mode", f"color mode {image.mode}; expected an index, a 16-bit id or an RGB color")
    values = np.asarray(image)
    scale = next((factor for name, factor in SCALED.items() if name in stored.split()), 1)
    return (values.astype(np.uint8) if values.dtype == bool else values // scale), False


def _grey16(content: bytes) -> "NDArray[np.uint16]":
    """Grey values [H, W] of a PNG with 16 bits of grey and of alpha, which must be opaque."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise BadImage("truncated", "the pixels of a grey picture with alpha of 16 bits cannot be decoded to the end")
    if pixels[..., 3].min() != 2**16 - 1:
        raise BadImage("transparent", "the mask has transparent pixels; which class they are is not defined")
    return np.asarray(pixels[..., 0], np.uint16)


def _packed(rgb: "NDArray[np.uint8]", colors: bool) -> tuple["NDArray[np.integer]", bool]:
    red, green, blue = (rgb[..., channel] for channel in range(3))
    if not colors and np.array_equal(red, green) and np.array_equal(green, blue):
        return red, False
    return (red.astype(np.int32) << 16) | (green.astype(np.int32) << 8) | blue, True


def to_classes(raw: "NDArray[np.integer]", colored: bool, codes: Codes) -> "NDArray[np.uint8]":
    """Class indices uint8 [H, W] of stored values [H, W]; a value without a meaning is a `BadImage` that counts it."""
    if colored != codes.colors:
        found, wanted = ("RGB colors", "numbers") if colored else ("numbers", "'#rrggbb' colors")
        raise BadImage("mask_mode", f"the mask holds {found}, but data.source.values lists {wanted}")
    table = _table(codes)
    if (
        raw.dtype == np.uint8
    ):  # nearly every mask; Pillow counts and maps bytes several times faster than an index array
        picture = Image.fromarray(raw)
        strange = np.flatnonzero((np.array(picture.histogram()) > 0) & (table[:256] == UNKNOWN))
        if not strange.size:
            return np.asarray(picture.point(table[:256].clip(0).tolist()))
    inside = (raw >= 0) & (raw < len(table))
    classes = np.where(inside, table[np.where(inside, raw, 0)], UNKNOWN)
    if (classes == UNKNOWN).any():
        raise BadImage("unknown_value", _describe(raw[classes == UNKNOWN], codes))
    return classes.astype(np.uint8)


@functools.lru_cache(maxsize=2)
def _table(codes: Codes) -> "NDArray[np.int16]":
    """Class index by raw value, UNKNOWN elsewhere: 2^16 entries, 2^24 for colors and ids that need them."""
    large = codes.colors or any(raw >= 2**16 for raw, _ in codes.classes)
    table = np.full(LARGEST + 1 if large else 2**16, UNKNOWN, np.int16)
    for raw, index in codes.classes:
        table[raw] = index
    return table


def _describe(values: "NDArray[np.integer]", codes: Codes) -> str:
    numbers, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    named = [f"{_name(int(numbers[i]), codes)} ({counts[i]:,} px)" for i in order]
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    known = [_name(raw, codes) for raw, _ in codes.classes]
    allowed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"raw value {', '.join(named)}{more} not in the map; known: {allowed}" + (
        f" ({codes.hint})" if codes.hint else ""
    )


def _name(raw: int, codes: Codes) -> str:
    return f"#{raw:06x}" if codes.colors else str(raw)


def class_pixels(classes: "NDArray[np.uint8]") -> list[int]:
    """Pixels of each of the 256 values of [H, W]."""
    return Image.fromarray(classes).histogram()


def encode_mask(classes: "NDArray[np.uint8]") -> bytes:
    """An 8-bit grey PNG of class indices [H, W]; the same bytes for the same array."""
    stream = io.BytesIO()
    Image.fromarray(classes).save(stream, "PNG", compress_level=6, compress_type=Z_RLE)
    return stream.getvalue()

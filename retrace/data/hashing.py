"""Opening image files that nobody has checked yet: one policy for every room, plus sha256 and perceptual hash.

Accepted: 8-bit RGB, grey, palette and 1-bit pictures, and those with an alpha channel that is opaque everywhere; all of
them load as RGB. Refused by name (`BadImage`): 16-bit and CMYK pictures, real transparency, several frames, and an EXIF
orientation of 2 to 8. Readers disagree on all of these: a mask or a box could silently stop fitting.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
MAX_BYTES = 512 * 2**20  # of one image file
MAX_PIXELS = 2**27  # 134 megapixels; more is a decompression bomb
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = 1
TURNED = range(2, 9)  # mirrored or rotated; readers take any other value as upright


class BadImage(Exception):
    """A picture that cannot be used: `kind` is a word for the problems table, `detail` a sentence."""

    def __init__(self, kind: str, detail: str):
        super().__init__(kind, detail)  # both, so that it can travel between processes
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Inspected:
    """What is recorded of an image file."""

    sha256: str  # 64 hex digits
    phash: str  # 16 hex digits
    width: int  # pixels
    height: int


def read_bytes(path: Path) -> bytes:
    """The content of an image file; empty, huge or unreadable ones are a `BadImage`."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise BadImage("empty_file", "the file has no bytes")
        if size > MAX_BYTES:
            raise BadImage("too_large", f"{size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise BadImage("unreadable", f"could not be read ({error.strerror})") from None


def open_image(content: bytes) -> Image.Image:
    """Header only: a PIL image of a known format and a sane size; `BadImage` otherwise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            pictures = getattr(image, "n_frames", 1)
    except UnidentifiedImageError:
        raise BadImage("not_an_image", "not a BMP, JPEG, PNG, TIFF or WebP picture, whatever its name says") from None
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except Exception as error:  # Pillow's parsers raise anything on a damaged header
        raise BadImage("damaged", f"the header cannot be read ({error})") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage("too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} pixels are decoded")
    if pictures > 1 and image.format != "MPO":  # MPO: a JPEG with a second picture, as some cameras write it
        raise BadImage("several_frames", f"holds {pictures} pictures; save the one that is meant")
    return image


def decode(image: Image.Image) -> None:
    """Decode all pixels in place; a truncated or damaged file is a `BadImage`."""
    try:
        image.load()
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        raise BadImage("truncated", f"the pixels cannot be decoded to the end ({error})") from None


def raw_mode(image: Image.Image) -> str:
    """How the samples are stored in the file, e.g. "RGB;16B" or "L;4" (call before `decode`)."""
    tiles: list[Any] = getattr(image, "tile", None) or []
    return " ".join(str(part) for tile in tiles[:1] for part in tile)


def check_stored(image: Image.Image) -> None:
    """Before decoding: the samples must be 8-bit grey, palette or RGB, with or without alpha."""
    if ";16" in raw_mode(image) or image.mode.startswith("I") or image.mode == "F":
        raise BadImage("more_than_8_bits", "samples of more than 8 bits; convert it to 8 bits the way that suits it")
    if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA"):
        raise BadImage("color_mode", f"color mode {image.mode}; save it as RGB or grey")


def check_decoded(image: Image.Image) -> None:
    """After decoding (a PNG may state its orientation behind the pixels): upright, and no transparent pixel."""
    orientation = _orientation(image)
    if orientation != UPRIGHT:
        detail = (
            f"EXIF orientation {orientation}: the pixels are stored turned; save it upright, together with its labels"
        )
        raise BadImage("exif_rotated", detail)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
        if lowest != 255:
            raise BadImage("transparent", "transparent pixels have no defined color; flatten it onto a background")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the stored picture, from the header alone; `BadImage` if it has none."""
    return open_image(read_bytes(path)).size


def decode_rgb(content: bytes) -> "NDArray[np.uint8]":
    """Pixels of an image file's content as uint8 [H, W, 3], RGB, under this module's policy; `BadImage` otherwise."""
    image = open_image(content)
    check_stored(image)
    decode(image)
    check_decoded(image)
    return np.asarray(image.convert("RGB"))


def perceptual_hash(image: Image.Image) -> str:
    """64-bit DCT hash (ImageHash's `phash`), 16 hex digits; copies in other formats differ by a few bits."""
    import imagehash

    return str(imagehash.phash(image if image.mode in ("L", "RGB") else image.convert("RGB")))


def hash_distance(a: str, b: str) -> int:
    """Bits in which two perceptual hashes differ, 0 to 64."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


def inspect(content: bytes) -> Inspected:
    """Check a picture, decode it to the end and hash it; `BadImage` with the reason if it cannot be used."""
    image = open_image(content)
    check_stored(image)
    width, height = image.size
    if image.format == "JPEG" and image.mode == "RGB":
        image.draft("L", (128, 128))  # luma at reduced scale: still reads every byte, several times faster
    decode(image)
    check_decoded(image)
    return Inspected(hashlib.sha256(content).hexdigest(), perceptual_hash(image), width, height)


def _orientation(image: Image.Image) -> int:
    try:
        stated: object = image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF: the pixels do not need it
        return UPRIGHT
    return stated if isinstance(stated, int) and stated in TURNED else UPRIGHT

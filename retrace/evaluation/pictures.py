"""Sample pictures: image, truth and prediction side by side, as small JPEGs with the same bytes on every run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrace.data.palette import paint

PANEL = 320  # pixels wide
BOX_PANEL = (400, 640)  # narrowest and widest, with captions in it
GAP = 4
OPACITY = 0.6  # of the class colors over the image
QUALITY = 82

Drawn = tuple[tuple[float, float, float, float], str, tuple[int, int, int]]  # (x, y, w, h), caption, color


def choose(scores: np.ndarray, ids: Sequence[str], count: int) -> dict[str, list[int]]:
    """Rows of the `count` best, median and worst images; undefined (NaN) scores are left out, no row is used twice.

    Ties go by id. With few images the best are chosen first, then the worst, then the median.
    """
    order = sorted((row for row in range(len(ids)) if not np.isnan(scores[row])), key=lambda r: (-scores[r], ids[r]))
    best, rest = order[:count], order[count:]
    worst = rest[::-1][:count]
    middle = rest[: len(rest) - len(worst)]
    # the ranks around the median of all, as far as they are free
    nearest = sorted(middle, key=lambda row: (abs(order.index(row) - (len(order) - 1) / 2), order.index(row)))
    return {"best": best, "median": nearest[:count], "worst": worst}


def save_masks(path: Path, image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, colors: np.ndarray) -> None:
    """Image | truth | prediction. image: uint8 [H, W, 3]; masks: uint8 [H, W]; colors: uint8 [C, 3]."""
    masks = [np.asarray(_fit(Image.fromarray(mask), Image.Resampling.NEAREST)) for mask in (truth, predicted)]
    small = _fit(Image.fromarray(image), Image.Resampling.BILINEAR)
    painted = [Image.blend(small, Image.fromarray(paint(mask, colors)), OPACITY) for mask in masks]
    _save(path, [small, *painted])


def save_boxes(path: Path, image: np.ndarray, truth: Sequence[Drawn], predicted: Sequence[Drawn]) -> None:
    """Image with true boxes | image with predicted boxes; boxes in pixels of `image`, uint8 [H, W, 3].

    Small images are enlarged: captions need room.
    """
    whole = Image.fromarray(image)
    width = min(max(whole.width, BOX_PANEL[0]), BOX_PANEL[1])
    scale = width / whole.width
    fitted = whole.resize((width, max(1, round(whole.height * scale))), Image.Resampling.BILINEAR)
    _save(path, [with_boxes(fitted, boxes, scale) for boxes in (truth, predicted)])


def with_boxes(
    image: Image.Image, boxes: Sequence[Drawn], scale: float = 1.0, line: int = 2, text: int = 13
) -> Image.Image:
    """A copy of an RGB `image` with boxes and captions; `line` and `text`: width and height in pixels.

    scale: pixels of `image` per pixel of the boxes. torchvision's `draw_bounding_boxes` writes captions on top of small
    objects and of each other.
    """
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for (x, y, width, height), _, color in boxes:
        corners = (x * scale, y * scale, (x + width) * scale, (y + height) * scale)
        draw.rectangle(corners, outline=color, width=line)
    font = ImageFont.load_default(text)
    taken: list[tuple[float, ...]] = []
    for (x, y, _, height), caption, color in boxes:
        if caption:
            box = (x * scale, y * scale, height * scale)
            taken.append(_caption(draw, font, image.size, box, caption, color, taken))
    return result


def _caption(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    size: tuple[int, int],
    box: tuple[float, float, float],
    caption: str,
    color: tuple[int, int, int],
    taken: Sequence[tuple[float, ...]],
) -> tuple[float, ...]:
    """Above the box, else below or inside it: within the image, and not over another caption where there is room."""
    left, top, right, bottom = draw.textbbox((0, 0), caption, font=font)
    wide, high = right - left + 6, bottom - top + 6
    x = max(0.0, min(box[0], size[0] - wide))
    places = [(x, y, x + wide, y + high) for y in (box[1] - high, box[1] + box[2], box[1], box[1] + high)]
    inside = [place for place in places if place[1] >= 0 and place[3] <= size[1]]
    free = [place for place in inside if not any(_overlap(place, other) for other in taken)]
    place = (free or inside or [(x, 0.0, x + wide, float(high))])[0]
    draw.rectangle(place, fill=color)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140  # ITU-R BT.601 luma
    draw.text(
        (place[0] + 3 - left, place[1] + 3 - top), caption, fill=(0, 0, 0) if bright else (255, 255, 255), font=font
    )
    return place


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _fit(image: Image.Image, how: Image.Resampling) -> Image.Image:
    width = min(PANEL, image.width)
    return image.resize((width, max(1, round(image.height * width / image.width))), how)


def _save(path: Path, panels: Sequence[Image.Image]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, panels[0].height), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + GAP
    sheet.save(path, "JPEG", quality=QUALITY, optimize=True)

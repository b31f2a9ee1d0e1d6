"""Sample pictures: image, truth and prediction side by side, as small JPEGs with the same bytes on every run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.dataset.palette import paint

PANEL = 320  # pixels wide
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
    """Image with true boxes | image with predicted boxes; boxes in pixels of `image`, uint8 [H, W, 3]."""
    small = _fit(Image.fromarray(image), Image.Resampling.BILINEAR, 2)
    scale = small.width / image.shape[1]
    _save(path, [_with_boxes(small, boxes, scale) for boxes in (truth, predicted)])


def _with_boxes(image: Image.Image, boxes: Sequence[Drawn], scale: float) -> Image.Image:
    result = image.copy()
    draw = ImageDraw.Draw(result)
    font = ImageFont.load_default(11)
    for (x, y, width, height), caption, color in boxes:
        left, top = x * scale, y * scale
        draw.rectangle((left, top, left + width * scale, top + height * scale), outline=color, width=2)
        if caption:
            corner = (left + 2, max(top - 13, 0))
            draw.rectangle(draw.textbbox(corner, caption, font=font), fill=(0, 0, 0))
            draw.text(corner, caption, fill=color, font=font)
    return result


def _fit(image: Image.Image, how: Image.Resampling, times: int = 1) -> Image.Image:
    width = min(PANEL * times, image.width)
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

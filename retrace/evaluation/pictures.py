"""Sample pictures: image, truth and prediction side by side, as small JPEGs with the same bytes on every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrace.data.palette import paint
from retrace.documents.samples import Entry

PANEL = 320  # pixels wide
BOX_PANEL = (400, 640)  # narrowest and widest, with captions in it
GAP = 4
OPACITY = 0.6  # of the class colors over the image
QUALITY = 82

MASK_PANELS = ("image", "truth", "prediction", "where they differ")
BOX_PANELS = ("truth", "prediction")
SAME = 0.85  # share of white over the image where prediction and truth agree

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """How boxes of one kind are drawn; `dash`: pixels drawn and left out in turn, () for a solid line."""

    line: str  # solid | dashed | dotted
    color: Color
    dash: tuple[int, int] | tuple[()] = ()


# Okabe & Ito (2008), told apart with any color vision, and by their lines without color
STYLES = {
    "hit": Style("solid", (0, 158, 115)),
    "miss": Style("dashed", (230, 159, 0), (10, 6)),
    "false alarm": Style("dotted", (213, 94, 0), (3, 4)),
}


@dataclass(frozen=True)
class Drawn:
    """A box (x, y, width, height in pixels) with its caption; `kind`: a key of `STYLES`, or "" for `color`."""

    box: tuple[float, float, float, float]
    caption: str
    kind: str = ""
    color: Color = (0, 0, 0)

    @property
    def ink(self) -> Color:
        return STYLES[self.kind].color if self.kind else self.color


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
    """`MASK_PANELS` side by side. image: uint8 [H, W, 3]; masks: uint8 [H, W]; colors: uint8 [C, 3].

    The last panel has the predicted class where it is not the true one; pixels without a true class are not compared.
    """
    masks = [np.asarray(_fit(Image.fromarray(mask), Image.Resampling.NEAREST)) for mask in (truth, predicted)]
    small = _fit(Image.fromarray(image), Image.Resampling.BILINEAR)
    painted = [Image.blend(small, Image.fromarray(paint(mask, colors)), OPACITY) for mask in masks]
    wrong = (masks[0] != masks[1]) & (masks[0] < len(colors))
    faded = np.asarray(Image.blend(small.convert("L").convert("RGB"), Image.new("RGB", small.size, "white"), SAME))
    differing = np.where(wrong[:, :, None], paint(masks[1], colors), faded).astype(np.uint8)
    _save(path, [small, *painted, Image.fromarray(differing)])


def occurring(
    truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str], colors: np.ndarray
) -> tuple[Entry, ...]:
    """The legend of a picture: the classes in the truth or the prediction, uint8 [H, W], in their order."""
    there = np.union1d(truth, predicted)
    return tuple(
        Entry(name=name, color="#{:02x}{:02x}{:02x}".format(*colors[index]))
        for index, name in enumerate(classes)
        if index in there
    )


def box_legend() -> tuple[Entry, ...]:
    """The legend of every picture with boxes."""
    return tuple(
        Entry(name=name, color="#{:02x}{:02x}{:02x}".format(*style.color), style=style.line)
        for name, style in STYLES.items()
    )


def save_boxes(path: Path, image: np.ndarray, truth: Sequence[Drawn], predicted: Sequence[Drawn]) -> None:
    """`BOX_PANELS` side by side; boxes in pixels of `image`, uint8 [H, W, 3].

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
    for one in boxes:
        x, y, width, height = one.box
        corners = (x * scale, y * scale, (x + width) * scale, (y + height) * scale)
        dash = STYLES[one.kind].dash if one.kind else ()
        if dash:
            _dashed(draw, corners, one.ink, line, dash)
        else:
            draw.rectangle(corners, outline=one.ink, width=line)
    font = ImageFont.load_default(text)
    taken: list[tuple[float, ...]] = []
    for one in boxes:
        if one.caption:
            box = (one.box[0] * scale, one.box[1] * scale, one.box[3] * scale)
            taken.append(_caption(draw, font, image.size, box, one.caption, one.ink, taken))
    return result


def _dashed(
    draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], color: Color, line: int, dash: Sequence[int]
) -> None:
    left, top, right, bottom = corners
    drawn, gap = dash
    for x in np.arange(left, right, drawn + gap):
        for y in (top, bottom):
            draw.line((x, y, min(x + drawn, right), y), fill=color, width=line)
    for y in np.arange(top, bottom, drawn + gap):
        for x in (left, right):
            draw.line((x, y, x, min(y + drawn, bottom)), fill=color, width=line)


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
    # half a gap at either side of each: columns of equal width, which the report's page can show one by one
    column = panels[0].width + GAP
    sheet = Image.new("RGB", (column * len(panels), panels[0].height), "white")
    for place, panel in enumerate(panels):
        sheet.paste(panel, (place * column + GAP // 2, 0))
    sheet.save(path, "JPEG", quality=QUALITY, optimize=True)

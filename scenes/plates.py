"""Street scenes with licence plates, as a COCO JSON data set in Roboflow's form: the trouble of study `plates`.

One class; plates near and far, seen straight and obliquely, by day and in low light, among signs that look a little
like them. Image k of a split depends on (seed, split, k) alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrace.config.data import Split, Synthetic
from retrace.files import write_json
from scenes.canvas import XYWH, Canvas, Color, Layer, Point, Scene, expose, shade, texture
from scenes.draw import generator, write_image

CLASS = "license_plate"
FOLDERS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
CARS = (1, 2, 1, 3, 1, 2, 1, 2, 1, 2, 0)  # in images 0, 1, 2, ..., and so on round: every eleventh has none
DARK_EVERY = 4  # every fourth image is taken in low light
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
PAINTS: tuple[Color, ...] = (
    (172, 30, 34),
    (38, 66, 140),
    (40, 42, 46),
    (205, 206, 208),
    (110, 116, 122),
    (34, 92, 66),
    (196, 148, 40),
)


def tasks(settings: Synthetic) -> list[tuple[Split, int]]:
    """The images to draw: (split, index)."""
    return [(split, index) for split in FOLDERS for index in range(getattr(settings, split))]


def write(settings: Synthetic, task: tuple[Split, int], folder: Path) -> tuple[Split, str, list[XYWH]]:
    """Draw one image; its boxes go into the annotation file of its split, which `finish` writes."""
    split, index = task
    drawn = scene(settings.seed, split, index, settings.height, settings.width)
    name = f"street_{split}_{index:04d}.jpg"
    write_image(folder / FOLDERS[split] / name, drawn.image)
    return split, name, [xywh for _, xywh in drawn.objects]


def finish(settings: Synthetic, folder: Path, rows: Sequence[tuple[Split, str, list[XYWH]]]) -> None:
    """Write `<split>/_annotations.coco.json`; category 0 is the empty supercategory that Roboflow puts first."""
    for split, name in FOLDERS.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for _, file_name, boxes in (row for row in rows if row[0] == split):
            for x, y, w, h in boxes:
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": len(images),
                        "category_id": 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "segmentation": [],
                        "iscrowd": 0,
                    }
                )
            size = {"height": settings.height, "width": settings.width}
            images.append({"id": len(images), "file_name": file_name, **size})
        categories = [
            {"id": 0, "name": "license-plates", "supercategory": "none"},
            {"id": 1, "name": CLASS, "supercategory": "license-plates"},
        ]
        content = {"info": {"version": "1"}, "categories": categories, "images": images, "annotations": annotations}
        write_json(folder / name / "_annotations.coco.json", content)


def scene(seed: int, split: Split, index: int, height: int, width: int) -> Scene:
    """Draw image `index` of a split; boxes are tight around the visible part of each plate."""
    rng = generator(seed, "plates", split, index)
    canvas = Canvas(height, width)
    horizon = rng.uniform(0.28, 0.42)
    _street(rng, canvas, horizon)
    for _ in range(int(rng.integers(1, 4))):
        layer = canvas.layer()
        _sign(rng, layer, height, width, horizon)
        canvas.paste(layer)
    boxes = [_car(rng, canvas, lane, horizon) for lane in _lanes(rng, CARS[index % len(CARS)])]
    dark = index % DARK_EVERY == DARK_EVERY - 1
    pixels = canvas.finish()
    if dark:  # dim and bluish, plates a little less so: they throw light back
        for x, y, w, h in boxes:
            pixels[int(y) : int(y + h), int(x) : int(x + w)] *= 1.5
    gain = rng.uniform(0.3, 0.48) if dark else rng.uniform(0.75, 1.12)
    tint = np.array([0.85, 0.95, 1.15]) if dark else 1 + rng.uniform(-0.06, 0.06, 3)
    image = expose(rng, pixels, gain, tint, rng.uniform(4, 8) if dark else rng.uniform(1.5, 5))
    return Scene(image, tuple((0, box) for box in boxes))


def _lanes(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """(center, width) of the cars as shares of the image width, the farthest first; none covers another."""
    shares = rng.uniform(0.75, 1.25, count)
    edges = np.concatenate([[0], np.cumsum(shares / shares.sum())]) if count else np.zeros(1)
    cars = []
    for left, right in pairwise(edges):
        room = right - left
        size = min(rng.uniform(0.6, 0.95) * room, rng.uniform(0.35, 0.8))
        cars.append((float(rng.uniform(left + size / 2, right - size / 2)), float(size)))
    return sorted(cars, key=lambda car: car[1])


def _street(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    """Sky, houses with windows and the road."""
    height, width = canvas.height, canvas.width
    down = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([165, 190, 220]) + rng.normal(0, 22) + 60 * down + texture(rng, height, width, [(3, 14)])
    road = np.array([92, 92, 96]) + rng.normal(0, 14) + texture(rng, height, width, [(4, 14), (60, 7)])
    canvas.fill(np.where(down < horizon, sky, road))
    layer = canvas.layer()
    x = -rng.uniform(0, 0.1) * width
    while x < width:
        w, top = rng.uniform(0.14, 0.34) * width, rng.uniform(0, 0.2) * height
        foot = (horizon + 0.06) * height
        layer.polygon(_quad(x, top, x + w, foot), shade(rng, (150, 128, 112), 34))
        step, pane = rng.uniform(0.045, 0.08) * width, shade(rng, (82, 94, 110), 20)
        for column in np.arange(x + step * 0.4, x + w - step * 0.7, step):
            for row in np.arange(top + step * 0.5, foot - step, step * 1.3):
                layer.polygon(_quad(column, row, column + step * 0.5, row + step * 0.7), pane)
        x += w + rng.uniform(0, 0.06) * width
    vanish = rng.uniform(0.35, 0.65) * width
    for lane in np.arange(-0.6, 1.7, rng.uniform(0.35, 0.6)):
        for near in (0.45, 0.75):
            parts = (near, near + 0.15)  # from the vanishing point to the lower edge
            ends = [(vanish + (lane * width - vanish) * p, (horizon + (1 - horizon) * p) * height) for p in parts]
            layer.line(ends, (214, 212, 200), 0.012 * width)
    canvas.paste(layer)


def _sign(rng: np.random.Generator, layer: Layer, height: int, width: int, horizon: float) -> None:
    """A board with words on a pole or a wall: text and a frame, but no plate."""
    w = rng.uniform(0.09, 0.22) * width
    h = w * rng.uniform(0.3, 1.0)
    x, y = rng.uniform(0, width - w), rng.uniform(0.02, horizon) * height
    if rng.uniform() < 0.6:
        layer.line([(x + w / 2, y + h), (x + w / 2, (horizon + 0.2) * height)], (96, 98, 100), 0.012 * width)
    back, ink = SIGNS[int(rng.integers(len(SIGNS)))]
    word = "".join(rng.choice(list(LETTERS), int(rng.integers(3, 6))))
    layer.warp(_board(word, back, ink, w / h), _quad(x, y, x + w, y + h))


def _car(rng: np.random.Generator, canvas: Canvas, lane: tuple[float, float], horizon: float) -> XYWH:
    """A car from behind, turned a little; returns the box of its plate."""
    center, share = lane
    w = share * canvas.width
    h = w * rng.uniform(0.66, 0.82)
    x = center * canvas.width - w / 2
    floor = min((horizon + rng.uniform(0.2, 0.3) + 0.5 * share) * canvas.height, 0.97 * canvas.height)
    turn = rng.choice([-1, 1]) * rng.uniform(0, 0.42)  # the far side is lower by this share
    roll = rng.uniform(-0.16, 0.16)

    def at(u: float, v: float) -> Point:  # u, v from 0 (left, roof) to 1 (right, road)
        side = 1 - abs(turn) * (u if turn > 0 else 1 - u)
        return x + u * w, floor - h * side * (1 - v) * 0.98 + roll * (u - 0.5) * w * (1 - v)

    layer = canvas.layer()
    _body(rng, layer, at)
    canvas.paste(layer)
    plate = canvas.layer()
    width, high = rng.uniform(0.36, 0.52), rng.uniform(0.56, 0.66)
    left = 0.5 - width / 2 + rng.uniform(-0.04, 0.04)
    tall = width * w / rng.uniform(2.6, 4.2) / h
    corners = [at(u, v) for u, v in _quad(left, high, left + width, high + tall)]
    text = "".join(rng.choice(list(LETTERS), 2)) + " " + "".join(str(digit) for digit in rng.integers(0, 10, 4))
    back, ink = PLATES[int(rng.integers(len(PLATES)))]
    plate.warp(_board(text, back, ink, 4.0), corners)
    box = canvas.paste(plate)
    assert box is not None, "a plate lies inside its car, and the car inside the image"
    return box


def _body(rng: np.random.Generator, layer: Layer, at: Callable[[float, float], Point]) -> None:
    def part(points: Sequence[Point], color: Color) -> None:
        layer.polygon([at(u, v) for u, v in points], color)

    paint = shade(rng, PAINTS[int(rng.integers(len(PAINTS)))], 12)
    darker: Color = (paint[0] * 3 // 5, paint[1] * 3 // 5, paint[2] * 3 // 5)
    inset = rng.uniform(0.1, 0.2)
    part([(0.0, 0.97), (1.0, 0.97), (0.98, 1.0), (0.02, 1.0)], (34, 34, 36))  # its shadow
    for left in (0.06, 0.78):
        part(_quad(left, 0.75, left + 0.16, 1.0), (24, 24, 26))
    part([(inset, 0.03), (1 - inset, 0.03), (0.97, 0.42), (1.0, 0.85), (0.0, 0.85), (0.03, 0.42)], paint)
    window = [(inset + 0.05, 0.08), (0.95 - inset, 0.08), (0.88, 0.38), (0.12, 0.38)]
    part(window, shade(rng, (54, 66, 78), 10))
    part([(0.0, 0.76), (1.0, 0.76), (0.98, 0.9), (0.02, 0.9)], darker)
    for left in (0.03, 0.81):
        part(_quad(left, 0.46, left + 0.16, 0.58), (215, 40, 36))


def _quad(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _board(text: str, back: Color, ink: Color, aspect: float) -> Image.Image:
    """A framed board with text as a flat RGBA picture, 96 pixels high."""
    size = (max(round(96 * aspect), 48), 96)
    board = Image.new("RGBA", size, (*ink, 255))
    pen = ImageDraw.Draw(board)
    pen.rectangle([5, 5, size[0] - 6, size[1] - 6], fill=(*back, 255))
    font = ImageFont.load_default(72)
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    letters = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(letters).text((-left, -top), text, 255, font)
    room = (size[0] - 30, min(58, size[1] - 30))
    fitted = letters.resize((min(room[0], letters.width), room[1]) if letters.width < room[0] else room)
    board.paste((*ink, 255), ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2), fitted)
    return board


PLATES: tuple[tuple[Color, Color], ...] = (  # background, ink
    ((238, 238, 232), (20, 20, 24)),
    ((240, 206, 60), (24, 22, 20)),
    ((226, 230, 236), (24, 40, 110)),
)
SIGNS: tuple[tuple[Color, Color], ...] = (
    ((30, 70, 160), (235, 235, 235)),
    ((24, 110, 70), (235, 235, 235)),
    ((176, 34, 34), (240, 236, 230)),
    ((200, 196, 188), (120, 40, 36)),
    ((60, 56, 54), (220, 190, 90)),
)

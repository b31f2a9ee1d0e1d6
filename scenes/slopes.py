"""Photographs of slopes with their drainage, as a YOLO data set: the classes and the trouble of study `slopes`.

`rock_toe` (stones at the foot), `slope_drain` (a stepped channel down the face), `toe_drain` (a channel along the foot,
rare) and `vegetation` (a shrub) come in the published proportions, and the validation split has three `toe_drain` only.
Image k of a split depends on (seed, split, k) alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrace.config.data import Split, Synthetic
from retrace.files import write_text
from scenes.canvas import XYWH, Canvas, Layer, Point, Scene, expose, shade, texture
from scenes.draw import generator, write_image

CLASSES = ("rock_toe", "slope_drain", "toe_drain", "vegetation")
DECK = (35, 36, 13, 16)  # instances per class in every hundred (STUDIES.md, section 4)
TOE_DRAIN = CLASSES.index("toe_drain")
VAL_TOE_DRAINS = 3  # the published validation split had three
OBJECTS = (2, 4, 3, 3)  # in images 0, 1, 2, 3, and so on round
FOLDERS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}


def tasks(settings: Synthetic) -> list[tuple[Split, int]]:
    """The images to draw: (split, index)."""
    return [(split, index) for split in FOLDERS for index in range(getattr(settings, split))]


def write(settings: Synthetic, task: tuple[Split, int], folder: Path) -> None:
    """Draw one image and its label file."""
    split, index = task
    drawn = scene(settings.seed, split, index, settings.height, settings.width)
    stem = f"slope_{split}_{index:04d}"
    write_image(folder / FOLDERS[split] / "images" / f"{stem}.jpg", drawn.image)
    rows = [_row(label, xywh, settings.height, settings.width) for label, xywh in drawn.objects]
    write_text(folder / FOLDERS[split] / "labels" / f"{stem}.txt", "".join(rows))


def finish(settings: Synthetic, folder: Path, rows: Sequence[None]) -> None:
    """Write data.yaml."""
    folders = "".join(f"{split}: {name}/images\n" for split, name in FOLDERS.items())
    write_text(folder / "data.yaml", f"{folders}nc: {len(CLASSES)}\nnames: [{', '.join(CLASSES)}]\n")


def labels(seed: int, split: Split, index: int) -> list[int]:
    """Class indices of the objects of image `index`, dealt from shuffled decks of a hundred with exact proportions."""
    count = OBJECTS[index % len(OBJECTS)]
    first = sum(OBJECTS) * (index // len(OBJECTS)) + sum(OBJECTS[: index % len(OBJECTS)])
    deck = [label for label, copies in enumerate(DECK) for _ in range(copies)]
    if split == "val":
        deck = [label for label in deck if label != TOE_DRAIN]
    dealt = []
    for place in range(first, first + count):
        shuffled = generator(seed, "slopes", "deck", split, place // len(deck)).permutation(deck)
        dealt.append(int(shuffled[place % len(deck)]))
    if split == "val" and index < VAL_TOE_DRAINS:
        dealt[-1] = TOE_DRAIN
    return dealt


def scene(seed: int, split: Split, index: int, height: int, width: int) -> Scene:
    """Draw image `index` of a split; boxes are tight around what was drawn and lie inside the image."""
    rng = generator(seed, "slopes", split, index)
    canvas = Canvas(height, width)
    toe = _ground(rng, canvas)
    objects: list[tuple[int, XYWH]] = []
    taken: list[XYWH] = []
    for label, paint in LOOK_ALIKES:
        if rng.uniform() < 0.4:
            place = _place(rng, label, toe, height, width, taken)
            layer = canvas.layer()
            paint(rng, layer, place)
            canvas.paste(layer)
            taken.append(place)
    order = {1: 0, 3: 1, 2: 2, 0: 3}  # from the face down to the foot: what is nearer covers what is behind
    for label in sorted(labels(seed, split, index), key=lambda label: order[label]):
        place = _place(rng, label, toe, height, width, taken)
        layer = canvas.layer()
        PAINTERS[label](rng, layer, place)
        box = canvas.paste(layer)
        assert box is not None, "every place lies inside the image"
        taken.append(box)
        objects.append((label, box))
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    haze = max(0.0, rng.uniform(-0.5, 0.5))  # every second photograph is a little hazy
    pixels = canvas.finish() * (1 - haze) + np.array([176, 182, 190]) * haze
    image = expose(rng, pixels, rng.uniform(0.6, 1.15), tint, rng.uniform(2, 8))
    return Scene(image, tuple(objects))


def _row(label: int, xywh: XYWH, height: int, width: int) -> str:
    x, y, w, h = xywh
    return f"{label} {(x + w / 2) / width!r} {(y + h / 2) / height!r} {w / width!r} {h / height!r}\n"


def _ground(rng: np.random.Generator, canvas: Canvas) -> float:
    """Sky, the grassy face and the berm before it; returns the height of the foot line as a fraction of the image."""
    height, width = canvas.height, canvas.width
    crest, toe = rng.uniform(0.05, 0.22), rng.uniform(0.6, 0.72)
    across = np.linspace(-0.5, 0.5, width)[None, :]
    down = np.linspace(0, 1, height)[:, None]
    wave = 0.04 * np.sin(across * rng.uniform(3, 12) + rng.uniform(0, 6))
    is_sky = (down < crest + rng.uniform(-0.2, 0.2) * across + wave)[..., None]
    is_berm = (down > toe + rng.uniform(-0.06, 0.06) * across)[..., None]
    sky = np.array([170, 195, 225]) + rng.normal(0, 18) + texture(rng, height, width, [(3, 18)])
    dry, green = np.array([150, 132, 92.0]), np.array([112, 126, 74.0])
    mix = np.clip(rng.uniform(0.1, 0.9) + texture(rng, height, width, [(3, 0.45)]), 0, 1)
    face = mix * green + (1 - mix) * dry + texture(rng, height, width, [(5, 22), (24, 14), (70, 10)])
    berm = rng.choice([[128, 112, 90], [116, 116, 118], [138, 130, 104]])
    berm = berm + texture(rng, height, width, [(4, 16), (50, 9)])
    canvas.fill(np.where(is_sky, sky, np.where(is_berm, berm, face)))
    layer = canvas.layer()
    for _ in range(rng.integers(2, 7)):  # bare patches and single stones: like the objects in color, not in shape
        x, y, size = rng.uniform(0, width), rng.uniform(0.3, 1) * height, rng.uniform(0.01, 0.05) * width
        layer.ellipse((x, y), (size * rng.uniform(1, 3), size * 0.5), shade(rng, (125, 110, 85), 22), 170)
    canvas.paste(layer)
    return toe


def _place(rng: np.random.Generator, label: int, toe: float, height: int, width: int, taken: list[XYWH]) -> XYWH:
    """A place for an object, the least covered of some tries: (x, y, w, h) inside the image."""
    best, least = (0.0, 0.0, 1.0, 1.0), float("inf")
    for attempt in range(60):
        shrink = 1 - attempt / 150
        w, h = rng.uniform(*WIDTHS[label]) * shrink * width, rng.uniform(*HEIGHTS[label]) * shrink * height
        x = rng.uniform(0.01 * width, 0.99 * width - w)
        if label == CLASSES.index("slope_drain"):
            y = max(0.05 * height, (toe + rng.uniform(-0.12, 0.02)) * height - h)
        elif label == CLASSES.index("vegetation"):
            y = rng.uniform(0.15 * height, 0.92 * height - h)
        else:  # at the foot or a little before it
            y = min((toe + rng.uniform(-0.06, 0.2)) * height, 0.98 * height - h)
        place = (x, y, w, h)
        covered = sum(_shared(place, other) for other in taken)
        if covered < least:
            best, least = place, covered
        if least < 0.05:
            break
    return best


def _shared(a: XYWH, b: XYWH) -> float:
    """Overlap as a share of the smaller box."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min(a[2] * a[3], b[2] * b[3])


def _rock_toe(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    x, y, w, h = place
    size = h / rng.uniform(2.6, 3.6)
    base = rng.choice([[128, 124, 120], [112, 116, 124], [140, 128, 112]])
    for row in np.arange(size * 0.6, h - size * 0.4, size * 0.75):
        inset = (h - row) / h * 0.22 * w  # a heap: wider at the foot
        for column in np.arange(inset + size * 0.6, w - inset - size * 0.4, size * 0.95):
            center = (x + column + rng.normal(0, size * 0.12), y + row + rng.normal(0, size * 0.08))
            stone = _blob(rng, center, size * rng.uniform(0.5, 0.68), 7)
            layer.polygon([(px, py + size * 0.1) for px, py in stone], (48, 46, 44))
            layer.polygon(stone, shade(rng, base, 26))


def _slope_drain(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    x, y, w, h = place
    top, lean = rng.uniform(0.45, 0.7) * w, rng.uniform(0, 1)
    start = x + lean * (w - top)
    rim, bed = shade(rng, (196, 194, 188), 12), shade(rng, (104, 104, 104), 14)

    def across(down: float, part: float) -> Point:  # part 0..1 from the left rim to the right
        left, right = start + down * (x - start), start + top + down * (x + w - start - top)
        return left + part * (right - left), y + down * h

    layer.polygon([across(0, 0), across(0, 1), across(1, 1), across(1, 0)], rim)
    layer.polygon([across(0, 0.24), across(0, 0.76), across(1, 0.76), across(1, 0.24)], bed)
    steps = int(rng.integers(5, 11))
    for step in range(1, steps):
        down = step / steps
        layer.line([across(down, 0.24), across(down, 0.76)], shade(rng, (168, 166, 160), 10), h / steps * 0.22)


def _toe_drain(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    x, y, w, h = place
    drop = rng.uniform(-0.3, 0.3) * h  # it follows the foot, seldom level
    thick = h - abs(drop)
    rim, bed = shade(rng, (186, 182, 172), 12), shade(rng, (44, 56, 66), 10)

    def along(part: float, down: float) -> Point:  # down 0..1 from the far rim to the near one
        return x + part * w, y + max(drop, 0) * part + max(-drop, 0) * (1 - part) + down * thick

    layer.polygon([along(0, 0), along(1, 0), along(1, 1), along(0, 1)], rim)
    layer.polygon([along(0, 0.26), along(1, 0.26), along(1, 0.74), along(0, 0.74)], bed)
    slabs = int(rng.integers(4, 8))
    for slab in range(1, slabs):
        part = slab / slabs
        layer.line([along(part, 0.2), along(part, 0.8)], rim, thick * 0.22)


def _vegetation(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    x, y, w, h = place
    base = rng.choice([[42, 92, 40], [58, 104, 36], [36, 80, 52]])
    radius = min(w, h) * 0.2
    layer.ellipse((x + w / 2, y + h * 0.9), (w * 0.42, h * 0.1), (34, 40, 26))
    for _ in range(int(rng.integers(26, 40))):
        angle, far = rng.uniform(0, np.pi), np.sqrt(rng.uniform(0, 1))
        side, up = np.cos(angle) * far * (w / 2 - radius), np.sin(angle) * far * (h - 2 * radius)
        layer.polygon(
            _blob(rng, (x + w / 2 + side, y + h - radius - up), radius * rng.uniform(0.6, 1), 9), shade(rng, base, 20)
        )


def _stairs(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    """Steps for inspectors: as long as a slope drain, without rims and bed."""
    x, y, w, h = place
    steps, slant = int(rng.integers(7, 13)), rng.uniform(-0.4, 0.4) * w
    color = shade(rng, (172, 168, 160), 14)
    for step in range(steps):
        left, top = x + 0.25 * w + slant * step / steps, y + h * step / steps
        layer.polygon(_quad(left, top, left + 0.5 * w, top + h / steps * 0.5), shade(rng, color, 6))


def _rail(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    """A guard rail along the foot: as long as a toe drain, on posts."""
    x, y, w, h = place
    color = shade(rng, (190, 192, 196), 14)
    for post in np.linspace(x + 0.04 * w, x + 0.92 * w, int(rng.integers(4, 8))):
        layer.polygon(_quad(post, y, post + 0.03 * w, y + h), shade(rng, (96, 94, 92), 10))
    layer.polygon(_quad(x, y, x + w, y + 0.4 * h), color)


def _rubble(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    """Single stones that lie apart: no heap."""
    x, y, w, h = place
    for _ in range(int(rng.integers(3, 7))):
        center = (x + rng.uniform(0.1, 0.9) * w, y + rng.uniform(0.2, 0.8) * h)
        layer.polygon(_blob(rng, center, h * rng.uniform(0.1, 0.2), 7), shade(rng, (128, 124, 120), 22))


def _withered(rng: np.random.Generator, layer: Layer, place: XYWH) -> None:
    """A dry tuft: a shrub's size, bare and brown."""
    x, y, w, h = place
    for _ in range(int(rng.integers(14, 24))):
        tip = (x + rng.uniform(0, 1) * w, y + rng.uniform(0, 0.5) * h)
        layer.line([(x + w * rng.uniform(0.4, 0.6), y + h), tip], shade(rng, (140, 112, 70), 20), 0.04 * w)


def _quad(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _blob(rng: np.random.Generator, center: Point, radius: float, corners: int) -> list[Point]:
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    reach = radius * rng.uniform(0.75, 1.1, corners)
    xs, ys = center[0] + reach * np.cos(angles) * 1.15, center[1] + reach * np.sin(angles) * 0.85
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


# by class index: ranges as shares of the image, and the painter
WIDTHS = ((0.2, 0.46), (0.1, 0.2), (0.28, 0.58), (0.1, 0.26))
HEIGHTS = ((0.1, 0.2), (0.28, 0.54), (0.06, 0.12), (0.1, 0.24))
PAINTERS = (_rock_toe, _slope_drain, _toe_drain, _vegetation)
LOOK_ALIKES = (
    (1, _stairs),
    (2, _rail),
    (0, _rubble),
    (3, _withered),
)  # unlabelled; placed like the class they resemble

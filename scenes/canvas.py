"""A picture made of layers, for detection scenes: each labelled thing has its own layer, so its box is exact."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from scenes.draw import noise

SUPER = 3  # shapes are drawn at three times the size and averaged down: smooth edges

Point = tuple[float, float]
Color = tuple[int, int, int]
XYWH = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """One finished image: uint8 [H, W, 3] RGB and its objects (class index, (x, y, width, height) in pixels)."""

    image: np.ndarray
    objects: tuple[tuple[int, XYWH], ...]


@dataclass
class Canvas:
    """An RGB picture of height x width pixels; all coordinates are in pixels of the finished image."""

    height: int
    width: int
    picture: Image.Image = field(init=False)

    def __post_init__(self):
        self.picture = Image.new("RGB", (self.width * SUPER, self.height * SUPER))

    def fill(self, pixels: np.ndarray) -> None:
        """Set the whole picture from float [H, W, 3], 0-255."""
        small = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        self.picture = small.resize(self.picture.size, Image.Resampling.BICUBIC)

    def layer(self) -> "Layer":
        """A transparent layer; draw on it, then `paste` it."""
        return Layer(Image.new("RGBA", self.picture.size))

    def paste(self, layer: "Layer") -> XYWH | None:
        """Put a layer on top and return the box of its visible pixels; None when it lies outside the picture."""
        self.picture.paste(layer.picture, (0, 0), layer.picture)
        # a sliver of under half coverage is not visible in the finished image
        bounds = layer.picture.getchannel("A").reduce(SUPER).point(lambda a: 255 * (a >= 128)).getbbox()
        if bounds is None:
            return None
        left, top, right, bottom = bounds
        return float(left), float(top), float(right - left), float(bottom - top)

    def finish(self) -> np.ndarray:
        """The averaged picture, float [H, W, 3], 0-255."""
        return np.asarray(self.picture.reduce(SUPER), np.float64)


@dataclass
class Layer:
    """Shapes on a transparent ground."""

    picture: Image.Image

    def polygon(self, points: Sequence[Point], color: Color, alpha: int = 255) -> None:
        """A filled polygon."""
        ImageDraw.Draw(self.picture).polygon([(x * SUPER, y * SUPER) for x, y in points], fill=(*color, alpha))

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """A line of `width` pixels."""
        ends = [(x * SUPER, y * SUPER) for x, y in points]
        ImageDraw.Draw(self.picture).line(ends, fill=(*color, 255), width=max(1, round(width * SUPER)), joint="curve")

    def ellipse(self, center: Point, radii: Point, color: Color, alpha: int = 255) -> None:
        """A filled upright ellipse."""
        (x, y), (a, b) = center, radii
        box = [(x - a) * SUPER, (y - b) * SUPER, (x + a) * SUPER, (y + b) * SUPER]
        ImageDraw.Draw(self.picture).ellipse(box, fill=(*color, alpha))

    def warp(self, flat: Image.Image, corners: Sequence[Point]) -> None:
        """Paste an RGBA image seen in perspective: its corners (clockwise from top left) land on `corners`."""
        width, height = flat.size
        source = [(0, 0), (width, 0), (width, height), (0, height)]
        left, top = (int(min(point[axis] for point in corners)) * SUPER for axis in (0, 1))
        size = [int(max(point[axis] for point in corners) + 1) * SUPER - start for axis, start in ((0, left), (1, top))]
        target = [(x * SUPER - left, y * SUPER - top) for x, y in corners]
        rows, values = [], []
        for (u, v), (x, y) in zip(source, target, strict=True):
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
            values += [u, v]
        homography = np.linalg.solve(np.array(rows, float), np.array(values, float)).tolist()
        warped = flat.transform(
            (size[0], size[1]),
            Image.Transform.PERSPECTIVE,
            homography,
            Image.Resampling.BICUBIC,
            fillcolor=(0, 0, 0, 0),
        )
        self.picture.paste(warped, (left, top), warped)


def texture(rng: np.random.Generator, height: int, width: int, octaves: Sequence[tuple[int, float]]) -> np.ndarray:
    """Sum of noises, float32 [H, W, 1]: pairs of (blobs across the shorter side, amplitude)."""
    total = np.zeros((height, width), np.float32)
    for cells, amplitude in octaves:
        total += amplitude * noise(rng, (height, width), min(height, width) / cells, 1)
    return total[..., None]


def shade(rng: np.random.Generator, color: Sequence[float], spread: float) -> Color:
    """A random variation of a color: one common step of brightness and a small one per channel."""
    step = rng.normal(0, spread) + rng.normal(0, spread / 4, 3)
    red, green, blue = np.clip(np.asarray(color) + step, 0, 255).astype(int).tolist()
    return red, green, blue


def expose(rng: np.random.Generator, pixels: np.ndarray, gain: float, tint: np.ndarray, grain: float) -> np.ndarray:
    """What the camera adds: uneven light, gain, color tint and sensor noise; uint8 [H, W, 3]."""
    height, width = pixels.shape[:2]
    light = gain * (1 + texture(rng, height, width, [(2, 0.18)]))
    noisy = pixels * light * tint + rng.normal(0, grain, pixels.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)

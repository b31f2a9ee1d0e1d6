"""Drawing for the scene generators: a canvas with color, exact labels and depth, noise textures, light and lens.

Colors are RGB in 0..1 (float32). A shape's edge is anti-aliased in the picture and never in the label: a pixel gets the
label of the shape that covers at least half of it. Light and haze come at the end, from the depth of every pixel.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from retrace.files import write_bytes
from retrace.seeds import derive

Color = tuple[float, float, float]
Array = NDArray[Any]  # float32 pictures and fields; float64 coordinates
SHIFT = 4  # fractional bits of cv2 coordinates


def generator(seed: int, *parts: int | str) -> np.random.Generator:
    """The random numbers of one purpose; see `seeds.derive`."""
    return np.random.default_rng(derive(seed, *parts))


def vary(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """The color, a little brighter or darker and a little shifted in hue (`amount` = largest relative change)."""
    change = (1 + rng.uniform(-amount, amount)) * (1 + rng.uniform(-amount / 3, amount / 3, 3))
    red, green, blue = (float(c) for c in np.clip(np.asarray(color) * change, 0, 1))
    return red, green, blue


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 3) -> Array:
    """Smooth value noise in -1..1, float32 [H, W]; `cell` is the size of the coarsest blobs in pixels."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    weight = 0.0
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        grid = rng.random((int(height / size) + 3, int(width / size) + 3), dtype=np.float32) * 2 - 1
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
        weight += 0.5**octave
    return np.clip(total / weight * 1.4, -1, 1)


def seamless(tile: Array) -> Array:
    """The tile beside and above its mirror images, so that it repeats without a seam."""
    wide = np.concatenate([tile, tile[:, ::-1]], 1)
    return np.concatenate([wide, wide[::-1]], 0)


def sample(tile: Array, u: Array, v: Array) -> Array:
    """Look a `seamless` tile up at (u, v) in tile pixels, at most 30000 from the origin, repeating it without end."""
    return cv2.remap(tile, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@dataclass(frozen=True)
class Glow:
    """A burning lamp: pixel (u, v), radius in pixels, distance in metres (what stands before it hides it)."""

    u: float
    v: float
    radius: float
    color: Color
    depth: float


@dataclass
class Canvas:
    """The picture being drawn. `depth` in metres, infinite where the sky is."""

    image: Array  # [H, W, 3]
    label: NDArray[np.uint16]  # [H, W]
    depth: Array  # [H, W]
    glows: list["Glow"] = field(default_factory=list)

    @classmethod
    def blank(cls, height: int, width: int, label: int = 0) -> "Canvas":
        return cls(
            np.zeros((height, width, 3), np.float32),
            np.full((height, width), label, np.uint16),
            np.full((height, width), np.inf, np.float32),
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.label.shape[0], self.label.shape[1]

    def blend(
        self, rows: slice, columns: slice, cover: Array, color: ArrayLike, label: int | None, depth: ArrayLike
    ) -> None:
        """Lay `color` ([3] or [h, w, 3]) over a rectangle, opacity `cover` [h, w]; half covered takes the label."""
        part = self.image[rows, columns]
        part += cover[..., None] * (np.asarray(color, np.float32) - part)
        inside = cover >= 0.5
        if label is not None:
            self.label[rows, columns][inside] = label
        np.copyto(self.depth[rows, columns], np.asarray(depth, np.float32), where=inside)

    def polygon(
        self, points: ArrayLike, color: ArrayLike, label: int | None, depth: float, texture: Array | None = None
    ) -> None:
        """Fill a polygon ([N, 2] columns, rows in pixels). `texture` [H, W] in -1..1 is multiplied onto the color."""
        self._shape(np.asarray(points, np.float64)[None], None, color, label, depth, texture)

    def polygons(self, points: ArrayLike, color: ArrayLike, label: int | None, depth: float) -> None:
        """Fill several polygons that do not overlap, [K, N, 2], in one stroke."""
        self._shape(np.asarray(points, np.float64), None, color, label, depth, None)

    def line(self, points: ArrayLike, thickness: float, color: ArrayLike, label: int | None, depth: float) -> None:
        """Draw an open line of at least one pixel."""
        self._shape(np.asarray(points, np.float64)[None], max(1, round(thickness)), color, label, depth, None)

    def ellipse(
        self, center: tuple[float, float], axes: tuple[float, float], color: ArrayLike, label: int | None, depth: float
    ) -> None:
        """Fill an upright ellipse; `axes` are half-widths in pixels."""
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack([center[0] + axes[0] * np.cos(turn), center[1] + axes[1] * np.sin(turn)], 1)
        self.polygon(ring, color, label, depth)

    def _shape(self, points, thickness, color, label, depth, texture) -> None:
        height, width = self.shape
        margin = 1 if thickness is None else thickness + 1
        left, top = np.maximum(np.floor(points.min((0, 1))).astype(int) - margin, 0)
        right, bottom = np.minimum(np.ceil(points.max((0, 1))).astype(int) + margin + 1, (width, height))
        if right <= left or bottom <= top:
            return
        cover = np.zeros((bottom - top, right - left), np.uint8)
        # clipped far outside the picture: cv2 holds coordinates in 32 bits
        fixed = np.round(np.clip(points - (left, top), -4096, 4096) * 2**SHIFT).astype(np.int32)
        if thickness is None:
            cv2.fillPoly(cover, list(fixed), 255, cv2.LINE_AA, SHIFT)
        else:
            cv2.polylines(cover, list(fixed), False, 255, thickness, cv2.LINE_AA, SHIFT)
        rows, columns = slice(top, bottom), slice(left, right)
        paint = np.asarray(color, np.float32)
        if texture is not None:
            paint = paint * (1 + texture[rows, columns, None])
        self.blend(rows, columns, cover.astype(np.float32) / 255, paint, label, depth)


@dataclass(frozen=True)
class Light:
    """Time of day and weather."""

    top: Color  # the sky above
    low: Color  # the sky at the horizon, and the haze
    tint: Color  # light that falls on everything
    fog: float  # metres after which 63 % of the light is haze
    lamps: float = 0.0  # strength of the own headlights; other vehicles and street lamps are lit too
    shadow: float = 0.0  # how dark cast shadows are
    grain: float = 0.012  # standard deviation of the sensor noise
    rain: int = 0  # streaks


LIGHTS = {
    "day": Light((0.30, 0.50, 0.85), (0.78, 0.87, 0.95), (1.0, 0.98, 0.93), 900, shadow=0.5),
    "overcast": Light((0.66, 0.70, 0.75), (0.82, 0.84, 0.86), (0.74, 0.76, 0.79), 400, shadow=0.12),
    "dusk": Light((0.25, 0.26, 0.45), (0.95, 0.62, 0.42), (0.62, 0.47, 0.42), 350, lamps=0.25, shadow=0.3, grain=0.018),
    "night": Light((0.02, 0.03, 0.06), (0.07, 0.07, 0.11), (0.15, 0.16, 0.21), 260, lamps=1.0, grain=0.026),
    "rain": Light((0.48, 0.51, 0.55), (0.66, 0.68, 0.71), (0.58, 0.61, 0.65), 55, shadow=0.05, grain=0.018, rain=60),
}


def sky(canvas: Canvas, rng: np.random.Generator, light: Light, horizon: float, label: int) -> None:
    """Fill the whole canvas with a gradient and clouds down to the horizon."""
    height, width = canvas.shape
    fall = np.clip(np.arange(height, dtype=np.float32) / max(horizon, 1.0), 0, 1)[:, None, None] ** 1.3
    color = np.asarray(light.top, np.float32) * (1 - fall) + np.asarray(light.low, np.float32) * fall
    clouds = noise(rng, (height, width), width / rng.uniform(2.5, 6), 5)
    cover = np.clip(clouds * 2.2 + rng.uniform(-0.9, 0.5), 0, 1)[..., None] * 0.75
    white = np.clip(np.asarray(light.low, np.float32) * 1.08 + 0.02, 0, 1) * (1 + 0.1 * clouds[..., None])
    canvas.image[:] = color + cover * (white - color)
    canvas.label[:] = label


def expose(canvas: Canvas, rng: np.random.Generator, light: Light, center: float, focal: float) -> NDArray[np.uint8]:
    """Apply light, haze, headlights, lamps, rain, lens and sensor; returns the picture, uint8 [H, W, 3] RGB."""
    height, width = canvas.shape
    solid = np.isfinite(canvas.depth)
    depth = np.where(solid, canvas.depth, np.float32(1e4))
    lit = np.asarray(light.tint, np.float32)
    if light.lamps:
        across = (np.arange(width, dtype=np.float32) - center) / focal
        cone = np.exp(-((across / 0.45) ** 2))[None] * np.exp(-depth / 22) * light.lamps
        lit = lit + cone[..., None] * np.asarray((1.0, 0.95, 0.85), np.float32)
    clear = np.exp(-depth / light.fog)[..., None]
    haze = np.asarray(light.low, np.float32)
    image = np.where(solid[..., None], (canvas.image * lit - haze) * clear + haze, canvas.image)
    for glow in canvas.glows:
        row, column = min(max(int(glow.v), 0), height - 1), min(max(int(glow.u), 0), width - 1)
        if depth[row, column] > glow.depth - 0.5:
            _glow(image, glow)
    if light.rain:
        _streaks(image, rng, light.rain)
    sigma = rng.uniform(0.35, 0.65)  # of the lens, in pixels; OpenCV's blur of float32 differs between processors
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror", radius=(2, 2, 0))
    image *= _vignette(height, width, rng.uniform(0.05, 0.22))
    curve = np.clip(np.arange(256) / 255 * rng.uniform(0.9, 1.1), 0, 1) ** rng.uniform(0.9, 1.12)
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(light.grain)
    return (curve * 255).round().astype(np.uint8)[np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)]


def _glow(image: Array, glow: Glow) -> None:
    height, width = image.shape[:2]
    u, v, radius, color = glow.u, glow.v, glow.radius, glow.color
    reach = int(3 * radius) + 2
    left, right = max(int(u) - reach, 0), min(int(u) + reach + 1, width)
    top, bottom = max(int(v) - reach, 0), min(int(v) + reach + 1, height)
    if right <= left or bottom <= top:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    spot = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * radius**2))
    image[top:bottom, left:right] += spot[..., None] * np.asarray(color, np.float32)


def _streaks(image: Array, rng: np.random.Generator, count: int) -> None:
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    start = rng.uniform((0, 0), (width, height), (count, 2))
    drift = rng.uniform((-0.01, 0.03), (0.01, 0.09), (count, 2)) * height
    for a, b in zip(start, start + drift, strict=True):
        cv2.line(layer, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 40, 1, cv2.LINE_AA)
    image += layer[..., None].astype(np.float32) / 255 * 0.8


def _vignette(height: int, width: int, strength: float) -> Array:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    x = np.linspace(-1, 1, width, dtype=np.float32)[None] ** 2
    return (1 - np.float32(strength) * (x + y) / 2 * 1.4)[..., None]


def write_image(path: Path, image: NDArray[np.uint8], quality: int = 92) -> None:
    """Write an RGB picture; the suffix (.jpg, .png) chooses the format."""
    _write(
        path,
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else [],
    )


def write_mask(path: Path, mask: NDArray) -> None:
    """Write a one-channel mask as PNG, 8 or 16 bits deep like its dtype."""
    _write(path, mask, [])


def _write(path: Path, image: NDArray, options: list[int]) -> None:
    done, content = cv2.imencode(path.suffix, image, options)
    assert done, f"{path.suffix} could not be encoded"
    write_bytes(path, content.tobytes())


def write_video(path: Path, frames: list[NDArray[np.uint8]], rate: float) -> None:
    """Write RGB frames of one size as MPEG-4 (`mp4v`), `rate` frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    assert writer.isOpened(), "this OpenCV build has no mp4v encoder"
    try:
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()

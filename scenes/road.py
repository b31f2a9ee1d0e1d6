"""A road seen from a car: pinhole camera over flat ground, a curving road, vehicles and what stands beside the road.

Metres: x to the right, y up, z ahead; the road's centre line runs at x = offset + heading z + bend z^2 / 2.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from scenes.draw import Array, Canvas, Color, Glow

DARK: Color = (0.05, 0.05, 0.06)
GLASS: Color = (0.16, 0.19, 0.23)
WALLS: tuple[Color, ...] = (
    (0.62, 0.55, 0.47),
    (0.55, 0.36, 0.30),
    (0.66, 0.66, 0.64),
    (0.42, 0.44, 0.48),
    (0.74, 0.69, 0.58),
)
NEAREST = 1.2  # metres: nothing closer is projected


@dataclass(frozen=True)
class Camera:
    """A level camera; `horizon` (row), `center` (column) and `focal` in pixels, `height` above ground in metres."""

    horizon: float
    center: float
    focal: float
    height: float

    def project(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
        """Pixels [N, 2] of points in metres."""
        scale = self.focal / np.maximum(np.asarray(z, float), NEAREST)
        u = self.center + np.asarray(x, float) * scale
        v = self.horizon + (self.height - np.asarray(y, float)) * scale
        pixels = np.empty((*np.broadcast(u, v).shape, 2))
        pixels[..., 0], pixels[..., 1] = u, v
        return pixels

    def ground(self, shape: tuple[int, int]) -> tuple[int, Array, Array]:
        """First row below the horizon, and x [rows, W], z [rows, 1] of the ground under those pixels."""
        first = max(int(np.floor(self.horizon)) + 1, 0)
        rows = np.arange(first, shape[0], dtype=np.float32)[:, None]
        z = np.minimum(self.focal * self.height / np.maximum(rows - self.horizon, 0.2), 600).astype(np.float32)
        x = (np.arange(shape[1], dtype=np.float32)[None] - self.center) * z / self.focal
        return first, x.astype(np.float32), z


@dataclass(frozen=True)
class Path:
    """The line that the road follows."""

    offset: float  # metres
    heading: float  # tangent at the camera
    bend: float  # 1 / radius, per metre

    def at(self, z: ArrayLike) -> NDArray:
        """x of the centre line at distance z; beyond 120 m the road goes on straight."""
        near = np.minimum(np.asarray(z), 120)
        far = np.asarray(z) - near
        return self.offset + self.heading * near + self.bend * near**2 / 2 + far * (self.heading + self.bend * 120)


def stripe(d: Array, left: ArrayLike, right: ArrayLike, pixel: Array) -> Array:
    """Share of each pixel (`pixel` metres wide, centred at `d`) that lies between `left` and `right`, 0..1."""
    return np.clip((d - left) / pixel + 0.5, 0, 1) - np.clip((d - right) / pixel + 0.5, 0, 1)


def dashes(s: Array, length: float, gap: float, pixel: Array) -> Array:
    """Share of each pixel along the road (`pixel` metres long) that a dash covers, 0..1."""
    period = length + gap
    place = np.mod(s + gap / 2, period) - gap / 2  # the dash is 0..length
    return np.clip(stripe(place, 0.0, length, np.minimum(pixel, period)), 0, 1)


def ribbon(
    canvas: Canvas,
    camera: Camera,
    path: Path,
    lateral: float,
    low: float,
    high: float,
    color: ArrayLike,
    label: int | None,
    reach: float = 90.0,
) -> None:
    """A wall or rail that follows the road at a lateral distance, between two heights in metres; drawn far to near."""
    z = np.geomspace(reach, 2.0, 14)
    x = path.at(z) + lateral
    bottom, top = camera.project(x, low, z), camera.project(x, high, z)
    for k in range(len(z) - 1):
        canvas.polygon([bottom[k], bottom[k + 1], top[k + 1], top[k]], color, label, float(z[k + 1]))


def box(
    canvas: Canvas,
    camera: Camera,
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    color: Color,
    label: int | None,
) -> None:
    """An upright box: its sides darker, the face towards the camera in `color`."""
    corners = [camera.project(x[i], y[j], z[k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    hull = cv2.convexHull(np.asarray(corners, np.float32))[:, 0]
    canvas.polygon(hull, np.asarray(color) * 0.62, label, z[0])
    face = [camera.project(x[i], y[j], z[0]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    canvas.polygon(face, color, label, z[0])


@dataclass(frozen=True)
class Vehicle:
    """A vehicle seen from behind (or from the front when `oncoming`); `x`, `z` = middle of its nearer end."""

    kind: str  # car | van | truck | bus
    x: float
    z: float
    color: Color
    oncoming: bool = False


SIZES = {
    "car": (1.8, 1.45, 4.2),
    "van": (1.95, 2.1, 5.0),
    "truck": (2.5, 3.4, 8.0),
    "bus": (2.55, 3.2, 11.0),
}  # w, h, l in metres


def vehicle(canvas: Canvas, camera: Camera, it: Vehicle, label: int | None, lamps: bool) -> None:
    """Draw a vehicle and the shadow under it; `lamps` lights its lamps. All but the shadow gets `label`."""
    width, height, length = SIZES[it.kind]
    left, right, back = it.x - width / 2, it.x + width / 2, it.z + length
    shade = camera.project(
        [left - 0.15, right + 0.15, right + 0.1, left - 0.1], 0.0, [it.z - 0.25, it.z - 0.25, back, back]
    )
    canvas.polygon(shade, DARK, 0 if label == 0 else None, it.z)
    for wheel in (left + 0.22, right - 0.22):
        box(canvas, camera, (wheel - 0.12, wheel + 0.12), (0.0, 0.5), (it.z + 0.1, it.z + 0.8), DARK, label)
    waist = 0.92 if it.kind == "car" else height * (0.95 if it.kind == "truck" else 0.55)
    box(canvas, camera, (left, right), (0.28, waist), (it.z, back), it.color, label)
    if it.kind != "truck":
        inset = 0.16 if it.kind == "car" else 0.04
        deep = it.z + (0.7 if it.kind == "car" else 0.05)
        roof = (it.color[0] * 0.9, it.color[1] * 0.9, it.color[2] * 0.9)
        box(canvas, camera, (left + inset, right - inset), (waist, height), (deep, back - inset * 6), roof, label)
        pane = camera.project(
            [left + inset + 0.1, right - inset - 0.1, right - inset - 0.18, left + inset + 0.18],
            [waist + 0.03, waist + 0.03, height - 0.1, height - 0.1],
            deep,
        )
        canvas.polygon(pane, GLASS, label, it.z)
    lamp: Color = (0.95, 0.93, 0.85) if it.oncoming else (0.75, 0.08, 0.06)
    for side in (left + 0.24, right - 0.24):
        u, v = camera.project(side, 0.72, it.z)
        size = camera.focal * 0.13 / it.z
        canvas.polygon(
            [(u - size, v - size / 2), (u + size, v - size / 2), (u + size, v + size / 2), (u - size, v + size / 2)],
            lamp,
            label,
            it.z,
        )
        if lamps:
            canvas.glows.append(Glow(u, v, max(size * 1.3, 0.8), lamp, it.z))
    plate = camera.project([it.x - 0.26, it.x + 0.26, it.x + 0.26, it.x - 0.26], [0.45, 0.45, 0.57, 0.57], it.z)
    canvas.polygon(plate, (0.82, 0.82, 0.78), label, it.z)


def skyline(canvas: Canvas, rng: np.random.Generator, camera: Camera, town: bool, labels: tuple[int, int]) -> None:
    """What closes the view: a tree line, and towards the sides buildings in town; labels = (trees, buildings)."""
    height, width = canvas.shape
    columns = np.arange(width, dtype=np.float64)
    rough = np.interp(columns, np.linspace(0, width, 9), rng.uniform(0.01, 0.09, 9)) + np.interp(
        columns, np.linspace(0, width, 60), rng.uniform(-0.01, 0.012, 60)
    )
    top = camera.horizon - np.maximum(rough, 0.004) * height
    green = rng.uniform((0.16, 0.22, 0.12), (0.30, 0.36, 0.22))
    low = camera.horizon + 2
    canvas.polygon([(0, low), *zip(columns, top, strict=True), (width, low)], green, labels[0], 150.0)
    if not town:
        return
    for _ in range(int(rng.integers(5, 11))):
        middle = rng.uniform(0, width)
        tall = height * rng.uniform(0.06, 0.34) * (0.35 + abs(middle - camera.center) / width)
        half = width * rng.uniform(0.03, 0.09)
        facade(canvas, rng, (middle - half, middle + half), (camera.horizon - tall, low), 110.0, labels[1])


def facade(
    canvas: Canvas, rng: np.random.Generator, u: tuple[float, float], v: tuple[float, float], depth: float, label: int
) -> None:
    """A house front with rows of windows, in pixels."""
    wall = np.asarray(WALLS[int(rng.integers(len(WALLS)))]) * rng.uniform(0.7, 1.1)
    step = max((v[1] - v[0]) / rng.integers(4, 9), 3.0)
    share = rng.uniform(0.4, 0.65)
    height, width = canvas.shape
    top, bottom = max(round(v[0]), 0), min(round(v[1]), height)
    left, right = max(round(u[0]), 0), min(round(u[1]), width)
    if bottom <= top or right <= left:
        return
    down = np.mod(np.arange(top, bottom) - v[0], step) / step - 0.3
    along = np.mod(np.arange(left, right) - u[0], step) / step - 0.25
    glass = ((down >= 0) & (down < 0.55))[:, None] & ((along >= 0) & (along < 0.5))[None]
    color = wall * np.where(glass, share, 1.0)[..., None]
    canvas.blend(slice(top, bottom), slice(left, right), np.ones(glass.shape, np.float32), color, label, depth)


def tree(canvas: Canvas, rng: np.random.Generator, camera: Camera, x: float, z: float, label: int) -> None:
    """A broad-leaved tree: trunk and a crown of overlapping blobs."""
    tall = rng.uniform(4, 9)
    trunk = camera.project([x - 0.18, x + 0.18, x + 0.12, x - 0.12], [0, 0, tall * 0.5, tall * 0.5], z)
    canvas.polygon(trunk, (0.22, 0.17, 0.12), label, z)
    green = rng.uniform((0.13, 0.24, 0.09), (0.28, 0.40, 0.18))
    wide = tall * rng.uniform(0.16, 0.3)
    for light in (0.7, 0.95, 1.2):  # lower and shaded leaves first
        for _ in range(5 if camera.focal * wide / z > 4 else 2):
            side, up = rng.normal(0, wide * 0.55), rng.normal(0.55 + 0.13 * light, 0.07)
            u, v = camera.project(x + side, tall * up, z)
            size = camera.focal * wide * rng.uniform(0.25, 0.5) / z
            canvas.ellipse(
                (u, v), (size, size * rng.uniform(0.6, 0.9)), green * light * rng.uniform(0.85, 1.15), label, z
            )


def pole(
    canvas: Canvas,
    rng: np.random.Generator,
    camera: Camera,
    x: float,
    z: float,
    label: int,
    lamps: bool,
    thick: float = 0.14,
) -> None:
    """A lamp post, `thick` metres wide, with its arm over the road."""
    tall = rng.uniform(5.5, 8)
    foot, head = camera.project(x, 0.0, z), camera.project(x, tall, z)
    tip = camera.project(x - np.sign(x) * 1.6, tall + 0.2, z)
    canvas.line([foot, head, tip], camera.focal * thick / z, (0.42, 0.43, 0.45), label, z)
    if lamps:
        canvas.glows.append(Glow(tip[0], tip[1], max(camera.focal * 0.35 / z, 1.0), (1.0, 0.8, 0.5), z))

"""Drawing a road with lane markings: the ground pixel by pixel with exact labels, then what stands on it."""

from dataclasses import dataclass

import numpy as np

from scenes import road
from scenes.draw import LIGHTS, Array, Canvas, Color, Light, noise, sample, seamless, sky

SOLID = 1
DASHED = 2
REACH = {
    "day": 38.0,
    "overcast": 34.0,
    "dusk": 30.0,
    "night": 20.0,
    "rain": 24.0,
}  # metres: how far paint can be made out
WHITE: Color = (0.90, 0.90, 0.88)
YELLOW: Color = (0.85, 0.62, 0.14)


@dataclass(frozen=True)
class Marking:
    """A line along the road at `lateral` metres from its centre line; kind: solid | dashed | yellow (background)."""

    lateral: float
    kind: str
    width: float


@dataclass(frozen=True)
class Road:
    """What the frames of a sequence share."""

    light: str
    town: bool
    lanes: int
    lane: float  # width of a lane, metres
    left: float  # metres from the centre line of the own lane to the road's left edge, negative
    right: float
    markings: tuple[Marking, ...]
    dash: float
    gap: float
    wear: float
    edge: str  # grass | kerb | rail | wall
    asphalt: Color
    verge: Color
    camera: road.Camera
    bend: float  # typical bend, 1 / metres


@dataclass(frozen=True)
class Frame:
    """What one picture adds: where on the road the camera is and who else is there."""

    along: float  # metres
    camera: road.Camera
    path: road.Path
    vehicles: tuple[road.Vehicle, ...]
    arrow: float | None  # metres ahead
    crossing: float | None


def render(way: Road, frame: Frame, rng: np.random.Generator, size: tuple[int, int]) -> Canvas:
    """Draw the scene in unlit colors, far to near."""
    light = LIGHTS[way.light]
    canvas = Canvas.blank(*size)
    sky(canvas, rng, light, frame.camera.horizon, 0)
    road.skyline(canvas, rng, frame.camera, way.town, (0, 0))
    ground(canvas, way, frame, rng, light)
    _painted_signs(canvas, way, frame)
    _roadside(canvas, way, frame, rng, light)
    for car in sorted(frame.vehicles, key=lambda car: -car.z):
        road.vehicle(canvas, frame.camera, car, 0, light.lamps > 0)
    return canvas


def ground(canvas: Canvas, way: Road, frame: Frame, rng: np.random.Generator, light: Light) -> None:
    """Verge, asphalt, markings and cast shadows, pixel by pixel from the ground under each pixel."""
    first, x, z = frame.camera.ground(canvas.shape)
    d = (x - frame.path.at(z)).astype(np.float32)
    s = np.broadcast_to(z + np.float32(frame.along % 1000), d.shape)
    wide, long = z / frame.camera.focal, z**2 / (frame.camera.focal * frame.camera.height)  # metres per pixel
    tile = seamless(noise(rng, (256, 256), 24, 4))
    fine = np.exp(-z / 14)  # texture finer than a pixel averages out
    rough = sample(tile, d * 30, s * 12) * fine
    patchy = sample(tile, d * 3 + 77, s * 1.2 + 31)

    color = np.asarray(way.verge, np.float32) * (1 + 0.28 * rough + 0.2 * patchy)[..., None]
    color = _kerb(color, way, d, s, wide)
    paved = stripe3(d, way.left, way.right, wide)
    tracks = np.cos((d / way.lane) * 4 * np.pi) * 0.04
    tar = (1 + 0.13 * rough + 0.1 * patchy + tracks)[..., None] * np.asarray(way.asphalt, np.float32)
    color += paved * (tar - color)
    for lateral in rng.uniform(way.left, way.right, int(rng.integers(0, 3))):  # filled cracks and concrete joints
        seam = road.stripe(d + 0.25 * patchy, lateral, lateral + 0.07, wide)[..., None] * fine[..., None]
        color *= 1 + seam * (-0.45 if rng.random() < 0.6 else 0.35)

    worn = np.clip(1 - way.wear * (0.45 + 0.9 * patchy + 0.8 * rough), 0.4, 1)
    seen = np.broadcast_to(z < REACH[way.light], d.shape)
    label = np.zeros(d.shape, np.uint16)
    for marking in way.markings:
        cover = road.stripe(d, marking.lateral - marking.width / 2, marking.lateral + marking.width / 2, wide)
        if marking.kind == "dashed":
            cover = cover * road.dashes(s, way.dash, way.gap, long)
        if frame.crossing is not None:
            cover = cover * (1 - road.stripe(z, frame.crossing - 1.5, frame.crossing + 3.6, long))
        paint = np.asarray(YELLOW if marking.kind == "yellow" else WHITE, np.float32)
        color += (cover * worn)[..., None] * (paint - color)
        if marking.kind != "yellow":
            label[(cover >= 0.5) & seen] = SOLID if marking.kind == "solid" else DASHED
    color *= _shadows(rng, d, s, tile, light)[..., None]
    canvas.image[first:] = color
    canvas.depth[first:] = z
    canvas.label[first:] = label


def stripe3(d: Array, left: float, right: float, pixel: Array) -> Array:
    """`road.stripe` with a trailing axis for colors."""
    return road.stripe(d, left, right, pixel)[..., None]


def _kerb(color: Array, way: Road, d: Array, s: Array, wide: Array) -> Array:
    """A light kerb line along both edges in town: looks like a solid marking and is none."""
    if way.edge != "kerb":
        return color
    stone = np.asarray((0.60, 0.59, 0.57), np.float32) * (1 - 0.35 * (np.mod(s, 1.0) < 0.06))[..., None]
    for left in (way.left - 0.22, way.right):
        color = color + stripe3(d, left, left + 0.22, wide) * (stone - color)
        color = color * (1 - 0.4 * stripe3(d, left + 0.2, left + 0.28, wide))
    return color


def _shadows(rng: np.random.Generator, d: Array, s: Array, tile: Array, light: Light) -> Array:
    """Brightness 0..1 of the ground: leafy shadows from the roadside and a bridge or mast now and then."""
    if light.shadow < 0.1 or rng.random() < 0.3:
        return np.ones_like(d)
    side, reach = rng.choice([-1.0, 1.0]), rng.uniform(-2, 5)
    leaves = (
        sample(tile, d * 8 + 11, s * 5 + 3)
        + 0.5 * sample(tile, d * 2.5, s * 1.5)
        - 0.35 * np.maximum(side * d + reach, 0)
        + 0.25
    )
    dark = np.clip(leaves * 5, 0, 1)
    if rng.random() < 0.35:
        begin, slant = rng.uniform(5, 30), rng.uniform(-0.6, 0.6)
        band = np.mod(s + slant * d, 60) - begin
        dark = np.maximum(dark, ((band > 0) & (band < rng.choice([0.3, 2.5, 6.0]))).astype(np.float32))
    return (1 - light.shadow * dark).astype(np.float32)


def _painted_signs(canvas: Canvas, way: Road, frame: Frame) -> None:
    """White paint that is no lane marking: direction arrows, crossings with their stop line."""
    camera, path = frame.camera, frame.path
    paint = np.asarray(WHITE) * (1 - 0.4 * way.wear)
    if frame.arrow is not None:
        outline = [(-0.09, 0), (0.09, 0), (0.09, 2.4), (0.34, 2.4), (0, 4.0), (-0.34, 2.4), (-0.09, 2.4)]
        lane = way.lane * (round(frame.along) % way.lanes + round(way.left / way.lane) + 1)
        z = np.asarray([frame.arrow + along for _, along in outline])
        x = path.at(z) + lane + np.asarray([across for across, _ in outline])
        canvas.polygon(camera.project(x, 0.0, z), paint, 0, frame.arrow)
    if frame.crossing is not None:
        near = frame.crossing
        bars = [(left, left + 0.5, near, near + 3.0) for left in np.arange(way.left + 0.4, way.right - 0.5, 1.0)]
        bars.append((-way.lane / 2, way.lane / 2, near - 1.4, near - 1.0))
        for left, right, low, high in bars:
            z = np.asarray([low, low, high, high])
            canvas.polygon(camera.project(path.at(z) + np.asarray([left, right, right, left]), 0.0, z), paint, 0, low)


def _roadside(canvas: Canvas, way: Road, frame: Frame, rng: np.random.Generator, light: Light) -> None:
    """Trees and lamp posts, then the rails or walls in front of them."""
    camera, path = frame.camera, frame.path
    if rng.random() < 0.85:
        for z in sorted(rng.uniform(9, 80, int(rng.integers(2, 12))), reverse=True):
            side = rng.choice([-1.0, 1.0])
            x = float(path.at(z)) + (way.right + rng.uniform(1.5, 12) if side > 0 else way.left - rng.uniform(1.5, 12))
            if rng.random() < (0.5 if way.town else 0.15):
                road.pole(canvas, rng, camera, x, z, 0, light.lamps > 0.5)
            else:
                road.tree(canvas, rng, camera, x, z, 0)
    if way.edge == "rail":
        for lateral in (way.left - 0.5, way.right + 0.5):
            road.ribbon(canvas, camera, path, lateral, 0.0, 0.45, (0.30, 0.31, 0.31), 0, 60)
            road.ribbon(canvas, camera, path, lateral, 0.45, 0.75, (0.66, 0.68, 0.70), 0, 60)
    elif way.edge == "wall":
        for lateral in (way.left - 0.3, way.right + 0.4):
            road.ribbon(canvas, camera, path, lateral, 0.0, 0.8, (0.50, 0.49, 0.47), 0)
            road.ribbon(canvas, camera, path, lateral, 0.74, 0.84, (0.70, 0.69, 0.67), 0)

"""Road scenes with white lane markings, in the layout that studies/lanes.yaml reads.

    images/<sequence>_<nnnn>.jpg   masks/<sequence>_<nnnn>.png   (0 background, 1 white solid, 2 white dashed; no other value)
    train.txt val.txt test.txt     one image path per line; a sequence is in one list only
    unlabeled/highway/*.jpg  unlabeled/city/*.jpg  unlabeled/drive.mp4   (`unlabeled` > 0; every 5th video frame is counted)

A sequence has one road, light and camera; its frames are taken far apart. Paint under a vehicle, rail or tree is background, so
are yellow lines, arrows, crossings, stop lines and kerbs. A marking is labelled where it covers at least half of the pixel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files import write_text
from stages.params.data import Synthetic
from stages.sources.synthetic import road
from stages.sources.synthetic.draw import (
    LIGHTS,
    Array,
    Canvas,
    Color,
    Light,
    expose,
    generator,
    noise,
    sample,
    seamless,
    sky,
    vary,
    write_image,
    write_mask,
    write_video,
)

SOLID, DASHED = 1, 2
FRAMES = 5  # images of one sequence
EVERY = 5  # video frames per counted unlabelled image
ORDER = ("day", "dusk", "overcast", "day", "night", "day", "rain")  # lights, dealt to the sequences in turn
REACH = {"day": 70.0, "overcast": 60.0, "dusk": 45.0, "night": 26.0, "rain": 32.0}  # metres: how far paint can be made out
WHITE: Color = (0.90, 0.90, 0.88)
YELLOW: Color = (0.85, 0.62, 0.14)
GRASS: Color = (0.27, 0.36, 0.16)
PAVEMENT: Color = (0.47, 0.46, 0.45)
CARS: tuple[Color, ...] = (
    (0.75, 0.76, 0.78), (0.12, 0.13, 0.15), (0.55, 0.10, 0.10), (0.16, 0.24, 0.45), (0.85, 0.85, 0.84), (0.35, 0.37, 0.38), (0.30, 0.36, 0.28),
)  # fmt: skip


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


@dataclass(frozen=True)
class Task:
    """One picture: which list it belongs to, its sequence and its number in it."""

    place: str  # train | val | test | highway | city | drive
    sequence: str
    order: int  # of the sequence; deals light and missing classes
    frame: int


def tasks(scene: Synthetic) -> list[Task]:
    """All pictures. Sequences are numbered on through the splits, each split starting with a new one."""
    found, order = [], 0
    for split in ("train", "val", "test"):
        for index in range(getattr(scene, split)):
            at = order + index // FRAMES
            found.append(Task(split, f"seq{at:03d}", at, index % FRAMES))
        order += -(-getattr(scene, split) // FRAMES)
    video = scene.unlabeled // 5
    highway = (scene.unlabeled - video + 1) // 2
    for place, count in (("highway", highway), ("city", scene.unlabeled - video - highway)):
        found += [Task(place, f"{place}{index // FRAMES:03d}", index // FRAMES, index % FRAMES) for index in range(count)]
    found += [Task("drive", "drive", 0, index) for index in range(video * EVERY)]
    return found


def write(scene: Synthetic, task: Task, folder: Path) -> NDArray[np.uint8] | None:
    """Draw one picture; a video frame is returned, everything else written."""
    image, mask = picture(scene, task)
    if task.place == "drive":
        return image
    name = f"{task.sequence}_{task.frame:04d}"
    labelled = task.place in ("train", "val", "test")
    write_image(folder / ("images" if labelled else f"unlabeled/{task.place}") / f"{name}.jpg", image)
    if labelled:
        write_mask(folder / "masks" / f"{name}.png", mask)
    return None


def finish(scene: Synthetic, folder: Path, rows: Sequence[NDArray[np.uint8] | None]) -> None:
    """Write the three lists and the video."""
    for split in ("train", "val", "test"):
        lines = (f"images/{t.sequence}_{t.frame:04d}.jpg\n" for t in tasks(scene) if t.place == split)
        write_text(folder / f"{split}.txt", "".join(lines))
    frames = [row for row in rows if row is not None]
    if frames:
        write_video(folder / "unlabeled" / "drive.mp4", frames, rate=10)


def picture(scene: Synthetic, task: Task) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image uint8 [H, W, 3] RGB and mask uint8 [H, W] of one task."""
    size = (scene.height, scene.width)
    way = make_road(generator(scene.seed, "lanes", "road", task.sequence), size, task)
    if task.place == "drive":
        scenery = generator(scene.seed, "lanes", "scenery", task.sequence)  # the view stays while the camera moves on
        frame = drive(way, generator(scene.seed, "lanes", "traffic", task.sequence), task.frame)
    else:
        scenery = generator(scene.seed, "lanes", "scenery", task.sequence, task.frame)
        frame = make_frame(way, generator(scene.seed, "lanes", "traffic", task.sequence, task.frame), size)
    canvas = render(way, frame, scenery, size)
    grain = generator(scene.seed, "lanes", "camera", task.sequence, task.frame)
    image = expose(canvas, grain, LIGHTS[way.light], frame.camera.center, frame.camera.focal)
    return image, canvas.label.astype(np.uint8)


def make_road(rng: np.random.Generator, size: tuple[int, int], task: Task) -> Road:
    """The road of a sequence. Every 9th sequence has no dashed marking, every 9th no solid one."""
    town = {"city": True, "highway": False}.get(task.place, bool(rng.random() < 0.45))
    lanes = int(rng.integers(2, 4 if town else 5))
    lane = float(rng.uniform(3.0, 3.7))
    own = int(rng.integers(0, lanes))
    missing = {4: "dashed", 7: "solid"}.get(task.order % 9)
    width = float(rng.uniform(0.20, 0.32))
    markings = tuple(
        Marking((index - own - 0.5) * lane, kind, width * (1.15 if kind == "solid" else 1.0))
        for index, kind in enumerate(_kinds(rng, lanes, missing))
        if kind != "none"
    )
    height, columns = size
    camera = road.Camera(height * rng.uniform(0.34, 0.44), columns / 2, columns * rng.uniform(0.75, 0.95), rng.uniform(1.25, 1.75))
    return Road(
        light=ORDER[task.order % len(ORDER)],
        town=town,
        lanes=lanes,
        lane=lane,
        left=-(own + 0.5) * lane - rng.uniform(0.3, 1.4),
        right=(lanes - own - 0.5) * lane + rng.uniform(0.3, 1.8),
        markings=markings,
        dash=rng.uniform(3.0, 5.0),
        gap=rng.uniform(2.5, 5.0),
        wear=rng.uniform(0.05, 0.6),
        edge=str(rng.choice(["kerb", "kerb", "wall"] if town else ["grass", "grass", "rail", "wall"])),
        asphalt=vary(rng, (0.33, 0.33, 0.34), 0.3),
        verge=vary(rng, PAVEMENT if town else GRASS, 0.25),
        camera=camera,
        bend=rng.normal(0, 0.002 if town else 0.004),
    )


def _kinds(rng: np.random.Generator, lanes: int, missing: str | None) -> list[str]:
    """Kind of each of the lanes + 1 boundaries, left to right."""
    inner = ["solid" if rng.random() < 0.22 else "dashed" for _ in range(lanes - 1)]
    left = str(rng.choice(["solid", "yellow", "none"], p=[0.6, 0.3, 0.1]))
    right = str(rng.choice(["solid", "dashed", "none"], p=[0.8, 0.1, 0.1]))
    if missing == "dashed":
        return ["yellow" if left == "yellow" else "solid", *("solid" for _ in inner), "solid"]
    if missing == "solid":
        return ["yellow" if left == "yellow" else "none", *("dashed" for _ in inner), "dashed" if right == "dashed" else "none"]
    if "dashed" not in inner:
        inner[int(rng.integers(len(inner)))] = "dashed"
    return [left, *inner, right if "solid" in (left, right) else "solid"]


def make_frame(way: Road, rng: np.random.Generator, size: tuple[int, int]) -> Frame:
    """A picture anywhere on the road."""
    camera = replace(
        way.camera,
        horizon=way.camera.horizon + size[0] * rng.normal(0, 0.025),
        center=way.camera.center + size[1] * rng.normal(0, 0.04),
    )
    path = road.Path(rng.normal(0, 0.45), rng.normal(0, 0.025), way.bend + rng.normal(0, 0.0035))
    return Frame(
        along=rng.uniform(0, 5000),
        camera=camera,
        path=path,
        vehicles=tuple(_traffic(way, rng, path)),
        arrow=float(rng.uniform(5, 14)) if rng.random() < 0.3 else None,
        crossing=float(rng.uniform(7, 18)) if way.town and rng.random() < 0.25 else None,
    )


def _traffic(way: Road, rng: np.random.Generator, path: road.Path) -> Iterator[road.Vehicle]:
    first = round((way.markings[0].lateral if way.markings else 0) / way.lane)
    for _ in range(int(rng.integers(0, 6))):
        kind = str(rng.choice(list(road.SIZES), p=[0.68, 0.14, 0.1, 0.08]))
        column = int(rng.integers(first, first + way.lanes + 1))
        z = float(rng.uniform(9 if column == 0 else 5, 60))
        x = float(path.at(z)) + column * way.lane + rng.normal(0, 0.3)
        oncoming = bool(column < 0 and rng.random() < 0.5)
        yield road.Vehicle(kind, x, z, vary(rng, CARS[int(rng.integers(len(CARS)))], 0.1), oncoming)


def drive(way: Road, rng: np.random.Generator, frame: int) -> Frame:
    """Frame of a drive at constant speed; bends and the own position in the lane change smoothly."""
    start = make_frame(way, rng, (0, 0))
    turn, sway, speed = rng.uniform(0, 6, 3)
    time = frame / 10
    path = road.Path(0.5 * np.sin(0.5 * time + sway), 0.02 * np.cos(0.5 * time + sway), 0.005 * np.sin(0.35 * time + turn))
    cars = []
    for car in start.vehicles:
        z = 6 + (car.z + (2 * np.sin(car.z) - 0.5) * time) % 60
        cars.append(replace(car, z=z, x=float(path.at(z)) + round((car.x - start.path.at(car.z)) / way.lane) * way.lane))
    return replace(start, along=(14 + speed) * time, path=path, vehicles=tuple(cars), arrow=None, crossing=None)


def render(way: Road, frame: Frame, rng: np.random.Generator, size: tuple[int, int]) -> Canvas:
    """Draw the scene in unlit colours, far to near."""
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
    """`road.stripe` with a trailing axis for colours."""
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
    leaves = sample(tile, d * 8 + 11, s * 5 + 3) + 0.5 * sample(tile, d * 2.5, s * 1.5) - 0.35 * np.maximum(side * d + reach, 0) + 0.25
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
            canvas.polygon(camera.project(path.at(z) + [left, right, right, left], 0.0, z), paint, 0, low)


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

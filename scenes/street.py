"""What stands and moves in a street of the driving scenes, each with its class: vehicles, people, signs, houses."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scenes import road
from scenes.draw import Canvas, Color, Light, vary

CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
ID = {name: index for index, name in enumerate(CLASSES)}
CLOTHES: tuple[Color, ...] = (
    (0.55, 0.12, 0.12),
    (0.13, 0.17, 0.35),
    (0.20, 0.20, 0.21),
    (0.70, 0.66, 0.55),
    (0.20, 0.40, 0.25),
)


@dataclass(frozen=True)
class Item:
    """Something in the street: x metres from its middle line, z metres ahead, `seed` of its own random numbers."""

    kind: str
    x: float
    z: float
    seed: int


@dataclass(frozen=True)
class Street:
    """A place: everything that one picture, or the whole clip, shows."""

    light: Light
    town: bool
    camera: road.Camera
    path: road.Path
    half: float  # half the width of the roadway
    walk: float  # width of the pavements, 0 outside towns
    asphalt: Color
    verge: Color
    barrier: str  # none | wall | fence
    bonnet: bool
    items: tuple[Item, ...]


def _vehicle(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    color = vary(
        rng,
        [(0.75, 0.76, 0.78), (0.12, 0.13, 0.15), (0.55, 0.10, 0.10), (0.16, 0.24, 0.45)][int(rng.integers(4))],
        0.15,
    )
    if kind == "bus":
        color = vary(rng, (0.80, 0.55, 0.12) if rng.random() < 0.5 else (0.70, 0.16, 0.14), 0.1)
    it = road.Vehicle(kind, x, z, color, oncoming=x < float(street.path.at(z)))
    road.vehicle(canvas, street.camera, it, ID["car" if kind == "van" else kind], street.light.lamps > 0)


def _train(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    """A tram of two cars on its own track beside the street."""
    color = vary(rng, (0.72, 0.74, 0.76), 0.1)
    band = vary(rng, (0.15, 0.35, 0.55), 0.2)
    camera = street.camera
    for start in (z + 15.5, z):
        road.box(canvas, camera, (x - 1.4, x + 1.4), (0.3, 3.6), (start, start + 15), color, ID["train"])
        near = x + 1.4 if x < 0 else x - 1.4  # the side that is seen
        for low, high, paint in ((1.7, 2.8, road.GLASS), (0.7, 1.2, band)):
            quad = camera.project(near, [low, low, high, high], [start, start + 15, start + 15, start])
            canvas.polygon(quad, paint, ID["train"], start)
        front = camera.project([x - 1.2, x + 1.2, x + 1.1, x - 1.1], [1.6, 1.6, 2.9, 2.9], start)
        canvas.polygon(front, road.GLASS, ID["train"], start)
        canvas.polygon(
            camera.project([x - 1.4, x + 1.4, x + 1.4, x - 1.4], [0.6, 0.6, 1.1, 1.1], start), band, ID["train"], start
        )


def _person(
    canvas: Canvas,
    rng: np.random.Generator,
    street: Street,
    kind: str,
    x: float,
    z: float,
    lift: float = 0.0,
    label: str = "person",
) -> None:
    """Legs, coat and head; a rider sits `lift` metres higher and bends forward."""
    camera, target = street.camera, ID[label]
    tall = rng.uniform(1.5, 1.9)
    coat = vary(rng, CLOTHES[int(rng.integers(len(CLOTHES)))], 0.25)
    scale = camera.focal / z
    stride = rng.uniform(0.06, 0.28)
    hip = camera.project(x, lift + tall * 0.47, z)
    for foot in (-stride, stride):
        canvas.line([hip, camera.project(x + foot, lift, z)], scale * 0.16, (0.15, 0.16, 0.22), target, z)
    body = camera.project(
        x + np.asarray([-0.19, 0.19, 0.24, -0.24]), lift + tall * np.asarray([0.44, 0.44, 0.82, 0.82]), z
    )
    canvas.polygon(body, coat, target, z)
    for side in (-1, 1):
        shoulder, hand = (
            camera.project(x + side * 0.24, lift + tall * 0.8, z),
            camera.project(x + side * 0.31, lift + tall * 0.46, z),
        )
        canvas.line([shoulder, hand], scale * 0.1, np.asarray(coat) * 0.85, target, z)
    u, v = camera.project(x, lift + tall * 0.91, z)
    canvas.ellipse((u, v), (scale * 0.11, scale * 0.14), (0.62, 0.46, 0.36), target, z)


def _cycle(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    """A bicycle or motorcycle, seen half from the side; with a rider for cyclist and motorcyclist."""
    camera = street.camera
    motor = kind.startswith("motor")
    label = ID["motorcycle" if motor else "bicycle"]
    scale = camera.focal / z
    radius, base = (0.34, 0.55) if motor else (0.36, 0.42)
    color = vary(rng, CLOTHES[int(rng.integers(len(CLOTHES)))], 0.2)
    hubs = [camera.project(x + side * base, radius, z) for side in (-1, 1)]
    turn = np.linspace(0, 2 * np.pi, 17)
    for u, v in hubs:
        ring = np.stack([u + scale * radius * 0.75 * np.cos(turn), v + scale * radius * np.sin(turn)], 1)
        if motor:
            canvas.polygon(ring, road.DARK, label, z)
        else:
            canvas.line(ring, scale * 0.1, road.DARK, label, z)
    seat, bar = camera.project(x - base * 0.5, 0.85, z), camera.project(x + base * 0.7, 1.0, z)
    crank = camera.project(x, 0.3, z)
    if motor:
        canvas.polygon([hubs[0], seat, bar, hubs[1], crank], color, label, z)
    canvas.line([hubs[0], seat, crank, hubs[1], bar, seat], scale * 0.09, color, label, z)
    canvas.line([hubs[0], crank], scale * 0.09, color, label, z)
    if kind in ("cyclist", "motorcyclist"):
        _person(canvas, rng, street, kind, x - base * 0.2, z, lift=0.35, label="rider")


def _sign(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    camera = street.camera
    scale = camera.focal / z
    high = rng.uniform(2.1, 3.0)
    foot, head = camera.project(x, 0.0, z), camera.project(x, high, z)
    canvas.line([foot, head], scale * 0.12, (0.50, 0.51, 0.52), ID["pole"], z)
    size = scale * rng.uniform(0.55, 0.85)
    shape, color = [
        (4, (0.10, 0.40, 0.25)),
        (3, (0.80, 0.16, 0.12)),
        (8, (0.75, 0.12, 0.12)),
        (16, (0.12, 0.28, 0.65)),
    ][int(rng.integers(4))]
    turn = np.arange(shape) * 2 * np.pi / shape + (np.pi / 4 if shape == 4 else -np.pi / 2 if shape == 3 else np.pi / 8)
    for grown, paint in ((1.0, (0.88, 0.88, 0.86)), (0.78, color)):
        points = np.stack([head[0] + size * grown * np.cos(turn), head[1] + size * grown * np.sin(turn)], 1)
        canvas.polygon(points, paint, ID["traffic sign"], z)


def _light(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    """A traffic light on a mast with an arm over the roadway."""
    camera = street.camera
    scale = camera.focal / z
    inward = -np.sign(x - float(street.path.at(z)))
    reach = rng.uniform(0.2, 3.0)
    tip = camera.project(x + inward * reach, 4.6, z)
    canvas.line(
        [camera.project(x, 0.0, z), camera.project(x, 4.6, z), tip], scale * 0.22, (0.34, 0.35, 0.36), ID["pole"], z
    )
    wide, tall = scale * 0.4, scale * 0.95
    canvas.polygon(
        [
            (tip[0] - wide, tip[1] - tall),
            (tip[0] + wide, tip[1] - tall),
            (tip[0] + wide, tip[1] + tall),
            (tip[0] - wide, tip[1] + tall),
        ],
        (0.07, 0.08, 0.07),
        ID["traffic light"],
        z,
    )
    burning = int(rng.integers(3))
    for place, color in enumerate(((0.95, 0.12, 0.08), (0.95, 0.70, 0.10), (0.10, 0.90, 0.45))):
        lamp = color if place == burning else (0.14, 0.14, 0.13)
        canvas.ellipse(
            (tip[0], tip[1] + (place - 1) * tall * 0.62), (wide * 0.6, tall * 0.24), lamp, ID["traffic light"], z
        )


def _pole(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    road.pole(canvas, rng, street.camera, x, z, ID["pole"], street.light.lamps > 0.5, thick=0.24)


def _tree(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    road.tree(canvas, rng, street.camera, x, z, ID["vegetation"])


def _house(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    """A house along the street: its front towards us and the wall along the pavement, both with windows."""
    camera, label = street.camera, ID["building"]
    wall = np.asarray(road.WALLS[int(rng.integers(len(road.WALLS)))]) * rng.uniform(0.75, 1.1)
    high, deep = rng.uniform(5, 18), rng.uniform(10, 14)
    way = np.sign(x - float(street.path.at(z)))
    far = x + way * 12
    front = [camera.project(a, b, z) for a, b in ((x, 0.0), (far, 0.0), (far, high), (x, high))]
    canvas.polygon(front, wall * 0.85, label, z)
    canvas.polygon(camera.project(x, [0, 0, high, high], [z, z + deep, z + deep, z]), wall * 1.05, label, z)
    glass = wall * rng.uniform(0.3, 0.55)
    floors = np.arange(1.0, high - 2.5, 3.0)[:, None, None]
    low_high = floors + np.asarray([0, 0, 1.5, 1.5])  # [floors, 1, 4]
    columns = np.arange(1.0, deep - 1.5, 3.2)[None, :, None] + np.asarray([0, 1.5, 1.5, 0])
    for pane, color in (
        (camera.project(x, low_high, z + columns), glass),
        (camera.project(x + way * columns, low_high, z), glass * 0.85),
    ):
        canvas.polygons(pane.reshape(-1, 4, 2), color, label, z)


Drawing = Callable[[Canvas, np.random.Generator, Street, str, float, float], None]
DRAW: dict[str, Drawing] = {
    "car": _vehicle, "van": _vehicle, "truck": _vehicle, "bus": _vehicle, "train": _train, "person": _person,
    "bicycle": _cycle, "motorcycle": _cycle, "cyclist": _cycle, "motorcyclist": _cycle,
    "sign": _sign, "light": _light, "pole": _pole, "tree": _tree, "house": _house,
}  # fmt: skip

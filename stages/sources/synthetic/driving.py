"""Street scenes with the 19 driving classes, in the official layout of the BDD100K 10k set (see `CLASSES`).

    bdd100k/images/10k/{train,val,test}/<name>.jpg
    bdd100k/labels/sem_seg/masks/{train,val}/<name>.png     (8-bit train ids 0..18, 255 = not scored)
    clip.mp4                                                (a short drive, for video inference)

As in the official set, every picture comes from a drive of its own and the test pictures have no masks. 255 is the bonnet of
the own vehicle, which some pictures show.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.params.data import Synthetic
from stages.seeds import derive
from stages.sources.synthetic import road
from stages.sources.synthetic.draw import (
    LIGHTS,
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

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
ID = {name: index for index, name in enumerate(CLASSES)}
IGNORE = 255
CLIP = 40  # frames of the clip
LIGHT = ("day", "overcast", "day", "dusk", "night", "day", "rain")
CLOTHES: tuple[Color, ...] = ((0.55, 0.12, 0.12), (0.13, 0.17, 0.35), (0.20, 0.20, 0.21), (0.70, 0.66, 0.55), (0.20, 0.40, 0.25))


@dataclass(frozen=True)
class Item:
    """Something on or beside the street: x metres from the street's middle line, z metres ahead, its own random numbers."""

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


@dataclass(frozen=True)
class Task:
    """One picture; `split` is clip for the frames of the video."""

    split: str
    index: int


def tasks(scene: Synthetic) -> list[Task]:
    """All pictures and the frames of the clip."""
    counts = {"train": scene.train, "val": scene.val, "test": scene.test, "clip": CLIP}
    return [Task(split, index) for split, count in counts.items() for index in range(count)]


def name_of(scene: Synthetic, task: Task) -> str:
    """A file name like those of the official set."""
    text = f"{derive(scene.seed, 'driving', 'name', task.split, task.index):016x}"
    return f"{text[:8]}-{text[8:]}"


def write(scene: Synthetic, task: Task, folder: Path) -> NDArray[np.uint8] | None:
    """Draw one picture; a frame of the clip is returned, everything else written."""
    image, mask = picture(scene, task)
    if task.split == "clip":
        return image
    name = name_of(scene, task)
    write_image(folder / "bdd100k" / "images" / "10k" / task.split / f"{name}.jpg", image)
    if task.split != "test":
        write_mask(folder / "bdd100k" / "labels" / "sem_seg" / "masks" / task.split / f"{name}.png", mask)
    return None


def finish(scene: Synthetic, folder: Path, rows: Sequence[NDArray[np.uint8] | None]) -> None:
    """Write the clip."""
    write_video(folder / "clip.mp4", [row for row in rows if row is not None], rate=10)


def picture(scene: Synthetic, task: Task) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image uint8 [H, W, 3] RGB and mask uint8 [H, W] of train ids."""
    size = (scene.height, scene.width)
    place = ("clip", 0) if task.split == "clip" else (task.split, task.index)
    street = make_street(generator(scene.seed, "driving", "street", *place), size, place[1])
    along = 0.0
    if task.split == "clip":
        along = 0.9 * task.index
        street = _moved(street, along)
    canvas = render(street, generator(scene.seed, "driving", "scenery", *place), size, along)
    grain = generator(scene.seed, "driving", "camera", task.split, task.index)
    image = expose(canvas, grain, street.light, street.camera.center, street.camera.focal)
    return image, canvas.label.astype(np.uint8)


def make_street(rng: np.random.Generator, size: tuple[int, int], index: int) -> Street:
    """A place with its traffic. Rare classes are dealt out in turn, so that small sets have them too."""
    height, width = size
    town = bool(rng.random() < 0.75)
    half = rng.uniform(4.5, 7.5)
    walk = rng.uniform(2.0, 4.0) if town else 0.0
    camera = road.Camera(
        height * rng.uniform(0.38, 0.5), width * rng.normal(0.5, 0.03), width * rng.uniform(0.7, 0.95), rng.uniform(1.3, 1.7)
    )
    return Street(
        light=LIGHTS[LIGHT[index % len(LIGHT)]],
        town=town,
        camera=camera,
        path=road.Path(rng.uniform(-0.6, -0.25) * half, rng.normal(0, 0.02), rng.normal(0, 0.002)),
        half=half,
        walk=walk,
        asphalt=vary(rng, (0.32, 0.32, 0.33), 0.25),
        verge=vary(rng, (0.33, 0.38, 0.18), 0.25),
        barrier=str(rng.choice(["none", "wall", "fence"], p=[0.4, 0.25, 0.35])),
        bonnet=bool(rng.random() < 0.3),
        items=tuple(_items(rng, half, walk, index)),
    )


def _items(rng: np.random.Generator, half: float, walk: float, index: int) -> list[Item]:
    """What stands and moves in the street. Side 1 is the right."""
    found: list[Item] = []

    def put(kind: str, x: float, nearest: float, farthest: float) -> None:
        found.append(Item(kind, x, float(rng.uniform(nearest, farthest)), int(rng.integers(2**62))))

    edge = half + walk
    side = lambda: float(rng.choice([-1.0, 1.0]))  # noqa: E731
    for kind, expected in (("car", 3.5), ("van", 0.5), ("truck", 0.35), ("bus", 0.35)):
        for _ in range(int(rng.poisson(expected))):
            put(kind, side() * half * rng.uniform(0.2, 0.75), 9, 55)
    for _ in range(int(rng.poisson(2.0))):  # parked
        put("car", side() * (half - 1.0), 6, 40)
    for kind, expected in (("person", 2.6 if walk else 0.6), ("sign", 1.6), ("light", 1.2 if walk else 0.3), ("pole", 3.0)):
        for _ in range(int(rng.poisson(expected))):
            inner = half + 0.4 if kind != "person" else half * rng.choice([0.6, 1.1])
            put(kind, side() * (inner + rng.uniform(0, max(walk - 0.6, 0.5))), 5, 40)
    for _ in range(int(rng.poisson(5))):
        put("tree", side() * (edge + rng.uniform(-1.0, 9)), 8, 80)
    if walk:
        for way in (-1.0, 1.0):
            for z in np.arange(rng.uniform(4, 14), 95, rng.uniform(13, 20)):
                if rng.random() < 0.8:
                    found.append(Item("house", way * (edge + rng.uniform(0.5, 3)), float(z), int(rng.integers(2**62))))
    for kind in ("bicycle", "motorcycle"):
        if rng.random() < 0.3:
            put(kind, side() * (half - rng.uniform(0.3, 1.5)), 5, 22)
    dealt = ("cyclist", "train", "motorcyclist", "bus", "truck", "bicycle", "train", "motorcycle")[index % 8]
    where = {"train": -(edge + 3.5), "bus": half * 0.5, "truck": half * 0.5}.get(dealt, half * rng.uniform(0.3, 0.85))
    put(dealt, where, 14 if dealt == "train" else 5 if "cycl" in dealt else 10, 26 if dealt == "train" else 18)
    return found


def _moved(street: Street, along: float) -> Street:
    """The same street `along` metres further on; what has been passed comes again at the far end."""
    items = []
    for item in street.items:
        own = 0.9 if item.kind in ("car", "van", "truck", "bus") and item.x > 0 else 0.0  # share of our speed
        items.append(replace(item, z=4.0 + (item.z - 4.0 - along * (1 - own)) % 90))
    turn = 0.02 * np.sin(along / 12)
    return replace(street, items=tuple(items), path=replace(street.path, heading=street.path.heading + turn))


def render(street: Street, rng: np.random.Generator, size: tuple[int, int], along: float) -> Canvas:
    """Draw the street in unlit colours, far to near."""
    canvas = Canvas.blank(*size)
    camera = street.camera
    sky(canvas, rng, street.light, camera.horizon, ID["sky"])
    road.skyline(canvas, rng, camera, street.town, (ID["vegetation"], ID["building"]))
    _ground(canvas, rng, street, along)
    if street.barrier != "none":
        lateral = float(rng.choice([-1.0, 1.0])) * (street.half + street.walk + 0.3)
        if street.barrier == "wall":
            road.ribbon(canvas, camera, street.path, lateral, 0.0, 1.4, vary(rng, (0.52, 0.48, 0.43), 0.2), ID["wall"], 60)
        else:
            for low in (0.1, 0.45, 0.8):
                road.ribbon(canvas, camera, street.path, lateral, low, low + 0.35, (0.40, 0.41, 0.40) if low != 0.45 else (0.30, 0.31, 0.30),
                            ID["fence"], 60)  # fmt: skip
    for item in sorted(street.items, key=lambda item: -item.z):
        x = float(street.path.at(item.z)) + item.x
        DRAW[item.kind](canvas, np.random.default_rng(item.seed), street, item.kind, x, item.z)
    if street.bonnet:
        height, width = size
        curve = [(u * width, height * (0.9 + 0.35 * (u - 0.5) ** 2)) for u in np.linspace(0, 1, 15)]
        canvas.polygon([(0, height + 2), *curve, (width, height + 2)], (0.12, 0.12, 0.13), IGNORE, 1.5)
    return canvas


def _ground(canvas: Canvas, rng: np.random.Generator, street: Street, along: float) -> None:
    """Roadway with its markings, pavements and the terrain beyond."""
    first, x, z = street.camera.ground(canvas.shape)
    d = (x - street.path.at(z)).astype(np.float32)
    s = np.broadcast_to(z + np.float32(along), d.shape)
    wide, long = z / street.camera.focal, z**2 / (street.camera.focal * street.camera.height)
    tile = seamless(noise(rng, (256, 256), 24, 4))
    rough = sample(tile, d * 45, s * 22) * np.exp(-z / 14)
    patchy = sample(tile, d * 3, s * 1.5)
    color = np.asarray(street.verge, np.float32) * (1 + 0.35 * rough + 0.2 * patchy)[..., None]
    label = np.full(d.shape, ID["terrain"], np.uint16)
    half, edge = street.half, street.half + street.walk
    if street.walk:
        slabs = 1 - 0.18 * ((np.mod(s, 1.2) < 0.08) | (np.mod(d, 1.2) < 0.08)) * np.exp(-z / 12)
        cover = road.stripe(d, -edge, edge, wide)
        paint = np.asarray((0.53, 0.51, 0.49), np.float32) * (slabs + 0.12 * rough + 0.08 * patchy)[..., None]
        color += cover[..., None] * (paint - color)
        label[cover >= 0.5] = ID["sidewalk"]
    cover = road.stripe(d, -half, half, wide)
    tar = np.asarray(street.asphalt, np.float32) * (1 + 0.12 * rough + 0.1 * patchy)[..., None]
    color += cover[..., None] * (tar - color)
    label[cover >= 0.5] = ID["road"]
    for lateral, dashed, paint in ((0.0, False, (0.80, 0.60, 0.16)), (half / 2, True, (0.86,) * 3), (-half / 2, True, (0.86,) * 3)):
        line = road.stripe(d, lateral - 0.08, lateral + 0.08, wide) * (road.dashes(s, 3, 4, long) if dashed else 0.9)
        color += line[..., None] * (np.asarray(paint, np.float32) - color)
    if street.light.shadow:
        leaves = np.clip((sample(tile, d * 6 + 9, s * 3) - 0.15 + 0.05 * np.abs(d) - 0.35) * 5, 0, 1)
        color *= (1 - street.light.shadow * leaves)[..., None]
    canvas.image[first:] = color
    canvas.depth[first:] = z
    canvas.label[first:] = label


def _vehicle(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    color = vary(rng, [(0.75, 0.76, 0.78), (0.12, 0.13, 0.15), (0.55, 0.10, 0.10), (0.16, 0.24, 0.45)][int(rng.integers(4))], 0.15)
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
        canvas.polygon(camera.project([x - 1.4, x + 1.4, x + 1.4, x - 1.4], [0.6, 0.6, 1.1, 1.1], start), band, ID["train"], start)


def _person(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float, lift: float = 0.0,
            label: str = "person") -> None:  # fmt: skip
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
        shoulder, hand = camera.project(x + side * 0.24, lift + tall * 0.8, z), camera.project(x + side * 0.31, lift + tall * 0.46, z)
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
    canvas.line([foot, head], scale * 0.08, (0.50, 0.51, 0.52), ID["pole"], z)
    size = scale * rng.uniform(0.35, 0.55)
    shape, color = [(4, (0.10, 0.40, 0.25)), (3, (0.80, 0.16, 0.12)), (8, (0.75, 0.12, 0.12)), (16, (0.12, 0.28, 0.65))][int(rng.integers(4))]
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
    canvas.line([camera.project(x, 0.0, z), camera.project(x, 4.6, z), tip], scale * 0.14, (0.34, 0.35, 0.36), ID["pole"], z)
    wide, tall = scale * 0.24, scale * 0.58
    canvas.polygon([(tip[0] - wide, tip[1] - tall), (tip[0] + wide, tip[1] - tall), (tip[0] + wide, tip[1] + tall), (tip[0] - wide, tip[1] + tall)],
                   (0.07, 0.08, 0.07), ID["traffic light"], z)  # fmt: skip
    burning = int(rng.integers(3))
    for place, color in enumerate(((0.95, 0.12, 0.08), (0.95, 0.70, 0.10), (0.10, 0.90, 0.45))):
        lamp = color if place == burning else (0.14, 0.14, 0.13)
        canvas.ellipse((tip[0], tip[1] + (place - 1) * tall * 0.62), (wide * 0.6, tall * 0.24), lamp, ID["traffic light"], z)


def _pole(canvas: Canvas, rng: np.random.Generator, street: Street, kind: str, x: float, z: float) -> None:
    road.pole(canvas, rng, street.camera, x, z, ID["pole"], street.light.lamps > 0.5)


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
    for floor in np.arange(1.0, high - 1.5, 3.0):
        rows = [floor, floor, floor + 1.5, floor + 1.5]
        for place in np.arange(1.0, deep - 1.5, 3.2):
            canvas.polygon(camera.project(x, rows, z + place + np.asarray([0, 1.5, 1.5, 0])), glass, label, z)
        for place in np.arange(1.0, 10, 3.2):
            across = x + way * (place + np.asarray([0.0, 1.5, 1.5, 0.0]))
            canvas.polygon(camera.project(across, rows, z), glass * 0.85, label, z)


Drawing = Callable[[Canvas, np.random.Generator, Street, str, float, float], None]
DRAW: dict[str, Drawing] = {
    "car": _vehicle, "van": _vehicle, "truck": _vehicle, "bus": _vehicle, "train": _train, "person": _person,
    "bicycle": _cycle, "motorcycle": _cycle, "cyclist": _cycle, "motorcyclist": _cycle,
    "sign": _sign, "light": _light, "pole": _pole, "tree": _tree, "house": _house,
}  # fmt: skip

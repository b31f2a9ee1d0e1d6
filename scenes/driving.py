"""Street scenes with the 19 driving classes, in the official layout of the BDD100K 10k set (see `street.CLASSES`).

    bdd100k/images/10k/{train,val,test}/<name>.jpg
    bdd100k/labels/sem_seg/masks/{train,val}/<name>.png     (8-bit train ids 0..18, 255 = not scored)
    clip.mp4                                                (a short drive, for video inference)

As in the official set, every picture comes from a drive of its own and the test pictures have no masks. 255 is the
bonnet of the own vehicle, which some pictures show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrace.config.data import Synthetic
from retrace.seeds import derive
from scenes import road
from scenes.draw import (
    LIGHTS,
    Canvas,
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
from scenes.street import DRAW, ID, Item, Street

IGNORE = 255
CLIP = 40  # frames of the clip
RARE = ("cyclist", "train", "motorcyclist", "bus", "truck", "bicycle", "train", "motorcycle")
LIGHT = ("day", "overcast", "day", "dusk", "night", "day", "rain")


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
        height * rng.uniform(0.38, 0.5),
        width * rng.normal(0.5, 0.03),
        width * rng.uniform(0.7, 0.95),
        rng.uniform(1.3, 1.7),
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
    for kind, expected in (("car", 3.0), ("van", 0.5), ("truck", 0.35), ("bus", 0.35)):
        for _ in range(int(rng.poisson(expected))):
            put(kind, side() * half * rng.uniform(0.2, 0.75), 9, 55)
    for _ in range(int(rng.poisson(2.0))):  # parked
        put("car", side() * (half - 1.0), 6, 40)
    for kind, expected in (
        ("person", 2.6 if walk else 0.6),
        ("sign", 1.6),
        ("light", 1.2 if walk else 0.3),
        ("pole", 3.0),
    ):
        for _ in range(int(rng.poisson(expected))):
            inner = half + 0.4 if kind != "person" else half * rng.choice([0.6, 1.1])
            put(kind, side() * (inner + rng.uniform(0, max(walk - 0.6, 0.5))), 5, 20)
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
    for dealt in (RARE[index % len(RARE)], RARE[(index + 3) % len(RARE)]):
        where = {"train": -(edge + 3.5), "bus": half * 0.5, "truck": half * 0.5}.get(
            dealt, half * rng.uniform(0.3, 0.85)
        )
        nearest, farthest = {"train": (14, 26), "bus": (10, 18), "truck": (10, 18)}.get(dealt, (5, 12))
        put(dealt, where, nearest, farthest)
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
    """Draw the street in unlit colors, far to near."""
    canvas = Canvas.blank(*size)
    camera = street.camera
    sky(canvas, rng, street.light, camera.horizon, ID["sky"])
    road.skyline(canvas, rng, camera, street.town, (ID["vegetation"], ID["building"]))
    _ground(canvas, rng, street, along)
    if street.barrier != "none":
        lateral = float(rng.choice([-1.0, 1.0])) * (street.half + street.walk + 0.3)
        if street.barrier == "wall":
            road.ribbon(
                canvas, camera, street.path, lateral, 0.0, 1.4, vary(rng, (0.52, 0.48, 0.43), 0.2), ID["wall"], 60
            )
        else:
            for low in (0.1, 0.45, 0.8):
                road.ribbon(
                    canvas,
                    camera,
                    street.path,
                    lateral,
                    low,
                    low + 0.35,
                    (0.40, 0.41, 0.40) if low != 0.45 else (0.30, 0.31, 0.30),
                    ID["fence"],
                    60,
                )
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
    for lateral, dashed, paint in (
        (0.0, False, (0.80, 0.60, 0.16)),
        (half / 2, True, (0.86,) * 3),
        (-half / 2, True, (0.86,) * 3),
    ):
        line = road.stripe(d, lateral - 0.08, lateral + 0.08, wide) * (road.dashes(s, 3, 4, long) if dashed else 0.9)
        color += line[..., None] * (np.asarray(paint, np.float32) - color)
    if street.light.shadow:
        leaves = np.clip((sample(tile, d * 6 + 9, s * 3) - 0.15 + 0.05 * np.abs(d) - 0.35) * 5, 0, 1)
        color *= (1 - street.light.shadow * leaves)[..., None]
    canvas.image[first:] = color
    canvas.depth[first:] = z
    canvas.label[first:] = label

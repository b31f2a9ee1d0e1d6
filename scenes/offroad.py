"""Off-road terrain scenes with 16-bit id masks, in the layout of study `offroad`.

    {train,val,test}/images/<sequence>_<nnnn>.jpg
    {train,val,test}/masks/<sequence>_<nnnn>.png      (16-bit raw ids, see `plants.IDS`)

The matching block of the parameter file:

    source:
      kind: masks
      images: "{split}/images"
      masks: "{split}/masks"
      values: {Trees: [100], Lush Bushes: [200], Dry Grass: [300], Dry Bushes: [500], Ground Clutter: [550],
               Flowers: [600], Logs: [700], Rocks: [800], Landscape: [7100], Sky: [10000]}
      ignore: [0]
      split: {by: folder, folders: {train: train, val: val, test: test}}
    group: "^(?:.*/)?([^/]+?)_[0-9]+\\\\.[a-z]+$"

0 (background) is the bonnet of the own vehicle, which some sequences show. Sky, landscape and dry grass fill most of
the pixels; flowers and logs are rare.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrace.config.data import Synthetic
from scenes.draw import (
    LIGHTS,
    Array,
    Canvas,
    Color,
    expose,
    generator,
    noise,
    sample,
    seamless,
    sky,
    vary,
    write_image,
    write_mask,
)
from scenes.plants import IDS, Country, plants
from scenes.road import Camera, stripe
from scenes.road import Path as Track

FRAMES = 5  # images of one sequence
LIGHT = ("day", "overcast", "day", "dusk")  # dealt to the sequences in turn
SOIL: dict[str, Color] = {"arid": (0.60, 0.47, 0.33), "meadow": (0.50, 0.42, 0.30), "woods": (0.42, 0.36, 0.27)}
BLOSSOMS: tuple[Color, ...] = ((0.85, 0.75, 0.15), (0.75, 0.35, 0.65), (0.92, 0.90, 0.86), (0.85, 0.30, 0.20))


@dataclass(frozen=True)
class Task:
    """One picture of one split."""

    split: str
    order: int  # number of the sequence
    frame: int

    @property
    def name(self) -> str:
        return f"trail{self.order:03d}_{self.frame:04d}"


def tasks(scene: Synthetic) -> list[Task]:
    """All pictures. Sequences are numbered on through the splits, each split starting with a new one."""
    found, order = [], 0
    for split in ("train", "val", "test"):
        count = getattr(scene, split)
        found += [Task(split, order + index // FRAMES, index % FRAMES) for index in range(count)]
        order += -(-count // FRAMES)
    return found


def write(scene: Synthetic, task: Task, folder: Path) -> None:
    """Draw one picture and its mask."""
    image, mask = picture(scene, task)
    write_image(folder / task.split / "images" / f"{task.name}.jpg", image)
    write_mask(folder / task.split / "masks" / f"{task.name}.png", mask)


def finish(scene: Synthetic, folder: Path, rows: Sequence[None]) -> None:
    """Nothing ties these images together."""


def picture(scene: Synthetic, task: Task) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Image uint8 [H, W, 3] RGB and mask uint16 [H, W] of raw ids."""
    size = (scene.height, scene.width)
    country = make_country(generator(scene.seed, "offroad", "country", task.order), size, task.order)
    rng = generator(scene.seed, "offroad", "frame", task.order, task.frame)
    camera = replace(country.camera, horizon=country.camera.horizon + size[0] * rng.normal(0, 0.03))
    canvas = Canvas.blank(*size)
    sky(canvas, rng, country.light, camera.horizon, IDS["Sky"])
    grain = noise(rng, size, 5, 2)  # leaves, bark and stone, in pixels
    _hills(canvas, rng, country, camera, grain)
    _ground(canvas, rng, country, camera, grain)
    for kind, x, z in plants(rng, country):
        kind(canvas, rng, country, camera, x, z, grain)
    if country.bonnet:
        _bonnet(canvas, rng)
    image = expose(canvas, rng, country.light, camera.center, camera.focal)
    return image, canvas.label


def make_country(rng: np.random.Generator, size: tuple[int, int], order: int) -> Country:
    """The country of a sequence: arid, meadow or woods."""
    height, width = size
    kind = ("arid", "meadow", "woods")[order % 3]
    return Country(
        light=LIGHTS[LIGHT[order % len(LIGHT)]],
        camera=Camera(
            height * rng.uniform(0.36, 0.5), width / 2, width * rng.uniform(0.7, 0.95), rng.uniform(1.3, 2.0)
        ),
        soil=vary(rng, SOIL[kind], 0.15),
        straw=vary(rng, (0.66, 0.58, 0.36), 0.15),
        leaf=vary(rng, (0.25, 0.36, 0.14), 0.25),
        stone=vary(rng, (0.52, 0.48, 0.44), 0.15),
        blossom=BLOSSOMS[int(rng.integers(len(BLOSSOMS)))],
        grass={"arid": -0.22, "meadow": 0.18, "woods": 0.0}[kind] + rng.normal(0, 0.08),
        clutter=rng.uniform(-0.1, 0.12),
        woods={"arid": 2, "meadow": 5, "woods": 13}[kind] * rng.uniform(0.6, 1.4),
        bushes={"arid": 6, "meadow": 9, "woods": 10}[kind] * rng.uniform(0.6, 1.4),
        rocks={"arid": 7, "meadow": 3, "woods": 4}[kind] * rng.uniform(0.5, 1.5),
        bonnet=order % 5 == 2,
    )


def _hills(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, grain: Array) -> None:
    """One to three ranges, the farther the paler; some wooded."""
    height, width = canvas.shape
    columns = np.arange(width + 1, dtype=np.float64)
    low = camera.horizon + 3
    for depth in np.linspace(500, 140, int(rng.integers(1, 4))):
        knots = rng.uniform(0.0, 0.04 + depth / 5000, 7)
        rise = np.interp(columns, np.linspace(0, width, 7), knots) + np.interp(
            columns, np.linspace(0, width, 50), rng.uniform(-0.006, 0.006, 50)
        )
        top = camera.horizon - np.maximum(rise, 0.002) * height
        outline = [(0, low), *zip(columns, top, strict=True), (width, low)]
        wooded = rng.random() < 0.25
        color = np.asarray(country.leaf) * 0.8 if wooded else np.asarray(country.soil) * rng.uniform(0.75, 1.0)
        canvas.polygon(outline, color, IDS["Trees" if wooded else "Landscape"], float(depth), 0.2 * grain)


def _ground(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, grain: Array) -> None:
    """Soil, dry grass, clutter and flowers from noise on the ground, with a track of bare soil through it."""
    first, x, z = camera.ground(canvas.shape)
    path = Track(rng.normal(0, 1.2), rng.normal(0, 0.12), rng.normal(0, 0.008))
    far = np.broadcast_to(np.minimum(z, 200), x.shape)
    u, v = np.clip(x, -400, 400), far + np.float32(rng.uniform(0, 500))
    tile = seamless(noise(rng, (256, 256), 32, 5))
    coarse, middle = sample(tile, u * 4, v * 2.5), sample(tile, u * 17 + 40, v * 8 + 90)
    blades = (0.8 * sample(tile, u * 95, v * 45) + 0.6 * grain[first:]) * np.exp(-z / 16)
    pixel = z / camera.focal
    bare = stripe((x - path.at(z)).astype(np.float32), -1.3, 1.3, pixel) * (0.5 + 0.5 * np.clip(middle * 3 + 1, 0, 1))

    label = np.full(x.shape, IDS["Landscape"], np.uint16)
    color = np.asarray(country.soil, np.float32) * (1 + 0.16 * middle + 0.18 * blades + 0.1 * coarse)[..., None]
    layers = (
        ("Dry Grass", coarse + 0.2 * middle + country.grass + 0.1 * blades, country.straw, 0.38),
        (
            "Ground Clutter",
            sample(tile, u * 5 + 200, v * 3 + 60) + 0.2 * middle - 0.42 + country.clutter,
            (0.34, 0.27, 0.19),
            0.9,
        ),
    )
    for name, field, paint, contrast in layers:
        cover = np.clip((field - 0.9 * bare) * 14 + 0.5, 0, 1)
        tone = np.asarray(paint, np.float32) * (1 + contrast * blades + 0.18 * middle + 0.05)[..., None]
        color += cover[..., None] * (tone - color)
        label[cover >= 0.5] = IDS[name]
    if rng.random() < 0.6:  # a bed of flowers: dots of blossom in the grass, labeled as a whole, as people do
        bed = (sample(tile, u * 3 + 150, v * 2 + 10) > 0.3) & (z < 40) & (label == IDS["Dry Grass"])
        dots = bed & (sample(tile, u * 80, v * 60) > -0.1)
        color[dots] = np.asarray(country.blossom, np.float32) * (1 + 0.25 * blades[dots, None])
        label[bed] = IDS["Flowers"]
    canvas.image[first:] = color
    canvas.depth[first:] = z
    canvas.label[first:] = label


def _bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.shape
    columns = np.linspace(0.08, 0.92, 15)
    top = height * (0.93 + 0.5 * (columns - 0.5) ** 2)
    outline = [(0.04 * width, height + 2), *zip(columns * width, top, strict=True), (0.96 * width, height + 2)]
    canvas.polygon(outline, vary(rng, (0.24, 0.26, 0.24), 0.1), 0, 1.5)

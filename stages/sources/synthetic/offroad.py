"""Off-road terrain scenes with 16-bit id masks, in the layout of study `offroad`.

    train|val|test/images/<sequence>_<nnnn>.jpg     train|val|test/masks/<sequence>_<nnnn>.png   (16-bit raw ids, see `IDS`)

The matching block of the parameter file:

    source:
      kind: masks
      images: "{split}/images"
      masks: "{split}/masks"
      values: {Trees: [100], Lush Bushes: [200], Dry Grass: [300], Dry Bushes: [500], Ground Clutter: [550], Flowers: [600],
               Logs: [700], Rocks: [800], Landscape: [7100], Sky: [10000]}
      ignore: [0]
      split: {by: folder, folders: {train: train, val: val, test: test}}
    group: "^(?:.*/)?([^/]+?)_[0-9]+\\\\.[a-z]+$"

0 (background) is the bonnet of the own vehicle, which some sequences show. Sky, landscape and dry grass fill most of the pixels;
flowers and logs are rare, logs in one of three images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.params.data import Synthetic
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
)
from stages.sources.synthetic.road import Camera, Path as Track, stripe

IDS = {
    "Trees": 100,
    "Lush Bushes": 200,
    "Dry Grass": 300,
    "Dry Bushes": 500,
    "Ground Clutter": 550,
    "Flowers": 600,
    "Logs": 700,
    "Rocks": 800,
    "Landscape": 7100,
    "Sky": 10000,
}
FRAMES = 5  # images of one sequence
LIGHT = ("day", "overcast", "day", "dusk")  # dealt to the sequences in turn
BLOSSOMS: tuple[Color, ...] = ((0.85, 0.75, 0.15), (0.75, 0.35, 0.65), (0.92, 0.90, 0.86), (0.85, 0.30, 0.20))


@dataclass(frozen=True)
class Country:
    """What the frames of a sequence share."""

    light: Light
    camera: Camera
    soil: Color
    straw: Color
    leaf: Color
    stone: Color
    blossom: Color
    grass: float  # how much of the ground is grown over, about -0.5..0.5
    clutter: float
    woods: float  # expected number of trees
    bushes: float
    rocks: float
    bonnet: bool


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
    for kind, x, z in _plants(rng, country):
        kind(canvas, rng, country, camera, x, z, grain)
    if country.bonnet:
        _bonnet(canvas, rng)
    image = expose(canvas, rng, country.light, camera.center, camera.focal)
    return image, canvas.label


def make_country(rng: np.random.Generator, size: tuple[int, int], order: int) -> Country:
    """The country of a sequence: arid, meadow or woods."""
    height, width = size
    kind = ("arid", "meadow", "woods")[order % 3]
    soil: Color = {"arid": (0.60, 0.47, 0.33), "meadow": (0.50, 0.42, 0.30), "woods": (0.42, 0.36, 0.27)}[kind]  # type: ignore[assignment]
    return Country(
        light=LIGHTS[LIGHT[order % len(LIGHT)]],
        camera=Camera(height * rng.uniform(0.36, 0.5), width / 2, width * rng.uniform(0.7, 0.95), rng.uniform(1.3, 2.0)),
        soil=vary(rng, soil, 0.15),
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
        ("Dry Grass", coarse + 0.35 * middle + country.grass + 0.25 * blades, country.straw, 0.38),
        ("Ground Clutter", sample(tile, u * 5 + 200, v * 3 + 60) + 0.5 * middle - 0.62 + country.clutter, (0.38, 0.31, 0.23), 0.7),
    )
    for name, field, paint, contrast in layers:
        cover = np.clip((field - 0.9 * bare) * 14 + 0.5, 0, 1)
        tone = np.asarray(paint, np.float32) * (1 + contrast * blades + 0.18 * middle + 0.05)[..., None]
        color += cover[..., None] * (tone - color)
        label[cover >= 0.5] = IDS[name]
    if rng.random() < 0.45:  # flowers: dots in a patch of the grass
        patch = (sample(tile, u * 3 + 150, v * 2 + 10) > 0.42) & (sample(tile, u * 80, v * 60) > 0.3) & (z < 40)
        patch &= label == IDS["Dry Grass"]
        color[patch] = np.asarray(country.blossom, np.float32) * (1 + 0.25 * blades[patch, None])
        label[patch] = IDS["Flowers"]
    canvas.image[first:] = color
    canvas.depth[first:] = z
    canvas.label[first:] = label


def _plants(rng: np.random.Generator, country: Country):
    """(drawing function, x, z) of everything that stands on the ground, far to near."""
    found = []
    for kind, expected, nearest, farthest in (
        (_tree, country.woods, 11, 110),
        (_lush, country.bushes * 0.6, 7, 60),
        (_dry, country.bushes * 0.7, 5, 50),
        (_rock, country.rocks, 4, 35),
        (_log, 0.4, 4.5, 14),
    ):
        for _ in range(int(rng.poisson(expected))):
            z = float(nearest + (farthest - nearest) * rng.random() ** 1.5)
            reach = 0.65 * z + 2
            x = float(rng.uniform(-reach, reach))
            if abs(x) > 1.6 or kind is _log:  # the track stays free
                found.append((kind, x, z))
    return sorted(found, key=lambda item: -item[2])


def _outline(rng: np.random.Generator, middle: tuple[float, float], size: tuple[float, float], rough: float, points: int = 18) -> NDArray:
    """A ragged closed curve around a point, pixels."""
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 1 + rng.uniform(-rough, rough, points)
    return np.stack([middle[0] + size[0] * radius * np.cos(turn), middle[1] + size[1] * radius * np.sin(turn)], 1)


def _foliage(canvas: Canvas, rng: np.random.Generator, at: tuple[float, float], size: tuple[float, float], color: Color, name: str,
             z: float, grain: Array, clumps: int) -> None:  # fmt: skip
    """Overlapping ragged clumps, shaded ones first."""
    for k in range(clumps):
        tone = 0.65 + 0.6 * k / max(clumps - 1, 1)
        middle = (at[0] + rng.normal(0, 0.42) * size[0], at[1] + (0.35 - 0.7 * k / clumps + rng.normal(0, 0.15)) * size[1])
        shape = _outline(rng, middle, (size[0] * 0.6, size[1] * 0.52), 0.22)
        canvas.polygon(shape, np.asarray(color) * tone, IDS[name], z, 0.4 * grain)


def _shade(canvas: Canvas, camera: Camera, x: float, z: float, half: float) -> None:
    """The dark ground under something; the ground keeps its label."""
    u, v = camera.project(x, 0.0, z)
    wide = camera.focal * half / z
    canvas.ellipse((u + wide * 0.2, v), (wide * 1.15, max(wide * 0.22, 0.6)), (0.16, 0.13, 0.10), None, z)


def _tree(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array) -> None:
    tall = rng.uniform(3.5, 9)
    half = tall * rng.uniform(0.18, 0.3)
    _shade(canvas, camera, x, z, half)
    trunk = camera.project([x - 0.15, x + 0.15, x + 0.08, x - 0.08], [0, 0, tall * 0.6, tall * 0.6], z)
    canvas.polygon(trunk, (0.26, 0.20, 0.15), IDS["Trees"], z, 0.3 * grain)
    u, v = camera.project(x, tall * 0.66, z)
    scale = camera.focal / z
    _foliage(canvas, rng, (u, v), (half * scale, tall * 0.34 * scale), vary(rng, country.leaf, 0.2), "Trees", z, grain, 7)


def _lush(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array) -> None:
    tall = rng.uniform(0.7, 1.9)
    _shade(canvas, camera, x, z, tall * 0.8)
    u, v = camera.project(x, tall * 0.45, z)
    scale = camera.focal / z
    green = tuple(c * f for c, f in zip(country.leaf, (0.95, 1.3, 0.9), strict=True))
    _foliage(canvas, rng, (u, v), (tall * 0.8 * scale, tall * 0.5 * scale), vary(rng, green, 0.15), "Lush Bushes", z, grain, 5)  # type: ignore[arg-type]


def _dry(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array) -> None:
    tall = rng.uniform(0.4, 1.3)
    _shade(canvas, camera, x, z, tall * 0.7)
    u, v = camera.project(x, tall * 0.42, z)
    scale = camera.focal / z
    brown = tuple(c * f for c, f in zip(country.straw, (0.72, 0.66, 0.62), strict=True))
    color = vary(rng, brown, 0.2)  # type: ignore[arg-type]
    for _ in range(14):  # bare twigs around the clump
        tip = (u + rng.normal(0, 0.75) * tall * scale, v - rng.uniform(0.1, 0.75) * tall * scale)
        canvas.line([camera.project(x, 0.0, z), tip], scale * 0.03, np.asarray(color) * 0.8, IDS["Dry Bushes"], z)
    _foliage(canvas, rng, (u, v), (tall * 0.6 * scale, tall * 0.42 * scale), color, "Dry Bushes", z, 1.6 * grain, 4)


def _rock(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array) -> None:
    half = rng.uniform(0.2, 0.9)
    _shade(canvas, camera, x, z, half)
    scale = camera.focal / z
    u, v = camera.project(x, half * 0.4, z)
    color = np.asarray(vary(rng, country.stone, 0.2))
    outer = _outline(rng, (u, v), (half * scale, half * 0.55 * scale), 0.18, 9)
    outer[:, 1] = np.minimum(outer[:, 1], v + half * 0.4 * scale)
    canvas.polygon(outer, color * 0.72, IDS["Rocks"], z, 0.18 * grain)
    lit = (outer - (u, v)) * (0.78, 0.66) + (u - 0.1 * half * scale, v - 0.16 * half * scale)
    canvas.polygon(lit, color * 1.12, IDS["Rocks"], z, 0.18 * grain)


def _log(canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array) -> None:
    length, thick, turn = rng.uniform(1.5, 4), rng.uniform(0.14, 0.32), rng.uniform(-0.5, 0.5)
    ends = [(x - length / 2, z), (x + length / 2, z + length * turn)]
    (x0, z0), (x1, z1) = (ends[0][0], max(ends[0][1], 3)), (ends[1][0], max(ends[1][1], 3))
    _shade(canvas, camera, x, (z0 + z1) / 2, length / 2)
    body = camera.project([x0, x1, x1, x0], [0, 0, 2 * thick, 2 * thick], [z0, z1, z1, z0])
    bark = np.asarray(vary(rng, (0.36, 0.27, 0.20), 0.2))
    canvas.polygon(body, bark * 0.8, IDS["Logs"], min(z0, z1), 0.3 * grain)
    upper = camera.project([x0, x1, x1, x0], [thick, thick, 1.9 * thick, 1.9 * thick], [z0, z1, z1, z0])
    canvas.polygon(upper, bark * 1.25, IDS["Logs"], min(z0, z1), 0.3 * grain)
    nearer = (x0, z0) if z0 < z1 else (x1, z1)
    cut = camera.project(nearer[0], thick, nearer[1])
    size = camera.focal * thick / nearer[1]
    canvas.ellipse((cut[0], cut[1]), (size * 0.7, size), (0.66, 0.53, 0.36), IDS["Logs"], nearer[1])


def _bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.shape
    columns = np.linspace(0.08, 0.92, 15)
    top = height * (0.93 + 0.5 * (columns - 0.5) ** 2)
    outline = [(0.04 * width, height + 2), *zip(columns * width, top, strict=True), (0.96 * width, height + 2)]
    canvas.polygon(outline, vary(rng, (0.24, 0.26, 0.24), 0.1), 0, 1.5)

"""What stands on the ground of the off-road scenes, with the raw mask id of each: trees, bushes, rocks and logs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenes.draw import Array, Canvas, Color, Light, vary
from scenes.road import Camera

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


def _outline(
    rng: np.random.Generator, middle: tuple[float, float], size: tuple[float, float], rough: float, points: int = 18
) -> NDArray:
    """A ragged closed curve around a point, pixels."""
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 1 + rng.uniform(-rough, rough, points)
    return np.stack([middle[0] + size[0] * radius * np.cos(turn), middle[1] + size[1] * radius * np.sin(turn)], 1)


def _foliage(
    canvas: Canvas,
    rng: np.random.Generator,
    at: tuple[float, float],
    size: tuple[float, float],
    color: Color,
    name: str,
    z: float,
    grain: Array,
    clumps: int,
) -> None:
    """Overlapping ragged clumps, shaded ones first."""
    for k in range(clumps):
        tone = 0.65 + 0.6 * k / max(clumps - 1, 1)
        middle = (
            at[0] + rng.normal(0, 0.42) * size[0],
            at[1] + (0.35 - 0.7 * k / clumps + rng.normal(0, 0.15)) * size[1],
        )
        shape = _outline(rng, middle, (size[0] * 0.6, size[1] * 0.52), 0.22)
        canvas.polygon(shape, np.asarray(color) * tone, IDS[name], z, 0.4 * grain)


def _shade(canvas: Canvas, camera: Camera, x: float, z: float, half: float) -> None:
    """The dark ground under something; the ground keeps its label."""
    u, v = camera.project(x, 0.0, z)
    wide = camera.focal * half / z
    canvas.ellipse((u + wide * 0.2, v), (wide * 1.15, max(wide * 0.22, 0.6)), (0.16, 0.13, 0.10), None, z)


def _tree(
    canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array
) -> None:
    tall = rng.uniform(3.5, 9)
    half = tall * rng.uniform(0.18, 0.3)
    _shade(canvas, camera, x, z, half)
    trunk = camera.project([x - 0.15, x + 0.15, x + 0.08, x - 0.08], [0, 0, tall * 0.6, tall * 0.6], z)
    canvas.polygon(trunk, (0.26, 0.20, 0.15), IDS["Trees"], z, 0.3 * grain)
    u, v = camera.project(x, tall * 0.66, z)
    scale = camera.focal / z
    _foliage(
        canvas, rng, (u, v), (half * scale, tall * 0.34 * scale), vary(rng, country.leaf, 0.2), "Trees", z, grain, 7
    )


def _lush(
    canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array
) -> None:
    tall = rng.uniform(1.0, 2.4)
    _shade(canvas, camera, x, z, tall * 0.8)
    u, v = camera.project(x, tall * 0.45, z)
    scale = camera.focal / z
    green = (country.leaf[0] * 0.95, country.leaf[1] * 1.3, country.leaf[2] * 0.9)
    color = vary(rng, green, 0.15)
    _foliage(canvas, rng, (u, v), (tall * 0.8 * scale, tall * 0.5 * scale), color, "Lush Bushes", z, grain, 5)


def _dry(
    canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array
) -> None:
    tall = rng.uniform(0.7, 1.9)
    _shade(canvas, camera, x, z, tall * 0.7)
    u, v = camera.project(x, tall * 0.42, z)
    scale = camera.focal / z
    color = vary(rng, (country.straw[0] * 0.72, country.straw[1] * 0.66, country.straw[2] * 0.62), 0.2)
    for _ in range(14):  # bare twigs around the clump
        tip = (u + rng.normal(0, 0.75) * tall * scale, v - rng.uniform(0.1, 0.75) * tall * scale)
        canvas.line(
            np.asarray([camera.project(x, 0.0, z), tip]), scale * 0.03, np.asarray(color) * 0.8, IDS["Dry Bushes"], z
        )
    _foliage(canvas, rng, (u, v), (tall * 0.6 * scale, tall * 0.42 * scale), color, "Dry Bushes", z, 1.6 * grain, 4)


def _rock(
    canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array
) -> None:
    half = rng.uniform(0.35, 1.3)
    _shade(canvas, camera, x, z, half)
    scale = camera.focal / z
    u, v = camera.project(x, half * 0.4, z)
    color = np.asarray(vary(rng, country.stone, 0.2))
    outer = _outline(rng, (u, v), (half * scale, half * 0.55 * scale), 0.18, 9)
    outer[:, 1] = np.minimum(outer[:, 1], v + half * 0.4 * scale)
    canvas.polygon(outer, color * 0.72, IDS["Rocks"], z, 0.18 * grain)
    lit = (outer - (u, v)) * (0.78, 0.66) + np.asarray((u - 0.1 * half * scale, v - 0.16 * half * scale))
    canvas.polygon(lit, color * 1.12, IDS["Rocks"], z, 0.18 * grain)


def _log(
    canvas: Canvas, rng: np.random.Generator, country: Country, camera: Camera, x: float, z: float, grain: Array
) -> None:
    length, thick, turn = rng.uniform(1.8, 4.5), rng.uniform(0.22, 0.45), rng.uniform(-0.5, 0.5)
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


Drawing = Callable[[Canvas, np.random.Generator, Country, Camera, float, float, Array], None]


def plants(rng: np.random.Generator, country: Country) -> list[tuple[Drawing, float, float]]:
    """(drawing function, x, z) of everything that stands on the ground, far to near."""
    found: list[tuple[Drawing, float, float]] = []
    for kind, expected, nearest, farthest in (
        (_tree, country.woods, 11, 90),
        (_lush, country.bushes * 0.6, 7, 45),
        (_dry, country.bushes * 0.8, 5, 35),
        (_rock, country.rocks, 4.5, 28),
        (_log, 0.9, 5, 16),
    ):
        for _ in range(int(rng.poisson(expected))):
            z = float(nearest + (farthest - nearest) * rng.random() ** 1.5)
            reach = 0.65 * z + 2
            x = float(rng.uniform(-reach, reach))
            if abs(x) > 1.6 or kind is _log:  # the track stays free
                found.append((kind, x, z))
    return sorted(found, key=lambda item: -item[2])

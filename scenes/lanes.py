"""Road scenes with white lane markings, in the layout that studies/lanes.yaml reads.

    images/<sequence>_<nnnn>.jpg
    masks/<sequence>_<nnnn>.png    0 background, 1 white solid, 2 white dashed; no other value
    train.txt val.txt test.txt     one image path per line; a sequence is in one list only
    unlabeled/highway/*.jpg  unlabeled/city/*.jpg  unlabeled/drive.mp4

A fifth of the `unlabeled` images comes from the video, counting every 5th frame; the two
folders share the rest.

A sequence has one road, light and camera; its frames are taken far apart. Paint under a vehicle, rail or tree is
background, so are yellow lines, arrows, crossings, stop lines and kerbs. A marking is labelled where it covers at least
half of the pixel, as far as it can be made out in the light.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrace.config.data import Synthetic
from retrace.files import write_text
from scenes import road
from scenes.draw import LIGHTS, Color, expose, generator, vary, write_image, write_mask, write_video
from scenes.lane_road import Frame, Marking, Road, render

FRAMES = 5  # images of one sequence
EVERY = 5  # video frames per counted unlabelled image
ORDER = ("day", "dusk", "overcast", "day", "night", "day", "rain")  # lights, dealt to the sequences in turn
GRASS: Color = (0.27, 0.36, 0.16)
PAVEMENT: Color = (0.47, 0.46, 0.45)
CARS: tuple[Color, ...] = (
    (0.75, 0.76, 0.78),
    (0.12, 0.13, 0.15),
    (0.55, 0.10, 0.10),
    (0.16, 0.24, 0.45),
    (0.85, 0.85, 0.84),
    (0.35, 0.37, 0.38),
    (0.30, 0.36, 0.28),
)


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
        found += [
            Task(place, f"{place}{index // FRAMES:03d}", index // FRAMES, index % FRAMES) for index in range(count)
        ]
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
    width = float(rng.uniform(0.28, 0.42))
    markings = tuple(
        Marking((index - own - 0.5) * lane, kind, width * (1.15 if kind == "solid" else 1.0))
        for index, kind in enumerate(_kinds(rng, lanes, missing))
        if kind != "none"
    )
    height, columns = size
    camera = road.Camera(
        height * rng.uniform(0.34, 0.44), columns / 2, columns * rng.uniform(0.75, 0.95), rng.uniform(1.25, 1.75)
    )
    return Road(
        light=ORDER[task.order % len(ORDER)],
        town=town,
        lanes=lanes,
        lane=lane,
        left=-(own + 0.5) * lane - rng.uniform(0.3, 1.4),
        right=(lanes - own - 0.5) * lane + rng.uniform(0.3, 1.8),
        markings=markings,
        dash=rng.uniform(2.0, 3.2),
        gap=rng.uniform(2.2, 3.8),
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
        return [
            "yellow" if left == "yellow" else "none",
            *("dashed" for _ in inner),
            "dashed" if right == "dashed" else "none",
        ]
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
    path = road.Path(
        0.5 * np.sin(0.5 * time + sway), 0.02 * np.cos(0.5 * time + sway), 0.005 * np.sin(0.35 * time + turn)
    )
    cars = []
    for car in start.vehicles:
        z = 6 + (car.z + (2 * np.sin(car.z) - 0.5) * time) % 60
        lane = round(float(car.x - start.path.at(car.z)) / way.lane)
        cars.append(replace(car, z=z, x=float(path.at(z)) + lane * way.lane))
    return replace(start, along=(14 + speed) * time, path=path, vehicles=tuple(cars), arrow=None, crossing=None)

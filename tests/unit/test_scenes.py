"""The embedded segmentation scenes: determinism, layout, exact labels; read back through the ordinary sources."""

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from retrace.config import merge, read_yaml
from retrace.config.data import Synthetic
from retrace.config.load import parse
from retrace.config.schema import Params
from retrace.data import formats as sources
from retrace.data.formats import unlabeled
from retrace.data.formats.problems import Problems
from scenes import SCENES, generate, lanes, offroad
from scenes.draw import write_video
from scenes.lane_road import DASHED, SOLID, Frame, Marking, Road, render
from scenes.plants import IDS
from scenes.road import Camera, Vehicle
from scenes.road import Path as Track
from scenes.street import CLASSES

ROOT = Path(__file__).parents[2]
STUDY = {"lanes": "lanes", "offroad": "offroad", "driving": "bdd100k"}
SIZE = {"height": 48, "width": 80}


def scene(name: str, **changes: int) -> Synthetic:
    values = {"scene": name, "seed": 3, "train": 6, "val": 3, "test": 2, "unlabeled": 0, **SIZE}
    return Synthetic.model_validate(values | changes)


def study(name: str, **synthetic: int) -> Params:
    """The demo parameters of the scene's study."""
    files = [read_yaml(ROOT / "studies" / f"{STUDY[name]}{suffix}") for suffix in (".yaml", ".demo.yaml")]
    return parse(merge(merge(*files), {"data": {"synthetic": synthetic}}))


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pictures(name: str, count: int, **changes: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(sequence or name, image, mask) of the first training images, drawn without files."""
    wanted = scene(name, train=count, **changes)
    module = SCENES[name]
    tasks = module.tasks(wanted)[:count]
    return [(getattr(task, "sequence", str(task)), *module.picture(wanted, task)) for task in tasks]


@pytest.mark.parametrize("name", ["lanes", "offroad", pytest.param("driving", marks=pytest.mark.slow)])
def test_same_seed_same_bytes_whatever_the_number_of_workers(name, tmp_path):
    wanted = scene(name, unlabeled=5)
    generate(wanted, tmp_path / "one", workers=1)
    generate(wanted, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("name", STUDY)
def test_another_seed_draws_other_images(name):
    for (_, image, mask), (_, other, other_mask) in zip(pictures(name, 3), pictures(name, 3, seed=4), strict=True):
        assert np.abs(image.astype(int) - other).mean() > 5
        assert (mask != other_mask).any()


@pytest.mark.parametrize("name", STUDY)
def test_an_image_does_not_depend_on_how_many_there_are_nor_on_the_order(name):
    module = SCENES[name]
    few, many = scene(name, train=6), scene(name, train=23, val=11, unlabeled=20)
    last = module.tasks(few)[5]
    assert last in module.tasks(many)
    for task in reversed(module.tasks(many)[:5]):
        module.picture(many, task)
    for drawn, again in zip(module.picture(few, last), module.picture(many, last), strict=True):
        np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize(("name", "labelled"), [("lanes", 11), ("offroad", 11), ("driving", 9)])
def test_the_ordinary_source_reads_the_layout(name, labelled, tmp_path):
    counts = {"train": 6, "val": 3, "test": 2, "unlabeled": 0, **SIZE}
    params = study(name, **counts)
    generate(params.data.synthetic, tmp_path / "raw", workers=1)
    problems = Problems()
    items = sources.read(tmp_path / "raw", params, problems)
    assert not problems.serious
    assert Counter(item.split for item in items if item.split in ("train", "val")) == {"train": 6, "val": 3}
    masked = [item for item in items if item.mask]
    assert len(masked) == labelled
    for item in masked:
        known = {raw for raw, _ in item.codes.classes}
        mask = cv2.imread(str(item.mask), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (SIZE["height"], SIZE["width"])
        assert mask.shape == cv2.imread(str(item.path)).shape[:2]
        assert set(np.unique(mask)) <= known
        assert mask.dtype == (np.uint16 if name == "offroad" else np.uint8)
    if name == "driving":
        assert len(frames_of(tmp_path / "raw" / "clip.mp4")) == 40


def test_lanes_unlabelled_folders_and_video(tmp_path):
    params = study("lanes", train=2, val=1, test=1, unlabeled=15, **SIZE)
    generate(params.data.synthetic, tmp_path / "raw", workers=1)
    problems = Problems()
    items = unlabeled.read(params.data.unlabeled, tmp_path / "raw", problems, tmp_path / "frames")
    assert Counter(item.origin for item in items) == {
        "unlabeled/highway": 6,
        "unlabeled/city": 6,
        "unlabeled/drive.mp4": 3,
    }
    frames = [cv2.imread(str(item.path)).astype(int) for item in items if item.origin.endswith("mp4")]
    assert all(np.abs(a - b).mean() > 1 for a, b in pairwise(frames))  # it moves


@pytest.mark.parametrize("name", ["lanes", "offroad"])
def test_no_sequence_is_in_two_splits(name):
    found: dict[str, set[str]] = {}
    for task in SCENES[name].tasks(scene(name, train=13, val=7, test=6)):
        split = task.place if name == "lanes" else task.split
        found.setdefault(str(task.order), set()).add(split)
    assert len(found) == 3 + 2 + 2
    assert all(len(splits) == 1 for splits in found.values())


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (step := video.read())[0]:
        frames.append(step[1])
    return frames


def test_videos_of_odd_sizes_hold_every_frame(tmp_path):
    drawn = [np.full((49, 81, 3), (40 * k, 100, 200 - 40 * k), np.uint8) for k in range(5)]
    write_video(tmp_path / "clip.mp4", drawn, rate=10)
    frames = frames_of(tmp_path / "clip.mp4")
    assert len(frames) == 5
    for frame, wanted in zip(frames, drawn, strict=True):
        assert np.abs(frame[..., ::-1].astype(int) - wanted[: frame.shape[0], : frame.shape[1]]).mean() < 8


@pytest.mark.parametrize("name", STUDY)
def test_images_are_no_near_duplicates(name):
    drawn = pictures(name, 20, height=64, width=96)
    bits = np.asarray([imagehash.phash(Image.fromarray(image)).hash.ravel() for _, image, _ in drawn])
    distance = (bits[:, None] != bits[None]).sum(-1)
    assert distance[~np.eye(len(bits), dtype=bool)].min() > 3


def test_lanes_are_a_minority_and_some_sequences_lack_a_class():
    drawn = pictures("lanes", 60, height=64, width=112)
    share = np.bincount(np.concatenate([mask.ravel() for _, _, mask in drawn]), minlength=3) / (60 * 64 * 112)
    assert len(share) == 3
    assert 0.9 < share[0] < 0.99
    assert share[SOLID] > 0.008
    assert share[DASHED] > 0.004
    seen: dict[str, set[int]] = {}
    for sequence, _, mask in drawn:
        seen.setdefault(sequence, set()).update(np.unique(mask).tolist())
    lacking = [missing for values in seen.values() for missing in ({SOLID, DASHED} - values)]
    assert {SOLID, DASHED} == set(lacking)
    assert len(lacking) < len(seen) / 2


def test_offroad_has_every_id_in_the_published_kind_of_imbalance():
    drawn = pictures("offroad", 45)
    values, counts = np.unique(np.concatenate([mask.ravel() for _, _, mask in drawn]), return_counts=True)
    share = dict(zip(values.tolist(), counts / counts.sum(), strict=True))
    assert set(share) == {0, *IDS.values()}
    assert share[IDS["Sky"]] > 0.2
    assert share[IDS["Landscape"]] > 0.2
    assert share[IDS["Dry Grass"]] > 0.08
    for rare in ("Flowers", "Logs", "Rocks"):
        assert share[IDS[rare]] < 0.04
    for _, _, mask in drawn:
        rows = np.argwhere(mask == IDS["Sky"])[:, 0]
        assert rows.max() < 0.75 * SIZE["height"]  # there is a horizon
    assert offroad.IDS is IDS


def test_driving_has_every_class():
    drawn = pictures("driving", 40)
    images = Counter(value for _, _, mask in drawn for value in np.unique(mask).tolist())
    assert set(images) == {*range(19), 255}
    assert len(CLASSES) == 19
    assert min(images.values()) >= 3


ROADWAY = Road(
    light="day", town=False, lanes=2, lane=3.5, left=-2.0, right=5.5,
    markings=(Marking(-1.75, "solid", 0.3), Marking(1.75, "dashed", 0.3), Marking(5.0, "yellow", 0.3)),
    dash=3.0, gap=4.0, wear=0.2, edge="grass", asphalt=(0.3, 0.3, 0.3), verge=(0.3, 0.4, 0.2),
    camera=Camera(60.0, 120.0, 200.0, 1.5), bend=0.0,
)  # fmt: skip


def labels(frame: Frame) -> np.ndarray:
    return render(ROADWAY, frame, np.random.default_rng(0), (160, 240)).label


def test_lane_labels_are_where_the_geometry_says():
    track = Track(0.2, 0.02, 0.004)
    frame = Frame(100.0, ROADWAY.camera, track, (), None, None)
    mask = labels(frame)
    for z in (4.0, 5.5, 7.0, 9.0, 12.0):
        # independent of the code under test: where the pinhole camera sees the marking on flat ground
        for lateral, expected in ((-1.75, SOLID), (1.75, None), (5.0, 0), (0.0, 0)):
            x = 0.2 + 0.02 * z + 0.004 * z * z / 2 + lateral
            column, row = 120 + 200 * x / z, 60 + 200 * 1.5 / z
            if not 0 <= column < 239:
                continue
            if expected is None:
                inside = (100.0 + z) % 7
                if min(abs(inside - edge) for edge in (0, 3, 7)) < 0.6:
                    continue  # at the end of a dash
                expected = DASHED if inside < 3 else 0
            assert mask[round(row), round(column)] == expected, (z, lateral)


def test_paint_under_a_vehicle_is_not_labelled():
    empty = Frame(100.0, ROADWAY.camera, Track(0.0, 0.0, 0.0), (), None, None)
    car = Vehicle("car", -1.75, 8.0, (0.5, 0.1, 0.1))
    free, hidden = labels(empty), labels(replace(empty, vehicles=(car,)))
    changed = free != hidden
    assert changed.sum() > 20
    assert (hidden[changed] == 0).all()
    assert set(np.unique(free[changed])) == {SOLID}


def test_arrows_and_crossings_are_background():
    empty = Frame(100.0, ROADWAY.camera, Track(0.0, 0.0, 0.0), (), None, None)
    painted = replace(empty, arrow=6.0, crossing=12.0)
    before, after = labels(empty), labels(painted)
    assert (after[before == 0] == 0).all()
    assert not np.array_equal(
        render(ROADWAY, empty, np.random.default_rng(0), (160, 240)).image,
        render(ROADWAY, painted, np.random.default_rng(0), (160, 240)).image,
    )


def test_an_unfinished_set_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lanes, "write_mask", broken)
    with pytest.raises(Exception, match="No space left"):
        generate(scene("lanes"), tmp_path / "raw", workers=1)
    assert list(tmp_path.iterdir()) == []

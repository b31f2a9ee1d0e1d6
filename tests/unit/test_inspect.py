"""`retrace inspect`: folders in every format, what is counted, and study files that `collect` and `rebalance` run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrace.cli.inspect import inspect, study_name
from retrace.cli.use import use
from retrace.config.load import load
from retrace.data.inspection.folder import Folder
from retrace.data.inspection.formats import chosen
from retrace.data.inspection.pairing import named
from retrace.data.inspection.study import flow, input_size
from retrace.errors import UserError
from retrace.files import read_json
from stages.collect import collect
from stages.rebalance import rebalance
from tests.support import detection_sets as sets


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; what is to be inspected lies in `exported`."""
    (tmp_path / "project" / "studies").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def through_the_stages(project, study):
    """Counts of the splits, after `use`, `collect` and `rebalance` with the study file unchanged."""
    use(study, demo=False, force=True)
    params = load()
    dataset = collect(params)
    summary = rebalance(params, project / "data" / study / "raw", project / "data" / study / "splits")
    return dataset, summary


def masks(root, splits, values=(0, 1, 7), image=".jpg", rule="{}.png", folders=("images", "labels")):
    """Noise pictures and masks with all `values`, per split folder (None: no split)."""
    for number, (split, count) in enumerate(splits.items()):
        for index in range(count):
            stem = f"scene{number}{index}x"
            picture = [part for part in (split, folders[0]) if part]
            target = [part for part in (split, folders[1]) if part]
            sets.picture(root.joinpath(*picture, stem + image), 100 * number + index, (64, 48))
            raw = np.resize(np.array(values, np.uint8), (48, 64))
            root.joinpath(*target).mkdir(parents=True, exist_ok=True)
            Image.fromarray(raw).save(root.joinpath(*target, rule.format(stem)))
    return root


def test_yolo(project):
    row = "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n"
    rows = (
        {f"train/{i}x": row for i in range(8)} | {f"valid/{i}y": row for i in range(6)} | {"valid/bad": "0 2 2 1 1\n"}
    )
    text = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['1', 'null']\n"
    sets.yolo(project / "exported", rows, text)
    lines = "\n".join(inspect(project / "exported", None, None, None, False))
    assert "YOLO" in lines and "box_outside" in lines
    dataset, summary = through_the_stages(project, "exported")
    assert dataset.classes == ["1", "null"] and dataset.quarantined == 1
    assert summary.counts.before["train"].images == 8 and summary.counts.before["val"].images == 6
    assert summary.counts.before["val"].classes["null"].instances == 6
    with pytest.raises(UserError, match="--force"):
        inspect(project / "exported", None, None, None, False)
    inspect(project / "exported", "other_name", None, None, False)
    assert (project / "studies" / "other_name.yaml").is_file()


def test_coco_of_three_splits_and_of_one_file(project):
    root = project / "exported"
    for split, count in (("train", 8), ("val", 6), ("test", 5)):
        boxes = {f"{split}{i}q.png": [(1, 2, 10, 12)] for i in range(count)}
        sets.coco_file(root, split, sets.coco(root, boxes, split))
    inspect(root, None, None, None, False)
    _, summary = through_the_stages(project, "exported")
    assert [summary.counts.before[s].images for s in ("train", "val", "test")] == [8, 6, 5]
    assert list(summary.counts.before["train"].classes) == ["a"]  # categories without annotations are no classes
    twin = project / "twin"  # files of one name in both folders, and annotations beside the folders
    for split, count in (("train", 8), ("val", 6)):
        content = sets.coco(twin, {f"{i}q.png": [(1, 2, 10, 12)] for i in range(count)}, split)
        (twin / f"{split}.json").write_text(json.dumps(content))
    inspect(twin, None, None, None, False)
    assert dict(through_the_stages(project, "twin")[0].problems) == {}
    assert load().data.source.images == {"train": "train", "val": "valid"}
    single = project / "single"
    content = sets.coco(single, {f"{i}q.png": [(1, 2, 10, 12)] for i in range(20)})
    (single / "instances.json").write_text(json.dumps(content))
    inspect(single, None, None, None, False)
    _, summary = through_the_stages(project, "single")
    assert summary.counts.before["train"].images == 20 and summary.counts.after["val"].images >= 5


def test_voc_by_lists(project):
    root = sets.voc(project / "exported", {f"{i}x": sets.voc_xml([("cat", (2, 3, 20, 30))]) for i in range(16)})
    (root / "ImageSets" / "val.txt").write_text("".join(f"{i}x\n" for i in range(10, 16)))
    (root / "ImageSets" / "train.txt").write_text("".join(f"{i}x\n" for i in range(10)))
    inspect(root, None, None, None, False)
    _, summary = through_the_stages(project, "exported")
    assert [summary.counts.before[s].images for s in ("train", "val", "test")] == [10, 6, 0]
    assert summary.counts.before["val"].classes["cat"].instances == 6


@pytest.mark.parametrize(
    ("layout", "images"),
    [
        ({"splits": {"train": 8, "val": 6, "test": 5}}, [8, 6, 5]),
        ({"splits": {"training": 8, "validation": 6}, "rule": "{}_mask.png", "folders": ("", "")}, [8, 6, 0]),
        ({"splits": {"": 40}, "rule": "gt_{}.png", "image": ".png"}, [24, 8, 8]),
    ],
)
def test_masks(project, layout, images):
    root = masks(project / "exported", values=(0, 1, 7, 255), **layout)
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, ground\n1, tree\n7, unlabeled\n9, never\n")
    lines = "\n".join(inspect(root, None, None, None, False))
    assert "_classes.csv" in lines
    _, summary = through_the_stages(project, "exported")
    assert [summary.counts.before[s].images for s in ("train", "val", "test")] == images
    assert list(summary.counts.before["train"].classes) == ["ground", "tree", "never"]
    assert load().data.source.ignore == (7, 255)


def test_folders_of_cities_below_images_and_masks_are_one_data_set(project):
    for split, city, count in (("train", "aachen", 5), ("train", "bochum", 4), ("val", "lindau", 6)):
        for part, suffix in (("photo", ".jpg"), ("truth", ".png")):
            folder = project / "exported" / part / split / city
            folder.mkdir(parents=True)
            for index in range(count):
                raw = np.resize(np.array([0, 1, 2], np.uint8), (48, 64))
                path = folder / f"{city}{index}x{suffix}"
                sets.picture(path, index, (64, 48)) if part == "photo" else Image.fromarray(raw).save(path)
    inspect(project / "exported", None, None, None, False)
    _, summary = through_the_stages(project, "exported")
    assert load().data.source.images == "photo/{split}"
    assert [summary.counts.before[s].images for s in ("train", "val", "test")] == [9, 6, 0]


def test_what_is_no_data_set_is_one_message(project):
    with pytest.raises(UserError, match="no such folder"):
        inspect(project / "nowhere", None, None, None, False)
    (project / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        inspect(project / "empty", None, None, None, False)
    sets.picture(project / "photographs" / "a.png")
    with pytest.raises(UserError, match="no known format.*1 images"):
        inspect(project / "photographs", None, None, None, False)
    assert not list((project / "studies").iterdir())


REAL = {  # kind, task, images
    "aquarium_yolo": ("yolo", "detection", "*/images/*.jpg"),
    "plates_coco": ("coco", "detection", "*/*.jpg"),
    "indoor_pngmask": ("masks", "segmentation", "*/*.jpg"),
    "lanenet_sample": ("masks", "segmentation", "data/training_data_example/image/*.png"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_exports_are_recognized(real_data, name):
    folder = real_data(name)
    kind, task, pattern = REAL[name]
    candidate, _ = chosen(Folder.of(folder), None, None)
    assert (candidate.source["kind"], candidate.task) == (kind, task)
    assert candidate.images == len(list(folder.glob(pattern)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["aquarium_yolo", "plates_coco", "camvid", "indoor_pngmask", "lanenet_sample", "pothole_yoloseg",
             "labelme_examples", "kitti_road"]
)  # fmt: skip
def test_a_study_file_for_real_data_goes_unchanged_through_collect_and_rebalance(project, real_data, name):
    lines = "\n".join(inspect(real_data(name), None, None, None, False)).splitlines()
    dataset, summary = through_the_stages(project, name)
    shown = next(re.findall(r"[\d,]+", line) for line in lines if re.match(r"\s*images\s+\d", line))
    given = [summary.counts.before[split].images for split in ("train", "val", "test")]
    assert [int(text.replace(",", "")) for text in shown] == [count for count in given if count]
    assert sum(source.labelled for source in dataset.sources) == sum(given)
    assert read_json(project / "data" / name / "splits" / "summary.json")


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3)))
def test_a_value_on_one_line_is_read_back_as_it_was(value):
    assert yaml.safe_load(flow(value)) == value


@pytest.mark.parametrize(
    ("rule", "stem", "mask"),
    [
        ("gt_{stem}_x.png", "a", "gt_a_x.png"),
        ("{stem%_leftImg8bit}_gtFine_labelIds.png", "aachen_1_leftImg8bit", "aachen_1_gtFine_labelIds.png"),
        ("{stem/_/_lane_}.png", "um_000001", "um_lane_000001.png"),
    ],
)
def test_rules_of_mask_names(rule, stem, mask):
    assert named(rule, stem) == mask


def test_names_and_sizes():
    assert [study_name(Path(name)) for name in ("My Data.v2", "2024-export", "Ünï")] == [
        "my_data_v2",
        "study_2024_export",
        "n",
    ]
    assert input_size((1280, 720)) == (288, 512)
    assert input_size((500, 20)) == (32, 512)

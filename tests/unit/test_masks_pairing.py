"""Masks are found beside their images in the layouts of public data sets, and their values get names by themselves."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrace.data.formats.pairing import NoMask, rule_of
from retrace.data.formats.rawmask import read_raw_mask, to_classes
from retrace.errors import UserError
from tests.support.detection_sets import picture
from tests.support.shape_sets import RATIO, read, segmentation

FOLDERS = {"by": "folder", "folders": {"train": "train", "val": "val"}}
VALUES = {"road": [7], "car": [26]}


def mask(path: Path, values) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), (48, 64))).save(path)
    return path


def study(source, classes=("road", "car")):
    return segmentation({"kind": "masks", "background": None, "values": VALUES, **source}, classes)


def test_cityscapes_as_downloaded(tmp_path):
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau")):
        for number in range(2):
            stem = f"{city}_{number:06d}_000019"
            picture(tmp_path / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
            for kind in ("labelIds", "instanceIds", "color"):
                mask(tmp_path / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", [7, 26])
            (tmp_path / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    source = {"images": "leftImg8bit/{split}", "masks": "gtFine/{split}", "split": FOLDERS}
    rules = (
        {"mask_name": "{stem%_leftImg8bit}_gtFine_labelIds.png"},
        {"mask_name": "{stem/_leftImg8bit/_gtFine_labelIds}.png"},
        {"mask_name": "{1}_gtFine_labelIds.png", "image_name": "(.+)_leftImg8bit"},
        {"mask_name": "{place}_{2}_gtFine_labelIds.png", "image_name": "(?P<place>[a-z]+)_(.+)_leftImg8bit"},
    )
    for rule in rules:
        items, problems = read(tmp_path, study({**source, **rule}))
        assert problems.rows == []
        assert Counter(item.split for item in items.values()) == {"train": 4, "val": 2}
        for name, item in items.items():
            assert item.mask.name == Path(name).stem.removesuffix("leftImg8bit") + "gtFine_labelIds.png"


def test_a_mask_whose_image_is_missing_is_told_from_other_files(tmp_path):
    picture(tmp_path / "image_2/um_000000.png")
    for name in ("um_road_000000.png", "um_lane_000000.png", "um_road_000001.png"):
        mask(tmp_path / "gt_image_2" / name, [7, 26])
    source = {"images": "image_2", "masks": "gt_image_2", "mask_name": "{stem/_/_road_}.png", "split": RATIO}
    items, problems = read(tmp_path, study(source))
    assert list(items) == ["image_2/um_000000.png"]
    assert [(row.kind, row.path) for row in problems.rows] == [("mask_without_image", "gt_image_2/um_road_000001.png")]


def test_an_image_from_whose_name_no_mask_follows(tmp_path):
    picture(tmp_path / "i/a_left.png")
    picture(tmp_path / "i/b.png")
    mask(tmp_path / "m/a.png", [7, 26])
    for rule in ({"mask_name": "{stem%_left}.png"}, {"mask_name": "{1}.png", "image_name": "(.)_left"}):
        items, problems = read(tmp_path, study({"images": "i", "masks": "m", "split": RATIO, **rule}))
        assert list(items) == ["i/a_left.png"]
        assert [(row.kind, row.path) for row in problems.rows] == [("missing_mask", "i/b.png")]


@pytest.mark.parametrize(
    "name",
    ["{stem[:-12]}.png", "{stm}.png", "{1}.png", "{stem%}.png", "{stem/a}.png", "{stem/a/b/c}.png", "{stem", "}"],
)
def test_an_unknown_placeholder_is_refused_with_those_that_there_are(name):
    with pytest.raises(UserError, match="stem%END"):
        rule_of(name, None)


def test_a_regular_expression_that_is_none():
    with pytest.raises(UserError, match="not a regular expression"):
        rule_of("{1}.png", "(")


WORD = st.text("abc_", min_size=1, max_size=6)


@given(WORD, WORD, WORD)
def test_the_placeholders_are_what_shells_do(stem, old, new):
    """Against str.removesuffix, removeprefix and replace; and every mask that a rule names is recognized as one."""
    cuts = {"%": (stem.endswith(old), stem.removesuffix(old)), "#": (stem.startswith(old), stem.removeprefix(old))}
    for sign, (fits, wanted) in cuts.items():
        rule = rule_of(f"x{{stem{sign}{old}}}{new}.png", None)
        if fits and wanted:
            found = rule.mask_of(Path(f"d/{stem}.jpg"))
            assert found == Path(f"d/x{wanted}{new}.png") and rule.names_masks().fullmatch(found.name)
        elif not fits:
            with pytest.raises(NoMask):
                rule.mask_of(Path(f"d/{stem}.jpg"))
    rule = rule_of(f"{{stem/{old}/{new}}}.png", None)
    if old in stem:
        found = rule.mask_of(Path(f"{stem}.jpg"))
        assert found == Path(stem.replace(old, new, 1) + ".png") and rule.names_masks().fullmatch(found.name)


def test_kitti_road_as_downloaded(real_data):
    root = real_data("kitti_road")
    source = {
        "images": "training/image_2",
        "masks": "training/gt_image_2",
        "mask_name": "{stem/_/_lane_}.png",
        "values": {"road": ["#ff00ff"], "car": ["#ff0000"]},
        "ignore": ["#000000"],
        "split": RATIO,
    }
    items, problems = read(root, study(source))
    assert problems.rows == [] and len(items) == 4
    for item in items.values():
        found = to_classes(*read_raw_mask(item.mask, True), item.codes)
        truth = np.asarray(Image.open(item.mask).convert("RGB"))
        assert (found == 0).sum() == ((truth == (255, 0, 255)).all(-1)).sum()


def test_roboflows_png_masks_need_no_table(real_data):
    root = real_data("indoor_pngmask")
    table = [line.split(",") for line in (root / "train/_classes.csv").read_text().splitlines()[1:]]
    classes = [name.strip() for _, name in table]
    source = {
        "images": "{split}",
        "masks": "{split}",
        "image_pattern": "*.jpg",
        "mask_name": "{stem}_mask.png",
        "values": None,
        "split": {"by": "folder", "folders": {"train": "train", "val": "valid", "test": "test"}},
    }
    items, problems = read(root, study(source, classes[::-1]))
    assert problems.rows == []
    assert len(items) == len(list(root.glob("*/*_mask.png")))
    wanted = {(int(value), classes[::-1].index(name.strip())) for value, name in table}
    assert all(set(item.codes.classes) == wanted for item in items.values())


FILES = {
    "_classes.csv": "Pixel Value, Class\n0, road\n26, car\n",
    "labels.txt": "__ignore__\nroad\ncar\n",
    "class_names.txt": "road\ncar\n",
    "data.yaml": "names: {3: road, 5: car}\n",
    "list.yaml": "names: [road, car]\n",
    "coco.json": json.dumps({"categories": [{"id": 1, "name": "road"}, {"id": 4, "name": "car"}]}),
    "config_v2.0.json": json.dumps({"labels": [{"readable": "road", "name": "x--road"}, {"readable": "car"}]}),
}
TABLES = {
    "_classes.csv": {(0, 0), (26, 1)},
    "labels.txt": {(0, 0), (1, 1), (255, 255)},
    "class_names.txt": {(0, 0), (1, 1)},
    "data.yaml": {(3, 0), (5, 1)},
    "list.yaml": {(0, 0), (1, 1)},
    "coco.json": {(1, 0), (4, 1)},
    "config_v2.0.json": {(0, 0), (1, 1)},
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_name_the_values(tmp_path, name):
    picture(tmp_path / "i/a.png")
    mask(tmp_path / "m/a.png", [0])
    (tmp_path / name).write_text(FILES[name])
    source = {"images": "i", "masks": "m", "values": None, "class_file": name, "split": RATIO}
    items, problems = read(tmp_path, study(source))
    assert problems.rows == []
    assert set(items["i/a.png"].codes.classes) == TABLES[name]


BAD_FILES = {
    "a.csv": ["road\n", "0, road\n0, car\n", "0, road, red\n", "", "0,\n"],
    "a.json": ["{", "[]", "{}", '{"categories": [{"id": "1", "name": "road"}]}'],
    "a.yaml": ["nc: 2\n", "names: road\n", "names: {a: road}\n"],
    "a.txt": [""],
    "a.xls": [""],
}


@pytest.mark.parametrize("name, text", [(name, text) for name, texts in BAD_FILES.items() for text in texts])
def test_a_class_file_that_is_none(tmp_path, name, text):
    picture(tmp_path / "i/a.png")
    mask(tmp_path / "m/a.png", [0])
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        read(tmp_path, study({"images": "i", "masks": "m", "values": None, "class_file": name, "split": RATIO}))


def test_a_table_and_classes_that_do_not_fit(tmp_path):
    picture(tmp_path / "i/a.png")
    mask(tmp_path / "m/a.png", [0])
    (tmp_path / "m/_classes.csv").write_text("Pixel Value, Class\n0, road\n1, car\n2, sky\n")
    source = {"images": "i", "masks": "m", "values": None, "split": RATIO}
    with pytest.raises(UserError, match="'sky' \\(value 2\\)"):
        read(tmp_path, study(source))
    with pytest.raises(UserError, match="'tree', which is not among the names"):
        read(tmp_path, study(source, ("road", "tree")))
    with pytest.raises(UserError, match="set one to null"):
        read(tmp_path, study({**source, "values": VALUES, "class_file": "m/_classes.csv"}))
    items, problems = read(tmp_path, study({**source, "ignore": [2]}))
    assert problems.rows == [] and set(items["i/a.png"].codes.classes) == {(0, 0), (1, 1), (2, 255)}
    items, problems = read(tmp_path, study({**source, "classes": {"road": ["road", "sky"], "car": ["car"]}}))
    assert problems.rows == [] and set(items["i/a.png"].codes.classes) == {(0, 0), (1, 1), (2, 0)}

"""Every example of `data.source` in docs/your-own-data.md through the stage `collect`, counted by a second reader."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.detection_sets import SIZE, coco, picture, voc, voc_xml, yolo
from tests.support.projects import ROOT
from tests.support.shape_sets import collected
from tests.support.tool_files import cvat, studio, supervisely, via

W, H = SIZE
PAGE = (ROOT / "docs/your-own-data.md").read_text(encoding="utf-8")
TEXTS = re.findall(r"```yaml\n(source:\n.*?)```", PAGE, re.DOTALL)
SOURCES = [yaml.safe_load(text)["source"] for text in TEXTS]

SQUARE = [(10, 10), (20, 10), (20, 20), (10, 20)]  # 100 pixels of class a by COCO's rule
FLAT = [[value for point in SQUARE for value in point]]
ROWS = [("a", "polygon", SQUARE), ("b", "polygon", [(30, 30), (40, 30), (40, 40), (30, 40)])]
NAMES = [f"p{number}.png" for number in range(5)]


def write_coco(root):
    for split in ("train", "val"):
        content = coco(root, {name: [(10, 10, 10, 10)] for name in NAMES}, split)
        for row in content["annotations"]:
            row["segmentation"] = FLAT
        (root / f"{split}.json").write_text(json.dumps(content))
    (root / "valid").rename(root / "val")


def write_yolo(root):
    rows = f"0 {10 / W} {10 / H} {20 / W} {10 / H} {20 / W} {20 / H} {10 / W} {20 / H}\n"
    yolo(root, {**{f"train/t{n}": rows for n in range(5)}, "valid/v": rows, "valid/w": None})


def write_labelme(root):
    (root / "labels.txt").write_text("__ignore__\n_background_\na\nb\n")
    for number, name in enumerate(NAMES):
        picture(root / "data_annotated" / name, number)
        shapes = [{"label": "a", "points": [[10, 10], [19, 19]], "shape_type": "rectangle", "group_id": None}]
        content = {"shapes": shapes, "imagePath": name, "imageWidth": W, "imageHeight": H}
        (root / "data_annotated" / f"{Path(name).stem}.json").write_text(json.dumps(content))


def write_supervisely(root):
    supervisely(root, {name: [("a", "box", ([[10, 10], [19, 19]], []))] for name in NAMES})


def write_mask(path, values):
    """The first value everywhere, the second in 100 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = np.full((H, W, *np.shape(values[0])), values[0], np.uint8)
    canvas[10:20, 10:20] = values[1]
    Image.fromarray(canvas).save(path)


def write_cityscapes(root):
    for number, (split, city) in enumerate([("train", "aachen")] * 3 + [("val", "lindau")] * 2):
        stem = f"{city}_{number:06d}_000019"
        picture(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", number)
        for kind in ("labelIds", "color"):
            write_mask(root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", (26, 7))


def write_kitti(root):
    for number, road in enumerate(("um", "um", "umm", "uu", "uu")):
        picture(root / f"training/image_2/{road}_{number:06d}.png", number)
        write_mask(root / f"training/gt_image_2/{road}_road_{number:06d}.png", ((255, 0, 0), (255, 0, 255)))
        write_mask(root / f"training/gt_image_2/{road}_lane_{number:06d}.png", ((255, 0, 0), (0, 0, 0)))


def write_mapillary(root):
    (root / "config_v2.0.json").write_text(json.dumps({"labels": [{"readable": "Car"}, {"readable": "Road"}]}))
    for number in range(5):
        folder = root / ("training" if number < 3 else "validation")
        picture(folder / f"images/{number}.jpg", number)
        write_mask(folder / f"v2.0/labels/{number}.png", (0, 1))


def write_roboflow(root):
    for number, split in enumerate(("train", "train", "train", "valid", "test")):
        picture(root / split / f"{number}.jpg", number)
        write_mask(root / split / f"{number}_mask.png", (0, 1))
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, ground\n1, path\n")


SHAPES = ("background", "a", "b")
MASKS = {
    "leftImg8bit/{split}": (write_cityscapes, ("road", "car"), "road"),
    "training/image_2": (write_kitti, ("road", "other"), "road"),
    "{split}/images": (write_mapillary, ("Road", "Car"), "Road"),
    "{split}": (write_roboflow, ("ground", "path"), "path"),
}
# kind -> writer, classes, the class of which every image has 100 pixels
KINDS = {
    "coco": (write_coco, SHAPES, "a"),
    "yolo": (write_yolo, SHAPES, "a"),
    "labelme": (write_labelme, ("_background_", "a", "b"), "a"),
    "cvat": (lambda root: cvat(root, dict.fromkeys(NAMES, ROWS)), SHAPES, "a"),
    "via": (lambda root: via(root, dict.fromkeys(NAMES, ROWS)), SHAPES, "a"),
    "label_studio": (lambda root: studio(root, dict.fromkeys(NAMES, ROWS)), SHAPES, "a"),
    "supervisely": (write_supervisely, SHAPES, "a"),
}


def test_the_page_has_an_example_of_every_kind():
    assert Counter(source["kind"] for source in SOURCES) == {**dict.fromkeys(KINDS, 1), "voc": 1, "masks": len(MASKS)}
    assert {source["images"] for source in SOURCES if source["kind"] == "masks"} == set(MASKS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: f"{source['kind']}-{source.get('images', '')}")
def test_every_example_is_collected(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "input"
    root.mkdir()
    if source["kind"] == "voc":
        voc(root, {stem: voc_xml([("a", (11, 11, 20, 20)), ("b", (31, 31, 40, 40))]) for stem in ("p", "q")})
        manifest = collected(tmp_path, "plates", source, ("a", "b"))
        assert {record.counts["a"] for record in manifest.records.values()} == {1}
        return
    write, classes, name = MASKS[source["images"]] if source["kind"] == "masks" else KINDS[source["kind"]]
    write(root)
    manifest = collected(tmp_path, "offroad", source, classes)
    shown = [record for record in manifest.records.values() if record.source != "valid/images/w.png"]
    assert len(shown) >= 5
    for record in shown:
        mask = np.asarray(Image.open(manifest.mask(record.id)))
        assert record.counts[name] == 100 == (mask == classes.index(name)).sum()
        assert (mask[10:20, 10:20] == classes.index(name)).all()

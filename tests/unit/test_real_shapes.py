"""Real files of label tools through the stage `collect`; counts are those of readers of a few lines each."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.support.shape_sets import RATIO, collected


def test_labelme_boxes_and_masks(tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    root = real_data("labelme_examples")
    folder = root / "instance_segmentation"
    objects, pixels = {}, {}
    for path in sorted((folder / "data_annotated").glob("*.json")):
        shapes = json.loads(path.read_text())["shapes"]
        parts = {(s["label"], s["group_id"] if s["group_id"] is not None else f"n{i}") for i, s in enumerate(shapes)}
        objects[path.stem] = Counter(label for label, _ in parts if label != "__ignore__")
        truth = np.asarray(Image.open(folder / "data_dataset_voc/SegmentationClass" / f"{path.stem}.png"))
        pixels[path.stem] = Counter(truth[truth < 255].tolist())
    names = (folder / "data_dataset_voc/class_names.txt").read_text().splitlines()
    source = {
        "kind": "labelme",
        "annotations": "data_annotated",
        "images": "data_annotated",
        "labels": "labels.txt",
        "split": RATIO,
    }
    boxes = collected(tmp_path, "plates", source, names[1:], str(folder))
    assert {record.path.split("-")[-1].split(".")[0]: record.counts for record in boxes.records.values()} == objects
    masks = {**source, "background": "_background_", "ignore": ["__ignore__"]}
    drawn = collected(tmp_path, "offroad", masks, names, str(folder))
    for record in drawn.records.values():
        found = {names.index(name): count for name, count in record.counts.items()}
        wanted = pixels[record.path.split("-")[-1].split(".")[0]]
        assert found.keys() == wanted.keys()
        assert all(abs(found[key] - wanted[key]) <= 1 for key in wanted)  # a pixel of an older Pillow


@pytest.mark.slow
def test_potholes_as_boxes_and_masks(tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    root = real_data("pothole_yoloseg")
    rows = {path.stem: path.read_text().split("\n") for path in root.glob("*/labels/*.txt")}
    source = {"kind": "yolo", "missing_labels": "background"}
    boxes = collected(tmp_path, "plates", {**source, "polygons": "to_boxes"}, ["pothole"], str(root), on_error="skip")
    assert len(boxes.records) == 85
    for record in boxes.records.values():
        lines = rows.get(record.source.split("/")[-1].removesuffix(".jpg"), [])
        assert record.counts.get("pothole", 0) == len([line for line in lines if line.strip()])
    study = {**source, "background": "road"}
    masks = collected(tmp_path, "offroad", study, ["road", "pothole"], str(root))
    for record in masks.records.values():
        lines = rows.get(record.source.split("/")[-1].removesuffix(".jpg"), [])
        assert bool(record.counts.get("pothole")) == any(line.strip() for line in lines)
        assert sum(record.counts.values()) == record.width * record.height


@pytest.mark.slow
def test_roboflows_png_masks(tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    root = real_data("indoor_pngmask")
    with open(root / "train/_classes.csv") as stream:
        names = {int(row[0]): row[1].strip() for row in list(csv.reader(stream))[1:]}
    source = {
        "kind": "masks",
        "images": "{split}",
        "masks": "{split}",
        "image_pattern": "*.jpg",
        "mask_name": "{stem}_mask.png",
        "split": {"by": "folder", "folders": {"train": "train", "val": "valid", "test": "test"}},
    }
    manifest = collected(tmp_path, "offroad", source, list(names.values()), str(root))
    total: Counter = Counter()
    for path in root.glob("*/*_mask.png"):
        values, counts = np.unique(np.asarray(Image.open(path)), return_counts=True)
        total.update({names[int(value)]: int(count) for value, count in zip(values, counts, strict=True)})
    found: Counter = Counter()
    for record in manifest.records.values():
        found.update(record.counts)
    assert found == total


def test_kitti_road(tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    root = real_data("kitti_road")
    source = {
        "kind": "masks",
        "images": "training/image_2",
        "masks": "training/gt_image_2",
        "mask_name": "{stem/_/_lane_}.png",
        "values": {"lane": ["#ff00ff"], "other": ["#ff0000"]},
        "ignore": ["#000000"],
        "split": RATIO,
    }
    manifest = collected(tmp_path, "offroad", source, ["lane", "other"], str(root))
    assert len(manifest.records) == 4
    for record in manifest.records.values():
        mask = root / record.source.replace("image_2/um_", "gt_image_2/um_lane_")
        truth = np.asarray(Image.open(mask).convert("RGB")).reshape(-1, 3).tolist()
        assert record.counts == {"lane": truth.count([255, 0, 255]), "other": truth.count([255, 0, 0])}

"""Everything wrong with boxes and their files is found in one pass, named by image, and leaves only that image out."""

import csv
import json
import os

import pytest

from retrace.data.manifest import read_manifest
from retrace.errors import UserError
from stages.collect import collect
from tests.support.detection_sets import COCO, VOC, coco, coco_file, kinds, params, picture, read, voc, voc_xml, yolo

ONE = {"kind": "coco", "annotations": {"train": COCO["annotations"]["train"]}, "images": {"train": "train"}}

BAD_ROWS = {
    "outside": ("box_outside", "0 0.9 0.5 0.5 0.5"),
    "far_outside": ("box_outside", "0 3 3 0.1 0.1"),
    "pixels": ("box_outside", "0 320 240 64 48"),
    "zero": ("empty_box", "0 0.5 0.5 0 0.5"),
    "negative": ("empty_box", "0 0.5 0.5 0.5 -0.5"),
    "nan": ("not_a_number", "0 nan 0.5 0.5 0.5"),
    "inf": ("not_a_number", "0 0.5 inf 0.5 0.5"),
    "class": ("class_out_of_range", "2 0.5 0.5 0.5 0.5"),
    "negative_class": ("class_out_of_range", "-1 0.5 0.5 0.5 0.5"),
    "tiny": ("tiny_box", "0 0.5 0.5 0.5 0.001"),
    "columns": ("bad_row", "0 0.5 0.5 0.5"),
    "confidence": ("bad_row", "0 0.5 0.5 0.5 0.5 0.9"),
    "words": ("bad_row", "fish 0.5 0.5 0.5 0.5"),
    "half_class": ("bad_row", "0.5 0.5 0.5 0.5 0.5"),
    "binary": ("encoding", "\x00\x01\x02"),
    "polygon": ("polygon_row", "0 0.1 0.1 0.5 0.1 0.5 0.5"),
}


def test_yolo_rows_all_in_one_pass(tmp_path):
    root = yolo(
        tmp_path, {f"train/{name}": row for name, (_, row) in BAD_ROWS.items()} | {"train/good": "", "valid/v": ""}
    )
    (root / "train/labels/orphan.txt").write_text("0 .5 .5 .5 .5")
    (root / "train/labels/classes.txt").write_text("a\nb\n")
    (root / "train/images/broken.png").write_bytes(b"not a picture")
    (root / "train/labels/broken.txt").write_text("0 .5 .5 .5 .5")
    items, problems = read(root, params({"kind": "yolo"}))
    expected = {(kind, f"train/images/{name}.png") for name, (kind, _) in BAD_ROWS.items()}
    expected |= {("label_without_image", "train/labels/orphan.txt"), ("not_an_image", "train/images/broken.png")}
    assert kinds(problems) == expected
    assert sorted(items) == ["train/images/good.png", "valid/images/v.png"]


def test_every_bad_row_of_a_file_is_named(tmp_path):
    rows = "0 0.5 0.5 0 0.5\n0 .5 .5 .5 .5\n0 nan 0.5 0.5 0.5\n\n7 .5 .5 .5 .5\n"
    _, problems = read(yolo(tmp_path, {"train/p": rows, "valid/q": ""}), params({"kind": "yolo"}))
    found = sorted((row.detail.split(":")[0], row.kind) for row in problems.serious)
    assert found == [
        ("train/labels/p.txt line 1", "empty_box"),
        ("train/labels/p.txt line 3", "not_a_number"),
        ("train/labels/p.txt line 5", "class_out_of_range"),
    ]


def test_one_pixel_over_the_edge_is_clipped_aloud_and_rounding_in_silence(tmp_path):
    rows = {
        "train/pixel": f"0 {31.5 / 64} 0.5 {65 / 64} 0.5",  # -1 to 64 pixels
        "train/rounding": "0 0.9 0.5 0.2000001 0.5",
        "valid/v": "",
    }
    items, problems = read(yolo(tmp_path, rows), params({"kind": "yolo"}))
    assert [(row.kind, row.path) for row in problems.rows] == [("box_clipped", "train/images/pixel.png")]
    assert items["train/images/pixel.png"].boxes[0].xywh == pytest.approx((0, 12, 64, 24))
    x, _, w, _ = items["train/images/rounding.png"].boxes[0].xywh
    assert x + w == 64


def test_yolo_paths_do_not_leave_the_root(tmp_path):
    outside = picture(tmp_path / "secret/images/s.png")
    text = "train: list.txt\nval: valid/images\nnames: [a, b]\n"
    root = yolo(tmp_path / "set", {"train/p": "", "valid/q": ""}, text)
    os.symlink(outside, root / "train/images/link.png")
    (root / "list.txt").write_text(f"{outside}\n../secret/images/s.png\ntrain/images/link.png\ntrain/images/p.png\n")
    items, problems = read(root, params({"kind": "yolo"}))
    assert sorted(items) == ["train/images/p.png", "valid/images/q.png"]
    assert [(row.kind, row.path) for row in problems.serious] == [("listed_missing", "list.txt")] * 3


def test_names_longer_than_a_file_name_can_be_are_rows_like_others(tmp_path):
    long = "n" * 300 + ".png"
    made = coco(tmp_path, {"good.png": [(1, 1, 5, 5)]})
    made["images"].append({"id": "long", "file_name": long, "width": 64, "height": 48})
    coco_file(tmp_path, "train", made)
    items, problems = read(tmp_path, params(ONE))
    assert kinds(problems) == {("label_without_image", f"train/{long}")}
    assert sorted(items) == ["train/good.png"]

    root = yolo(tmp_path / "set", {"train/p": "", "valid/q": ""}, "train: list.txt\nval: valid/images\nnames: [a, b]\n")
    (root / "list.txt").write_text(f"train/images/{long}\ntrain/images/p.png\n")
    items, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("listed_missing", "list.txt")}
    assert sorted(items) == ["train/images/p.png", "valid/images/q.png"]


def test_an_image_in_two_splits_is_named(tmp_path):
    root = yolo(tmp_path, {"train/p": ""}, "train: train/images\nval: train/images\nnames: [a, b]\n")
    _, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("listed_twice", "train/images/p.png")}


def _annotation(image, **changes):
    return {"id": f"x{image}", "image_id": image, "category_id": 1, "bbox": [1, 1, 5, 5], **changes}


BAD_ANNOTATIONS = {
    "outside.png": ("box_outside", {"bbox": [60, 1, 50, 5]}),
    "zero.png": ("empty_box", {"bbox": [1, 1, 0, 5]}),
    "nan.png": ("not_a_number", {"bbox": [float("nan"), 1, 5, 5]}),
    "huge.png": ("not_a_number", {"bbox": [10**400, 1, 5, 5]}),
    "text.png": ("bad_box", {"bbox": ["1", 1, 5, 5]}),
    "short.png": ("bad_box", {"bbox": [1, 1, 5]}),
    "no_box.png": ("bad_box", {"bbox": None}),
    "crowd.png": ("bad_box", {"iscrowd": 2}),
    "class.png": ("class_out_of_range", {"category_id": 9}),
    "no_class.png": ("class_out_of_range", {"category_id": None}),
    "no_id.png": ("missing_id", {"id": None}),
    "list_id.png": ("missing_id", {"id": []}),
}


def test_coco_annotations_all_in_one_pass(tmp_path):
    made = coco(
        tmp_path, {name: [] for name in BAD_ANNOTATIONS} | {"good.png": [(1, 1, 5, 5)], "twice.png": [(2, 2, 4, 4)]}
    )
    for image, (_, changes) in enumerate(BAD_ANNOTATIONS.values()):
        made["annotations"].append(_annotation(image, **changes))
    made["annotations"].append({**made["annotations"][1], "id": "again"})  # twice.png
    made["annotations"].append(_annotation("nowhere"))
    picture(tmp_path / "train/unlisted.png")
    coco_file(tmp_path, "train", made)
    items, problems = read(tmp_path, params(ONE))
    file = ONE["annotations"]["train"]
    expected = {(kind, f"train/{name}") for name, (kind, _) in BAD_ANNOTATIONS.items()}
    expected |= {("label_without_image", file)}
    assert [(row.kind, row.path) for row in problems.rows if row.action == "kept"] == [
        ("duplicate_box", "train/twice.png")
    ]
    expected |= {("image_without_label", "train/unlisted.png")}
    assert kinds(problems) == expected
    assert sorted(items) == ["train/good.png", "train/twice.png"]
    assert len(items["train/twice.png"].boxes) == 1


def test_coco_images_all_in_one_pass(tmp_path):
    made = coco(
        tmp_path, {f"{name}.png": [(1, 1, 5, 5)] for name in ("good", "same", "other", "no_id", "size", "gone", "ann")}
    )
    rows = {row["file_name"]: row for row in made["images"]}
    rows["other.png"]["id"] = rows["same.png"]["id"]
    del rows["no_id.png"]["id"]
    rows["size.png"]["width"] = 0
    (tmp_path / "train/gone.png").unlink()
    made["annotations"].append(
        {**made["annotations"][6], "bbox": [7, 7, 3, 3]}
    )  # a second one with the id of ann.png's
    escapes = ("../../etc/passwd", "/etc/passwd", "C:\\x.png", "a/../../x.png", "", None, "nul\0.png")
    for number, name in enumerate(escapes):
        made["images"].append({"id": f"escape{number}", "file_name": name, "width": 64, "height": 48})
    made["images"].append({**rows["good.png"], "id": "again"})
    coco_file(tmp_path, "train", made)
    _, problems = read(tmp_path, params(ONE))
    file = ONE["annotations"]["train"]
    assert {
        ("repeated_id", "train/same.png"),
        ("repeated_id", "train/other.png"),
        ("repeated_id", "train/ann.png"),
        ("missing_id", "train/no_id.png"),
        ("bad_size", "train/size.png"),
        ("label_without_image", "train/gone.png"),
        ("file_name_leaves_folder", file),
        ("listed_twice", "train/good.png"),
    } <= kinds(problems)
    assert len([row for row in problems.serious if row.kind == "file_name_leaves_folder"]) == len(escapes)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}', "[" * 100_000],
)
def test_damaged_coco_json_stops(tmp_path, content):
    coco(tmp_path, {"p.png": []})
    coco_file(tmp_path, "train", content)
    items, problems = read(tmp_path, params(ONE))
    assert items == {}
    assert kinds(problems) == {("bad_json", ONE["annotations"]["train"])}
    assert problems.rows[0].action == "stops"


@pytest.mark.parametrize(
    ("categories", "kind"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "b"}], "repeated_id"),
        ([{"name": "a"}], "missing_id"),
    ],
)
def test_category_ids_must_be_there_and_differ(tmp_path, categories, kind):
    made = coco(tmp_path, {"p.png": []})
    coco_file(tmp_path, "train", {**made, "categories": [*categories, {"id": 7, "name": "a"}, {"id": 8, "name": "b"}]})
    _, problems = read(tmp_path, params(ONE))
    assert kinds(problems) == {(kind, ONE["annotations"]["train"])}


BOMB = '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "{}">]>'.format("&lol;" * 50)
GOOD = voc_xml([("a", (1, 1, 9, 9)), ("b", (1, 1, 9, 9))])
BAD_XML = {
    "bomb": ("bad_xml", BOMB + GOOD.replace("<name>a", "<name>&lol2;")),
    "external": (
        "bad_xml",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + GOOD.replace("<name>a", "<name>&e;"),
    ),
    "doctype": ("bad_xml", '<!DOCTYPE annotation SYSTEM "voc.dtd">' + GOOD),
    "cut": ("bad_xml", GOOD[:-20]),
    "empty": ("bad_xml", ""),
    "no_name": ("bad_xml", GOOD.replace("<name>a</name>", "")),
    "no_corner": ("bad_xml", GOOD.replace("<xmin>1</xmin>", "", 1)),
    "words": ("bad_xml", GOOD.replace("<xmin>1<", "<xmin>one<", 1)),
    "size": ("bad_xml", voc_xml([("a", (1, 1, 9, 9))], size=(0, 48))),
    "difficult": ("bad_xml", voc_xml([("a", (1, 1, 9, 9))], "<difficult>maybe</difficult>")),
    "outside": ("box_outside", voc_xml([("a", (1, 1, 66, 9))])),
    "turned": ("empty_box", voc_xml([("a", (9, 1, 3, 9))])),
    "nan": ("not_a_number", voc_xml([("a", ("nan", 1, 3, 9))])),
    "several_names": ("bad_xml", GOOD.replace("<name>a</name>", "<name>a</name><name>b</name>")),
    "alone": ("image_without_label", None),
}


def test_voc_files_all_in_one_pass(tmp_path):
    root = voc(tmp_path, {"good": GOOD} | {name: text for name, (_, text) in BAD_XML.items()})
    (root / "Annotations/orphan.xml").write_text(GOOD)
    items, problems = read(root, params(VOC))
    expected = {(kind, f"JPEGImages/{name}.png") for name, (kind, _) in BAD_XML.items()}
    assert kinds(problems) == expected | {("label_without_image", "Annotations/orphan.xml")}
    assert sorted(items) == ["JPEGImages/good.png"]
    assert any("has a DOCTYPE" in row.detail for row in problems.rows)


def test_a_voc_class_that_no_file_shows_is_named_with_a_way_on(tmp_path):
    root = voc(tmp_path, {"p": voc_xml([("a", (1, 1, 9, 9))])})
    with pytest.raises(UserError) as caught:
        read(root, params(VOC))
    assert "'b', which is not among the names in the XML files of Annotations: 'a'" in str(caught.value)
    assert "with [] for a class that never occurs" in str(caught.value)
    items, problems = read(root, params(VOC | {"classes": {"a": ["a"], "b": []}}))
    assert len(items["JPEGImages/p.png"].boxes) == 1 and problems.serious == []


def test_ids_are_said_to_be_whole_numbers_or_text(tmp_path):
    made = coco(tmp_path, {"p.png": [(1, 1, 5, 5)]})
    made["images"][0]["id"] = 1.0
    coco_file(tmp_path, "train", made)
    _, problems = read(tmp_path, params(ONE))
    assert any("id 1.0; must be a whole number or text" in row.detail for row in problems.serious)


@pytest.mark.parametrize(("content", "found"), [("", "is empty"), ("- a\n", "holds a list"), ("words", "holds a text")])
def test_a_data_yaml_that_is_no_mapping_is_one_line_without_the_machines_paths(tmp_path, content, found):
    root = yolo(tmp_path, {"train/p": ""}, content)
    with pytest.raises(UserError) as caught:
        read(root, params({"kind": "yolo"}))
    assert str(caught.value) == (
        f"data.yaml: {found}; it must hold a mapping of names to values, one `name: value` a line"
    )


def test_train_images_without_a_single_object_stop_collect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, boxes in (("train", []), ("val", [(1, 1, 5, 5)])):
        coco_file(tmp_path / "source", split, coco(tmp_path / "source", {f"{split}.png": boxes}, split))
    source = {"kind": "coco"} | {
        key: {split: COCO[key][split] for split in ("train", "val")} for key in ("annotations", "images")
    }
    with pytest.raises(UserError, match=r"none of the 1 train images has an object of a class \(a, b\)"):
        collect(params(source))
    assert not (tmp_path / "data/boxes/raw").exists()


def test_collect_lists_all_faults_or_leaves_their_images_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {f"train/{name}": row for name, (_, row) in BAD_ROWS.items()}
    yolo(tmp_path / "source", rows | {"train/good": "1 .5 .5 .5 .5", "valid/v": "0 .5 .5 .5 .5"})
    with pytest.raises(UserError) as caught:
        collect(params({"kind": "yolo"}))
    assert not (tmp_path / "data/boxes/raw").exists()
    for kind, _ in BAD_ROWS.values():
        assert f"{kind}: " in str(caught.value)
    with open(tmp_path / "logs/boxes/problems.csv", encoding="utf-8") as stream:
        listed = {(row["kind"], row["path"]) for row in csv.DictReader(stream)}
    assert listed == {(kind, f"train/images/{name}.png") for name, (kind, _) in BAD_ROWS.items()}

    collect(params({"kind": "yolo"}, on_error="skip"))
    manifest = read_manifest(tmp_path / "data/boxes/raw")
    found = {record.source: [(box.label, box.xywh) for box in record.boxes] for record in manifest.records.values()}
    assert found == {"train/images/good.png": [(1, (16, 12, 32, 24))], "valid/images/v.png": [(0, (16, 12, 32, 24))]}
    assert json.loads((tmp_path / "data/boxes/raw/dataset.json").read_text())["quarantined"] == len(BAD_ROWS)

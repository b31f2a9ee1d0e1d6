"""YOLO, COCO and Pascal VOC become the same boxes: round trips against other readers, paths, classes, real data."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO as PyCoco

from retrace.errors import UserError
from stages import collect
from tests.support.detection_sets import (
    COCO,
    SIZE,
    SPLITS,
    VOC,
    coco,
    coco_file,
    kinds,
    params,
    picture,
    read,
    voc,
    voc_xml,
    yolo,
)

W, H = SIZE
AQUARIUM = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")


@st.composite
def boxes_inside(draw):
    """Some different (x, y, width, height) inside the picture, pixels with fractions."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.floats(0, W - 1)), draw(st.floats(0, H - 1))
        made.append((x, y, draw(st.floats(1, W - x)), draw(st.floats(1, H - y))))
    return list({tuple(round(v, 3) for v in box): box for box in made}.values())


@settings(max_examples=40, deadline=None)
@given(boxes_inside())
def test_yolo_round_trip(boxes):
    rows = "".join(f"1 {(x + w / 2) / W!r} {(y + h / 2) / H!r} {w / W!r} {h / H!r}\n" for x, y, w, h in boxes)
    with tempfile.TemporaryDirectory() as folder:
        root = yolo(Path(folder), {"train/p": rows, "valid/q": ""})
        items, problems = read(root, params({"kind": "yolo"}))
    assert problems.rows == []
    found = items["train/images/p.png"].boxes
    assert [box.label for box in found] == [1] * len(boxes)
    for box, truth in zip(found, boxes, strict=True):
        assert box.xywh == pytest.approx(truth, rel=1e-6, abs=1e-6 * W)


@settings(max_examples=20, deadline=None)
@given(boxes_inside())
def test_yolo_boxes_are_those_that_ultralytics_reads_from_the_same_file(boxes):
    rows = "".join(f"1 {(x + w / 2) / W!r} {(y + h / 2) / H!r} {w / W!r} {h / H!r}\n" for x, y, w, h in boxes)
    with tempfile.TemporaryDirectory() as folder:
        root = yolo(Path(folder), {"train/p": rows, "valid/q": ""})
        items, _ = read(root, params({"kind": "yolo"}))
        _same(items["train/images/p.png"], _ultralytics(root / "train/images/p.png", 2))


@settings(max_examples=40, deadline=None)
@given(boxes_inside())
def test_coco_round_trip_against_pycocotools(boxes):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        coco_file(root, "train", coco(root, {"p.png": boxes, "q.png": []}))
        source = {"kind": "coco", "annotations": {"train": COCO["annotations"]["train"]}, "images": {"train": "train"}}
        items, problems = read(root, params(source))
        reference = PyCoco(str(root / COCO["annotations"]["train"]))
    assert problems.rows == []
    for row in reference.loadImgs(reference.getImgIds()):
        truth = reference.loadAnns(reference.getAnnIds(imgIds=row["id"]))
        item = items[f"train/{row['file_name']}"]
        assert item.size == (row["width"], row["height"])
        assert [box.xywh for box in item.boxes] == [tuple(annotation["bbox"]) for annotation in truth]


@given(x=st.integers(0, W - 1), y=st.integers(0, H - 1), data=st.data())
@settings(max_examples=40, deadline=None)
def test_voc_pixel_numbers_start_at_one_and_belong_to_the_object(x, y, data):
    w, h = data.draw(st.integers(1, W - x)), data.draw(st.integers(1, H - y))
    covered = (
        [column + 1 for column in range(W) if x <= column < x + w],
        [row + 1 for row in range(H) if y <= row < y + h],
    )
    corners = (covered[0][0], covered[1][0], covered[0][-1], covered[1][-1])
    with tempfile.TemporaryDirectory() as folder:
        root = voc(Path(folder), {"p": voc_xml([("a", corners), ("b", (1, 1, W, H))])})
        items, problems = read(root, params(VOC))
    assert problems.rows == []
    first, whole = items["JPEGImages/p.png"].boxes
    assert (first.label, first.xywh) == (0, (x, y, w, h))
    assert (whole.label, whole.xywh) == (1, (0, 0, W, H))


YAMLS = {
    "relative": "train: train/images\nval: valid/images\ntest: test/images\nnames: [a, b]\n",
    "roboflow": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['a', 'b']\n",
    "foreign": "train: /home/x/train/images\nval: /home/x/valid/images\ntest: /home/x/test/images\nnames: [a, b]\n",
    "windows": "train: 'C:\\s\\train\\images'\nval: 'C:\\s\\valid\\images'\ntest: test\\images\nnames: {0: a, 1: b}\n",
    "path": "path: ../datasets/set\ntrain: train/images\nval: valid/images\ntest: test/images\nnames: {0: a, 1: b}\n",
    "path_here": "path: .\ntrain: [train/images]\nvalid: valid/images\ntest: test/images\nnames: {0: a, 1: b}\n",
    "lists": "train: train.txt\nval: ./valid.txt\ntest: [test/images]\nnames: [a, b]\n",
    "folders": "train: train\nval: valid\ntest: test\nnames: [a, b]\n",
}


@pytest.mark.parametrize("text", YAMLS.values(), ids=YAMLS)
def test_data_yaml_paths(tmp_path, text):
    rows = {"train/p": "0 .5 .5 .5 .5", "train/q": "1 .5 .5 .25 .5", "valid/r": "0 .5 .5 1 1", "test/s": ""}
    root = yolo(tmp_path, rows, text)
    (root / "train.txt").write_text("/home/x/set/train/images/p.png\n\n./train/images/q.png\n")
    (root / "valid.txt").write_text("valid/images/r.png\r\n")
    items, problems = read(root, params({"kind": "yolo"}))
    assert problems.serious == []
    found = {name: (item.split, [(box.label, box.xywh) for box in item.boxes]) for name, item in items.items()}
    assert found == {
        "train/images/p.png": ("train", [(0, (16, 12, 32, 24))]),
        "train/images/q.png": ("train", [(1, (24, 12, 16, 24))]),
        "valid/images/r.png": ("val", [(0, (0, 0, W, H))]),
        "test/images/s.png": ("test", []),
    }


def test_a_re_rooted_path_is_said(tmp_path):
    root = yolo(
        tmp_path, {"train/p": "", "valid/q": ""}, "train: /home/x/train/images\nval: valid/images\nnames: [a, b]\n"
    )
    _, problems = read(root, params({"kind": "yolo"}))
    assert problems.counts() == {"path_re_rooted": 1}
    assert "'/home/x/train/images' read as train/images" in problems.rows[0].detail


def test_a_missing_label_file_is_a_problem_or_background_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = {"train/p": "0 .5 .5 .5 .5", "train/empty": "", "train/q": None, "train/r": None, "valid/s": "0 .5 .5 .5 .5"}
    root = yolo(tmp_path / "source", some)
    items, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("image_without_label", f"train/images/{name}.png") for name in "qr"}
    assert "set data.source.missing_labels: background" in problems.rows[0].detail
    assert sorted(items) == ["train/images/empty.png", "train/images/p.png", "valid/images/s.png"]
    assert collect.collect(params({"kind": "yolo"}, on_error="skip")).quarantined == 2

    source = {"kind": "yolo", "missing_labels": "background"}
    items, problems = read(root, params(source))
    assert len(items) == 5
    assert problems.serious == []
    assert problems.counts() == {"background": 2}
    header = collect.collect(params(source))
    counts = {row.split: (row.images, row.labelled) for row in header.sources}
    assert counts == {"train": (4, 2), "val": (1, 1)}  # the two backgrounds were annotated by nobody


def test_a_split_without_any_label_file_stops(tmp_path):
    _, problems = read(yolo(tmp_path, {"train/p": "", "valid/q": None}), params({"kind": "yolo"}))
    assert kinds(problems) == {("missing_labels", "valid/labels")}


def test_polygons_are_refused_or_read_as_boxes_aloud(tmp_path):
    rows = "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1\n1 .5 .5 .5 .5\n"
    root = yolo(tmp_path, {"train/p": rows, "valid/q": ""})
    items, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("polygon_row", "train/images/p.png")}
    assert "train/images/p.png" not in items
    items, problems = read(root, params({"kind": "yolo", "polygons": "to_boxes"}))
    assert problems.counts() == {"polygon_to_box": 1}
    assert "1 polygon row of train/labels/p.txt" in problems.rows[0].detail
    assert [box.xywh for box in items["train/images/p.png"].boxes] == [(16, 12, 32, 36), (16, 12, 32, 24)]


def test_collect_says_on_stdout_that_polygons_became_boxes(tmp_path, monkeypatch, capsys):
    yolo(tmp_path / "source", {"train/p": "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 1\n", "valid/q": "0 .5 .5 .5 .5\n"})
    values = params({"kind": "yolo", "polygons": "to_boxes"}).model_dump(mode="json", exclude_none=True)
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    collect.main()
    said = capsys.readouterr().out
    assert "polygons of 1 label files were read as the boxes around their corners" in said
    assert "data/boxes/raw/problems.csv" in said


RENAMED = {"thing": ["b", "a"]}


def test_classes_are_selected_renamed_and_merged(tmp_path):
    root = yolo(tmp_path / "y", {"train/p": "0 .5 .5 .5 .5\n1 .5 .5 .2 .2\n2 .5 .5 .1 .1", "valid/q": ""})
    (root / "data.yaml").write_text("train: train/images\nval: valid/images\nnames: [a, b, c]\n")
    items, problems = read(root, params({"kind": "yolo", "classes": RENAMED}, ["thing"]))
    assert [box.label for box in items["train/images/p.png"].boxes] == [0, 0]
    assert problems.counts() == {"class_left_out": 1}
    items, _ = read(root, params({"kind": "yolo"}, ["c", "a"]))
    assert [box.label for box in items["train/images/p.png"].boxes] == [1, 0]

    made = coco(tmp_path / "c", {"p.png": [(1, 1, 5, 5), (2, 2, 5, 5)]})
    made["annotations"][1]["category_id"] = 2
    coco_file(tmp_path / "c", "train", made)
    source = {"kind": "coco", "annotations": {"train": COCO["annotations"]["train"]}, "images": {"train": "train"}}
    items, problems = read(tmp_path / "c", params({**source, "classes": RENAMED}, ["thing"]))
    assert [box.label for box in items["train/p.png"].boxes] == [0, 0]
    assert problems.rows == []  # category 0 has no objects: Roboflow's empty supercategory is not worth a word


@pytest.mark.parametrize(
    ("classes", "mapping", "message"),
    [
        (["a", "z"], None, "'z', which is not among the names in data.yaml: 'a', 'b'"),
        (["a"], {"a": ["b"], "y": ["a"]}, "'y' is not in classes"),
        (["a", "b"], {"a": ["b"]}, "'b' has no entry"),
        (["a", "b"], {"a": ["b"], "b": ["b"]}, "'b' stands for both 'a' and 'b'"),
    ],
)
def test_wrong_class_settings(tmp_path, classes, mapping, message):
    root = yolo(tmp_path, {"train/p": "", "valid/q": ""})
    with pytest.raises(UserError, match=message):
        read(root, params({"kind": "yolo", "classes": mapping}, classes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: train/images\nval: valid/images\nnc: 3\nnames: [a, b]\n", "nc = 3, but names has 2 entries"),
        ("train: train/images\nval: valid/images\nnames: a\n", "names: must be a list"),
        ("val: valid/images\nnames: [a, b]\n", "train: must be a folder"),
        ("train: [\n", "not valid YAML"),
    ],
)
def test_wrong_data_yaml(tmp_path, text, message):
    root = yolo(tmp_path, {"train/p": "", "valid/q": ""}, text)
    with pytest.raises(UserError, match=message):
        read(root, params({"kind": "yolo"}))


def test_coco_empty_images_and_crowds(tmp_path):
    made = coco(tmp_path, {"p.png": [(1, 1, 5, 5), (2, 2, 9, 9)], "q.png": []})
    made["annotations"][1]["iscrowd"] = 1
    coco_file(tmp_path, "train", made)
    source = {"kind": "coco", "annotations": {"train": COCO["annotations"]["train"]}, "images": {"train": "train"}}
    items, problems = read(tmp_path, params(source))
    assert [box.crowd for box in items["train/p.png"].boxes] == [False, True]
    assert items["train/q.png"].boxes == ()
    items, problems = read(tmp_path, params({**source, "empty_images": "drop", "crowd": "drop"}))
    assert {name: len(item.boxes) for name, item in items.items()} == {"train/p.png": 1}
    assert problems.counts() == {"crowd_left_out": 1, "empty_image": 1}


def test_plain_coco_with_one_image_folder(tmp_path):
    for split, name in (("train", "p.png"), ("val", "q.png")):
        made = coco(tmp_path, {name: [(1, 2, 3, 4)]}, split)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / SPLITS[split] / name).rename(tmp_path / "images" / name)
        (tmp_path / f"{split}.json").write_text(json.dumps(made))
    source = {
        "kind": "coco",
        "annotations": {"train": "train.json", "val": "val.json"},
        "images": {"train": "images", "val": "images"},
    }
    items, problems = read(tmp_path, params(source))
    assert problems.rows == []
    assert {name: item.split for name, item in items.items()} == {"images/p.png": "train", "images/q.png": "val"}


@pytest.mark.parametrize(("rule", "crowds"), [("keep", [False, False]), ("drop", [False]), ("crowd", [True, False])])
def test_voc_difficult(tmp_path, rule, crowds):
    hard = voc_xml([("a", (1, 1, 9, 9))], "<difficult>1</difficult>").removesuffix("</annotation>")
    easy = voc_xml([("b", (3, 3, 9, 9))]).split("</size>")[1]
    items, problems = read(voc(tmp_path, {"p": hard + easy}), params({**VOC, "difficult": rule}))
    assert [box.crowd for box in items["JPEGImages/p.png"].boxes] == crowds
    assert problems.counts() == ({"difficult_left_out": 1} if rule == "drop" else {})


def test_voc_by_folder_with_the_files_side_by_side(tmp_path):
    for split, folder in SPLITS.items():
        picture(tmp_path / folder / f"{split}.png", len(split))
        (tmp_path / folder / f"{split}.xml").write_text(voc_xml([("a", (1, 1, 2, 2)), ("b", (1, 1, 3, 3))], size=None))
    source = {
        "kind": "voc",
        "images": "{split}",
        "annotations": "{split}",
        "split": {"by": "folder", "folders": SPLITS},
    }
    items, problems = read(tmp_path, params(source))
    assert problems.rows == []
    assert {name: item.split for name, item in items.items()} == {
        "test/test.png": "test",
        "train/train.png": "train",
        "valid/val.png": "val",
    }


def _counts(items, split, classes):
    return dict(sorted(Counter(classes[b.label] for i in items.values() if i.split == split for b in i.boxes).items()))


def _ultralytics(image, classes):
    """Rows (class, center x, center y, width, height) float32, shares of the image, by Ultralytics' own reader."""
    from retrace.compat.ultralytics import ultralytics

    ultralytics()
    from ultralytics.data.utils import verify_image_label

    label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
    _, rows, shape, *_ = verify_image_label((str(image), str(label), "", False, classes, 0, 0, False))
    assert shape is not None
    return rows


def _same(item, theirs):
    """Our boxes as shares of the image, in any order, equal theirs to 1e-6 of each number."""
    width, height = Image.open(item.path).size
    ours = [
        (box.label, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        for box in item.boxes
        for x, y, w, h in [box.xywh]
    ]
    assert len(ours) == len(theirs)
    for mine, other in zip(sorted(ours), sorted(map(tuple, theirs.tolist())), strict=True):
        assert mine == pytest.approx(other, rel=1e-6)


def test_real_aquarium_boxes_are_those_that_ultralytics_reads(real_data):
    root = real_data("aquarium_yolo")
    items, _ = read(root, params({"kind": "yolo"}, AQUARIUM))
    held = [item for item in items.values() if item.split == "val"]
    assert len(held) > 20
    for item in held:
        _same(item, _ultralytics(root / item.name, len(AQUARIUM)))


def test_real_aquarium(real_data):
    classes = AQUARIUM
    items, problems = read(real_data("aquarium_yolo"), params({"kind": "yolo"}, classes))
    given = {
        "train": (1031, 158, 143, 83, 129, 38, 63),
        "val": (268, 44, 21, 34, 38, 15, 16),
    }
    for split, counts in given.items():
        assert _counts(items, split, classes) == dict(zip(classes, counts, strict=True))
    assert Counter(item.split for item in items.values()) == {"train": 224, "val": 64, "test": 61}
    # two boxes of the test split are points: their images are named, and nothing else is
    assert {(kind, Path(path).stem.split("_jpeg")[0]) for kind, path in kinds(problems)} == {
        ("empty_box", "IMG_2423"),
        ("empty_box", "IMG_2570"),
    }


@pytest.mark.parametrize("only_plates", [True, False])
def test_real_plates(real_data, only_plates):
    classes = ["license_plate"] if only_plates else ["Mobil", "Motor", "Plat"]
    mapping = {"license_plate": ["Plat"]} if only_plates else None
    items, problems = read(real_data("plates_coco"), params({**COCO, "classes": mapping}, classes))
    assert problems.serious == []
    assert Counter(item.split for item in items.values()) == {"train": 205, "val": 89, "test": 59}
    given = {"train": (118, 36, 83), "val": (41, 15, 41), "test": (16, 19, 29)}
    for split, counts in given.items():
        wanted = {"license_plate": counts[2]} if only_plates else dict(zip(classes, counts, strict=True))
        assert _counts(items, split, classes) == wanted
    assert problems.counts() == ({"class_left_out": 6} if only_plates else {})
    reference = PyCoco(str(real_data("plates_coco") / "valid/_annotations.coco.json"))
    for row in reference.loadImgs(reference.getImgIds()):
        truth = [
            a["bbox"]
            for a in reference.loadAnns(reference.getAnnIds(imgIds=row["id"], catIds=[] if not only_plates else [3]))
        ]
        assert [list(box.xywh) for box in items[f"valid/{row['file_name']}"].boxes] == truth


def test_dropping_empty_images_keeps_those_with_plates(real_data):
    settings_ = params({**COCO, "classes": {"license_plate": ["Plat"]}, "empty_images": "drop"}, ["license_plate"])
    items, _ = read(real_data("plates_coco"), settings_)
    assert all(item.boxes for item in items.values())
    assert sum(len(item.boxes) for item in items.values()) == 83 + 41 + 29

"""COCO's and YOLO's polygons and run lengths become the masks that pycocotools and OpenCV make of the same files."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as PyCoco

from retrace.errors import UserError
from tests.support.detection_sets import picture, yolo
from tests.support.shape_sets import detection, mask_of, masks, read, segmentation

W, H = SIZE = (64, 48)
SOURCE = {"kind": "coco", "annotations": {"train": "a.json"}, "images": {"train": "train"}}
NAMES = [{"id": 4, "name": "a"}, {"id": 7, "name": "b"}]


def coco(root: Path, rows: list[dict]) -> Path:
    picture(root / "train/p.png", 0, SIZE)
    content = {
        "images": [{"id": 1, "file_name": "p.png", "width": W, "height": H}],
        "annotations": [{"id": number, "image_id": 1, "iscrowd": 0, **row} for number, row in enumerate(rows)],
        "categories": NAMES,
    }
    (root / "a.json").write_text(json.dumps(content))
    return root


def by_pycocotools(root: Path, scored=lambda row: True) -> np.ndarray:
    """Later annotations over earlier ones."""
    reference = PyCoco(str(root / "a.json"))
    canvas = np.zeros((H, W), np.uint8)
    for row in reference.loadAnns(reference.getAnnIds()):
        value = {4: 1, 7: 2}[row["category_id"]] if scored(row) else 255
        canvas[reference.annToMask(row) > 0] = value
    return canvas


PART = st.lists(st.tuples(st.floats(0, W), st.floats(0, H)), min_size=3, max_size=7).map(
    lambda points: [value for point in points for value in point]
)
PIXELS = st.binary(min_size=W * H // 8, max_size=W * H // 8).map(
    lambda raw: np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(H, W)
)
BLOBS = st.tuples(st.integers(0, W - 9), st.integers(0, H - 9), st.integers(1, 9), st.integers(1, 9))


def blob(box):
    """A rectangle with a hole, so that the run lengths are long and short."""
    x, y, w, h = box
    pixels = np.zeros((H, W), np.uint8)
    pixels[y : y + h, x : x + w] = 1
    pixels[y + h // 3 : y + 2 * h // 3, x + w // 3 : x + 2 * w // 3] = 0
    return pixels


def packed(pixels):
    runs = coco_mask.encode(np.asfortranarray(pixels))
    return {"size": [H, W], "counts": runs["counts"].decode()}


def plain(pixels):
    flat = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": [H, W], "counts": [0, *lengths] if flat[0] else lengths}


RUNS = st.one_of(PIXELS, BLOBS.map(blob))
SEGMENTATION = st.one_of(st.lists(PART, min_size=1, max_size=3), RUNS.map(packed), RUNS.map(plain))
ROW = st.tuples(st.sampled_from([4, 7]), SEGMENTATION, st.sampled_from([0, 0, 0, 1]))


@settings(max_examples=80, deadline=None)
@given(st.lists(ROW, max_size=5), st.booleans())
def test_coco_masks_are_those_of_pycocotools(drawn, drop):
    rows = [
        {"category_id": category, "segmentation": segmentation, "iscrowd": crowd}
        for category, segmentation, crowd in drawn
        if not isinstance(segmentation, dict) or coco_mask.area(as_runs(segmentation)) > 0
    ]
    study = segmentation({**SOURCE, "crowd": "drop" if drop else "keep"})
    with tempfile.TemporaryDirectory() as folder:
        root = coco(Path(folder), rows)
        found, problems = masks(root, study, SIZE)
        truth = by_pycocotools(root, lambda row: not (drop and row["iscrowd"]))
    assert problems.rows == []
    assert np.array_equal(found["train/p.png"], truth)


def as_runs(segmentation):
    counts = segmentation["counts"]
    return coco_mask.frPyObjects(segmentation, H, W) if isinstance(counts, list) else {**segmentation, "counts": counts}


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def test_overlap_is_by_order_or_the_smaller_one_on_top(tmp_path):
    rows = [
        {"category_id": 4, "segmentation": square(10, 10, 4)},
        {"category_id": 7, "segmentation": square(8, 8, 20)},
    ]
    root = coco(tmp_path, rows)
    found, _ = masks(root, segmentation(SOURCE), SIZE)
    assert (found["train/p.png"] == 1).sum() == 0 and (found["train/p.png"] == 2).sum() == 400
    found, _ = masks(root, segmentation({**SOURCE, "overlap": "smaller_on_top"}), SIZE)
    assert (found["train/p.png"] == 1).sum() == 16 and (found["train/p.png"] == 2).sum() == 384


BAD = {
    "no_segmentation": [{}, {"segmentation": []}, {"segmentation": None}, {"segmentation": "text"}],
    "bad_shape": [
        {"segmentation": [[1, 1, 2, 2]]},
        {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]},
        {"segmentation": [1, 1, 2, 2, 3, 3]},
        {"segmentation": square(1, 1, 5), "iscrowd": 2},
        {"segmentation": {"size": [W, H], "counts": [W * H]}},
        {"segmentation": {"size": [H, W], "counts": [W * H - 1]}},
        {"segmentation": {"size": [H, W], "counts": [W * H + 5, -5]}},
        {"segmentation": {"size": [H, W], "counts": "~~~~"}},
        {"segmentation": {"size": [H, W], "counts": "PPPPPPPPPPPPPPPPPPPPPPPPPPPP"}},
        {"segmentation": {"size": [H, W], "counts": "P"}},
        {"segmentation": {"size": [H, W], "counts": None}},
    ],
    "empty_shape": [{"segmentation": {"size": [H, W], "counts": [W * H]}}],
    "shape_outside": [{"segmentation": square(60, 1, 9)}],
    "not_a_number": [{"segmentation": [[1, 1, 5, 1, 5, float("inf")]]}],
    "class_out_of_range": [{"category_id": 3, "segmentation": square(1, 1, 5)}],
}


@pytest.mark.parametrize("kind, row", [(kind, row) for kind, rows in BAD.items() for row in rows])
def test_a_damaged_segmentation_costs_its_image_and_is_named(tmp_path, kind, row):
    good = {"category_id": 4, "segmentation": square(1, 1, 5)}
    items, problems = read(coco(tmp_path, [good, {"category_id": 4, **row}]), segmentation(SOURCE))
    assert items == {}
    assert [(one.kind, one.path) for one in problems.serious] == [(kind, "train/p.png")]
    assert "annotations[1]" in problems.serious[0].detail


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), PART), max_size=4))
def test_yolo_polygons_are_those_of_coco(drawn):
    """Against pycocotools; the corners pass through shares of the image, as text."""
    rows = "".join(
        f"{label} " + " ".join(repr(value / (W, H)[i % 2]) for i, value in enumerate(part)) + "\n"
        for label, part in drawn
    )
    with tempfile.TemporaryDirectory() as folder:
        root = yolo(Path(folder), {"train/p": rows, "valid/q": ""})
        found, problems = masks(root, segmentation({"kind": "yolo"}), SIZE)
    truth = np.zeros((H, W), np.uint8)
    for label, part in drawn:
        back = [value / (W, H)[i % 2] * (W, H)[i % 2] for i, value in enumerate(part)]
        truth[coco_mask.decode(coco_mask.frPyObjects([back], H, W)[0]) > 0] = label + 1
    assert problems.rows == []
    assert np.array_equal(found["train/images/p.png"], truth)
    assert not found["valid/images/q.png"].any()


def test_yolo_segmentation_refuses_boxes_and_odd_rows(tmp_path):
    rows = {
        "train/good": "0 0.1 0.1 0.5 0.1 0.5 0.5",
        "train/box": "0 0.5 0.5 0.1 0.1",
        "train/odd": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.7",
        "train/word": "0 0.1 0.1 0.5 0.1 0.5 x",
        "train/id": "5 0.1 0.1 0.5 0.1 0.5 0.5",
        "train/out": "0 0.1 0.1 1.5 0.1 0.5 0.5",
        "valid/q": "",
    }
    items, problems = read(yolo(tmp_path, rows), segmentation({"kind": "yolo"}))
    assert sorted(items) == ["train/images/good.png", "valid/images/q.png"]
    assert {(row.kind, Path(row.path).stem) for row in problems.serious} == {
        ("box_row", "box"),
        ("bad_row", "odd"),
        ("bad_row", "word"),
        ("class_out_of_range", "id"),
        ("shape_outside", "out"),
    }


def test_the_potholes_are_the_same_as_yolo_polygons_and_as_coco(real_data):
    """One set of annotations, exported twice: the masks differ by the digits that YOLO's text has, along outlines."""
    root = real_data("pothole_yoloseg")
    classes = ("background", "pothole")
    as_yolo, problems = read(root, segmentation({"kind": "yolo", "missing_labels": "background"}, classes))
    assert {row.action for row in problems.rows} == {"kept"}
    source = {"kind": "coco", "annotations": {"val": "valid/_annotations.coco.json"}, "images": {"val": "valid/images"}}
    as_coco, problems = read(root, segmentation(source, classes))
    truth = json.loads((root / "valid/_annotations.coco.json").read_text())
    sizes = {row["file_name"]: (row["width"], row["height"]) for row in truth["images"]}
    assert len(as_coco) == 5
    for name, item in as_coco.items():
        size = sizes[Path(name).name]
        a, b = mask_of(item, size), mask_of(as_yolo[name], size)
        assert (a & b).sum() / (a | b).sum() > 0.99
        rows = [line.split() for line in (root / "valid/labels" / f"{Path(name).stem}.txt").read_text().splitlines()]
        canvas = np.zeros(size[::-1], np.uint8)
        for row in rows:
            points = np.array(row[1:], float).reshape(-1, 2) * size
            cv2.fillPoly(canvas, [points.round().astype(np.int32)], 1)
        assert (a & canvas).sum() / (a | canvas).sum() > 0.95


def test_yolo_polygons_still_give_boxes(tmp_path):
    root = yolo(tmp_path, {"train/p": "1 0.25 0.25 0.5 0.25 0.5 0.75", "valid/q": ""})
    items, _ = read(root, detection({"kind": "yolo", "polygons": "to_boxes"}))
    assert [(box.label, box.xywh) for box in items["train/images/p.png"].boxes] == [(1, (16, 12, 16, 24))]


def test_outlines_with_class_ids_from_one_stop_and_a_pose_set_has_none(tmp_path):
    rows = {"train/p": "1 0.1 0.1 0.5 0.1 0.5 0.5\n2 0.2 0.2 0.5 0.2 0.5 0.5\n", "valid/q": ""}
    root = yolo(tmp_path / "ids", rows)
    _, problems = read(root, segmentation({"kind": "yolo"}))
    assert ("ids_from_one", "stops") in {(row.kind, row.action) for row in problems.rows}
    root = yolo(tmp_path / "pose", {"train/p": "0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.5 0.5 2", "valid/q": ""})
    with (root / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [2, 3]\n")
    with pytest.raises(UserError, match="kpt_shape"):
        read(root, segmentation({"kind": "yolo"}))


@pytest.mark.parametrize("task", [segmentation, detection])
def test_a_category_id_of_another_type_is_named_for_both_tasks(tmp_path, task):
    row = {"category_id": "4", "segmentation": square(1, 1, 5), "bbox": [1, 1, 5, 5]}
    items, problems = read(coco(tmp_path, [row]), task(SOURCE))
    assert items == {} and "is text, but the id is a whole number (4)" in problems.serious[0].detail


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030"])
def test_a_json_file_in_another_encoding_is_named(tmp_path, encoding):
    root = coco(tmp_path, [])
    path = root / "a.json"
    path.write_bytes('{"name": "\u4e2d\u00e9"}'.encode(encoding, "ignore"))
    _, problems = read(root, segmentation(SOURCE))
    assert [(row.kind, row.path, row.action) for row in problems.rows] == [("encoding", "a.json", "stops")]

"""LabelMe's JSON becomes the masks and boxes that LabelMe itself exports."""

import base64
import io
import json
import math
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from retrace.errors import UserError
from tests.support.detection_sets import picture
from tests.support.shape_sets import RATIO, detection, mask_of, masks, read, segmentation

W, H = SIZE = (64, 48)
SOURCE = {"kind": "labelme", "split": RATIO}


def labelme(root: Path, shapes: dict[str, list[dict]], **keys) -> Path:
    for number, (name, rows) in enumerate(shapes.items()):
        picture(root / f"{name}.png", number, SIZE)
        content = {"version": "5.0", "shapes": rows, "imagePath": f"{name}.png", "imageHeight": H, "imageWidth": W}
        (root / f"{name}.json").write_text(json.dumps({**content, **keys}))
    return root


def shape(label, points, kind="polygon", **keys):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **keys}


@pytest.mark.parametrize("kind", ["semantic_segmentation", "instance_segmentation"])
def test_masks_are_the_pngs_that_labelme_made(real_data, kind):
    root = real_data("labelme_examples") / kind
    names = (root / "labels.txt").read_text().split("\n")[1:]
    source = {**SOURCE, "annotations": "data_annotated", "images": "data_annotated", "labels": "labels.txt"}
    study = segmentation({**source, "background": "_background_", "ignore": ["__ignore__"]}, names)
    items, problems = read(root, study)
    assert problems.rows == [] and len(items) == 3
    for name, item in items.items():
        with Image.open(root / "data_dataset_voc/SegmentationClass" / f"{Path(name).stem}.png") as truth:
            # the Pillow of 2019 painted one pixel more, at a corner of a polygon of 2011_000006
            assert (mask_of(item, truth.size) != np.asarray(truth)).sum() <= 1


def test_boxes_are_those_of_the_xml_that_labelme_made(real_data):
    root = real_data("labelme_examples") / "bbox_detection"
    truth = {}
    for path in (root / "data_dataset_voc/Annotations").glob("*.xml"):
        rows = ElementTree.parse(path).findall("object")
        truth[path.stem] = [(row.findtext("name"), *(float(c.text) for c in row.find("bndbox"))) for row in rows]
    classes = sorted({row[0] for rows in truth.values() for row in rows})
    source = {**SOURCE, "annotations": "data_annotated", "images": "data_annotated"}
    items, problems = read(root, detection(source, classes))
    assert problems.rows == []
    for name, item in items.items():
        found = [
            (classes[b.label], b.xywh[0], b.xywh[1], b.xywh[0] + b.xywh[2], b.xywh[1] + b.xywh[3]) for b in item.boxes
        ]
        wanted = truth[Path(name).stem]
        assert [row[0] for row in found] == [row[0] for row in wanted]
        assert np.allclose([row[1:] for row in found], [row[1:] for row in wanted], atol=1)


def as_labelme(rows):
    """LabelMe's shape_to_mask for every row, in order (its documents and examples)."""
    canvas = np.zeros((H, W), np.uint8)
    for row in rows:
        mask = Image.new("L", SIZE)
        draw, xy = ImageDraw.Draw(mask), [tuple(point) for point in row["points"]]
        if row["shape_type"] == "circle":
            (x, y), (px, py) = xy
            r = math.sqrt((x - px) ** 2 + (y - py) ** 2)
            draw.ellipse([x - r, y - r, x + r, y + r], outline=1, fill=1)
        elif row["shape_type"] == "rectangle":
            draw.rectangle(xy, outline=1, fill=1)
        else:
            draw.polygon(xy, outline=1, fill=1)
        canvas[np.asarray(mask) > 0] = " ab".index(row["label"])
    return canvas


def number(limit):
    return st.floats(0, limit, allow_nan=False, width=32)


POINT = st.tuples(number(W), number(H)).map(list)
POLYGON = st.lists(POINT, min_size=3, max_size=8).map(lambda points: ("polygon", points))
RECTANGLE = st.tuples(number(W - 2), number(H - 2), st.floats(1, 2), st.floats(1, 2)).map(
    lambda v: ("rectangle", [[v[0], v[1]], [v[0] + v[2], v[1] + v[3]]])
)
CIRCLE = st.tuples(st.floats(10, W - 10), st.floats(10, H - 10), st.floats(1, 9)).map(
    lambda v: ("circle", [[v[0], v[1]], [v[0] + v[2], v[1]]])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.one_of(POLYGON, RECTANGLE, CIRCLE)), max_size=5))
def test_masks_are_those_of_labelmes_own_rule(drawn):
    rows = [shape(label, points, kind) for label, (kind, points) in drawn]
    every = [*rows, shape("a", [[0, 0], [1, 0], [1, 1]]), shape("b", [[5, 5], [9, 5], [9, 9]])]
    with tempfile.TemporaryDirectory() as folder:
        found, problems = masks(labelme(Path(folder), {"p": every}), segmentation(SOURCE), SIZE)
    assert problems.rows == []
    assert np.array_equal(found["p.png"], as_labelme(every))


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_a_mask_shape_and_a_group(tmp_path):
    hole = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    rows = [
        shape("a", [[10, 20], [12, 22]], "mask", mask=png(hole)),
        shape("b", [[30, 10], [40, 10], [40, 20]], group_id=7),
        shape("b", [[50, 30], [60, 30], [60, 40]], group_id=7),
    ]
    root = labelme(tmp_path, {"p": rows})
    found, problems = masks(root, segmentation(SOURCE), SIZE)
    assert problems.rows == []
    assert np.array_equal(found["p.png"][20:23, 10:13], hole)
    items, _ = read(root, detection(SOURCE))
    assert [(box.label, box.xywh) for box in items["p.png"].boxes] == [(0, (10, 20, 3, 3)), (1, (30, 10, 30, 30))]


BAD = {
    "bad_shape": [
        shape("a", [[1, 1], [2, 2]]),
        shape("a", [[1, 1], [2, 2], ["3", 3]]),
        shape("a", [[1, 1]], "rectangle"),
        shape("a", [[1, 1], [2, 2]], "heptagon"),
        shape("a", [[1, 1], [2, 2]], "mask", mask="####"),
        shape("a", [[1, 1], [2, 2]], "mask", mask=png(np.ones((5, 5)))),
        shape(7, [[1, 1], [2, 2], [3, 1]]),
        "text",
    ],
    "shape_outside": [shape("a", [[1, 1], [2 * W, 2], [3, 9]]), shape("a", [[-9, 1], [2, 2], [3, 9]])],
    "not_a_number": [shape("a", [[1, 1], [float("nan"), 2], [3, 9]]), shape("a", [[1, 1], [10**400, 2], [3, 9]])],
    "shape_without_area": [shape("a", [[1, 1], [2, 2]], "line"), shape("b", [[1, 1]], "point")],
    "empty_shape": [shape("a", [[5, 5], [5, 5]], "rectangle")],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_shape_that_cannot_be_used_costs_its_image_and_is_named(tmp_path, kind):
    good = [shape("a", [[1, 1], [9, 1], [9, 9]]), shape("b", [[1, 1], [9, 1], [9, 9]])]
    bad = {f"bad{number}": [good[0], row] for number, row in enumerate(BAD[kind])}
    items, problems = read(labelme(tmp_path, {"good": good, **bad}), segmentation(SOURCE))
    assert list(items) == ["good.png"]
    assert {row.kind for row in problems.serious} == {kind}
    assert {Path(row.path).stem for row in problems.serious} == set(bad)
    assert all("shape 2" in row.detail for row in problems.serious)


def test_points_and_lines_are_left_out_only_on_demand_and_counted(tmp_path):
    rows = [shape("a", [[1, 1], [9, 1], [9, 9]]), shape("b", [[1, 1], [9, 9]], "line"), shape("b", [[1, 1]], "point")]
    study = segmentation({**SOURCE, "without_area": "leave_out"})
    items, problems = read(labelme(tmp_path, {"p": rows}), study)
    assert list(items) == ["p.png"] and problems.serious == []
    assert [(row.kind, row.detail.split()[:2]) for row in problems.rows] == [
        ("shape_left_out", ["1", "line"]),
        ("shape_left_out", ["1", "point"]),
    ]


def test_a_name_of_no_class_is_not_painted_as_background_without_a_word(tmp_path):
    rows = [shape(name, [[1, 1], [9, 1], [9, 9]]) for name in ("a", "b", "c")]
    root = labelme(tmp_path, {"p": rows})
    _, problems = read(root, segmentation(SOURCE))
    assert [(row.kind, row.action) for row in problems.rows] == [("unknown_label", "stops")]
    found, problems = masks(root, segmentation({**SOURCE, "ignore": ["c"]}), SIZE)
    assert problems.rows == [] and set(np.unique(found["p.png"])) == {0, 255}
    source = {**SOURCE, "classes": {"background": ["c"], "a": ["a"], "b": ["b"]}}
    found, problems = masks(root, segmentation(source), SIZE)
    assert problems.rows == [] and not found["p.png"].any()


def test_what_no_shape_covers_must_be_stated(tmp_path):
    rows = [shape("a", [[1, 1], [9, 1], [9, 9]]), shape("b", [[21, 1], [29, 1], [29, 9]])]
    root = labelme(tmp_path, {"p": rows})
    with pytest.raises(UserError, match="background: missing"):
        read(root, segmentation({**SOURCE, "background": None}, ["a", "b"]))
    with pytest.raises(UserError, match="no such class"):
        read(root, segmentation({**SOURCE, "background": "sky"}, ["a", "b"]))
    with pytest.raises(UserError, match="only for task"):
        read(root, detection({**SOURCE, "background": "a"}, ["a", "b"]))
    found, _ = masks(root, segmentation({**SOURCE, "background": "ignore"}, ["a", "b"]), SIZE)
    assert set(np.unique(found["p.png"])) == {0, 1, 255}


def test_images_and_files_without_each_other(tmp_path):
    root = labelme(tmp_path, {"p": [shape("a", [[1, 1], [9, 1], [9, 9]])], "q": []})
    (root / "q.png").unlink()
    picture(root / "r.png", 3, SIZE)
    items, problems = read(root, segmentation(SOURCE, ["background", "a"]))
    assert list(items) == ["p.png"]
    assert {(row.kind, row.path) for row in problems.serious} == {
        ("label_without_image", "q.json"),
        ("image_without_label", "r.png"),
    }
    study = segmentation({**SOURCE, "missing_labels": "background"}, ["background", "a"])
    items, problems = read(root, study)
    assert not items["r.png"].labelled and not mask_of(items["r.png"], SIZE).any()


def test_an_image_path_of_another_machine(tmp_path):
    labelme(tmp_path / "ann", {"p": [shape("a", [[1, 1], [9, 1], [9, 9]])]}, imagePath="..\\pictures\\one.png")
    (tmp_path / "img").mkdir()
    (tmp_path / "ann/p.png").rename(tmp_path / "img/one.png")
    source = {**SOURCE, "annotations": "ann", "images": "img"}
    items, problems = read(tmp_path, segmentation(source, ["background", "a"]))
    assert list(items) == ["img/one.png"] and problems.rows == []

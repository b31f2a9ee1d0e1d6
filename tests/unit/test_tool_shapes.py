"""CVAT, VIA, Label Studio and Supervisely: round trips against pycocotools, OpenCV and the tools' own formulas."""

import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from retrace.errors import UserError
from tests.support.shape_sets import RATIO, detection, mask_of, masks, read, segmentation
from tests.support.tool_files import cvat, cvat_shape, studio, supervisely, via, video

W, H = SIZE = (64, 48)
CVAT = {"kind": "cvat", "split": RATIO}
VIA = {"kind": "via", "annotations": "via.json", "split": RATIO}
STUDIO = {"kind": "label_studio", "annotations": "tasks.json", "images": "images", "split": RATIO}
SUPERVISELY = {"kind": "supervisely", "split": RATIO}
EACH = {"cvat": CVAT, "via": VIA, "label_studio": STUDIO, "supervisely": SUPERVISELY}


# Shapes as plain rows (class, kind, numbers) that each writer below puts into its tool's file


def by_coco(rows):
    """Class indices [H, W], later rows on top; pycocotools for polygons and boxes."""
    canvas = np.zeros((H, W), np.uint8)
    for name, kind, numbers in rows:
        if kind == "mask":
            pixels = numbers
        else:
            x0, y0, x1, y1 = numbers if kind == "box" else (0, 0, 0, 0)
            flat = [x0, y0, x1, y0, x1, y1, x0, y1] if kind == "box" else [v for point in numbers for v in point]
            pixels = coco_mask.decode(coco_mask.frPyObjects([flat], H, W)[0])
        canvas[pixels > 0] = " ab".index(name)
    return canvas


NAME = st.sampled_from("ab")
POINTS = st.lists(st.tuples(st.floats(0, W), st.floats(0, H)), min_size=3, max_size=6)
BOX = st.tuples(st.floats(0, W - 3), st.floats(0, H - 3), st.floats(0.5, 3), st.floats(0.5, 3)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
FRAME = st.tuples(st.integers(0, W - 8), st.integers(0, H - 8), st.integers(1, 8), st.integers(1, 8))


@st.composite
def pixels(draw):
    """Any pixels of a frame, at least one."""
    x, y, w, h = draw(FRAME)
    canvas = np.zeros((H, W), np.uint8)
    inside = draw(st.lists(st.booleans(), min_size=w * h, max_size=w * h))
    canvas[y : y + h, x : x + w] = np.array(inside).reshape(h, w)
    canvas[y, x] = 1
    return canvas


POLYGON = st.tuples(NAME, st.just("polygon"), POINTS)
BOXES = st.tuples(NAME, st.just("box"), BOX)
MASK = st.tuples(NAME, st.just("mask"), pixels())
# so that both classes occur
BOTH = [("a", "polygon", [(1, 1), (3, 1), (3, 3)]), ("b", "polygon", [(9, 9), (12, 9), (12, 12)])]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(POLYGON, BOXES, MASK), max_size=4))
def test_cvat_images(rows):
    rows = [*rows, *BOTH]
    with tempfile.TemporaryDirectory() as folder:
        cvat(Path(folder), {"p.png": rows, "q.png": []})
        found, problems = masks(Path(folder), segmentation(CVAT), SIZE)
    assert problems.rows == []
    assert np.array_equal(found["images/p.png"], by_coco(rows)) and not found["images/q.png"].any()


def test_cvat_z_order_turned_boxes_and_ellipses(tmp_path):
    tree = cvat(tmp_path, {"p.png": []})
    node = tree.find("image")
    cvat_shape(node, ("a", "box", (10, 10, 20, 20)), z_order=2)
    cvat_shape(node, ("b", "box", (5, 5, 30, 30)), z_order=-1)
    keys = {"label": "b", "cx": "45", "cy": "24", "rx": "10", "ry": "5", "rotation": "90"}
    ElementTree.SubElement(node, "ellipse", keys)
    ElementTree.SubElement(node, "box", label="a", xtl="40", ytl="40", xbr="44", ybr="44", rotation="45")
    ElementTree.SubElement(node, "tag", label="a")
    (tmp_path / "annotations.xml").write_bytes(ElementTree.tostring(tree))
    found, problems = masks(tmp_path, segmentation(CVAT), SIZE)
    assert problems.rows == []
    mask = found["images/p.png"]
    assert (mask[10:20, 10:20] == 1).all() and (mask[5:30, 5:30] == 2).sum() == 625 - 100
    truth = cv2.ellipse(np.zeros((H, W), np.uint8), ((44.5, 23.5), (20, 10), 90), 1, -1)
    mine = mask[:, 35:] == 2
    assert (mine & (truth[:, 35:] > 0)).sum() / (mine | (truth[:, 35:] > 0)).sum() > 0.9
    items, _ = read(tmp_path, detection(CVAT))
    boxes = {(box.label, tuple(np.round(box.xywh, 3))) for box in items["images/p.png"].boxes}
    half = 2 * 2**0.5
    assert boxes == {
        (0, (10, 10, 10, 10)),
        (1, (5, 5, 25, 25)),
        (1, (40, 14, 10, 20)),
        (0, tuple(np.round((42 - half, 42 - half, 2 * half, 2 * half), 3))),
    }


def test_cvat_video(tmp_path):
    box = (3, 4, 10, 12)
    a = [(0, False, box), (1, False, (4, 4, 11, 12)), (2, True, (4, 4, 11, 12))]
    video(tmp_path, [("a", a), ("b", [(1, False, (20, 20, 30, 30)), (2, False, (20, 20, 30, 31))])])
    items, problems = read(tmp_path, detection(CVAT))
    assert problems.rows == []
    assert {Path(name).stem: [(b.label, b.xywh) for b in item.boxes] for name, item in items.items()} == {
        "frame_000000": [(0, (3, 4, 7, 8))],
        "frame_000001": [(0, (4, 4, 7, 8)), (1, (20, 20, 10, 10))],
        "frame_000002": [(1, (20, 20, 10, 11))],
        "frame_000003": [],
    }
    assert {item.group for item in items.values()} == {"annotations.xml"}


def test_a_cvat_track_with_a_gap_is_refused_and_a_step_is_none(tmp_path):
    rows = [("a", [(0, False, (3, 4, 10, 12)), (2, False, (3, 4, 10, 12))]), ("b", [(2, False, (3, 4, 10, 13))])]
    video(tmp_path, rows)
    _, problems = read(tmp_path, detection(CVAT))
    assert [(row.kind, row.action) for row in problems.serious] == [("track_gap", "stops")]
    video(tmp_path, rows, frame_filter="step=2")
    _, problems = read(tmp_path, detection(CVAT))
    assert problems.serious == []
    (tmp_path / "images/frame_000002.PNG").unlink()
    _, problems = read(tmp_path, detection(CVAT))
    assert [row.kind for row in problems.serious] == ["label_without_image"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(POLYGON, BOXES), max_size=4), st.sampled_from(["json", "version 1", "project", "csv"]))
def test_via(rows, form):
    rows = [*rows, *BOTH]
    source = {**VIA, "annotations": "via.csv" if form == "csv" else "via.json"}
    with tempfile.TemporaryDirectory() as folder:
        via(Path(folder), {"p.png": rows, "q.png": []}, form)
        found, problems = masks(Path(folder), segmentation({**source, "missing_labels": "background"}), SIZE)
        refused = read(Path(folder), segmentation(source))[1]
    assert problems.serious == []
    as_read = [  # the tool stores the width, not the right edge
        (n, k, (v[0], v[1], v[0] + (v[2] - v[0]), v[1] + (v[3] - v[1])) if k == "box" else v) for n, k, v in rows
    ]
    assert np.array_equal(found["p.png"], by_coco(as_read)) and not found["q.png"].any()
    assert [(row.kind, row.path) for row in refused.serious] == [("image_without_label", "q.png")]


def test_via_circles_ellipses_checkboxes_and_several_attributes(tmp_path):
    circle = {"shape_attributes": {"name": "circle", "cx": 20, "cy": 20, "r": 5}}
    ellipse = {"shape_attributes": {"name": "ellipse", "cx": 45, "cy": 24, "rx": 10, "ry": 5, "theta": np.pi / 2}}
    rows = iter([circle, ellipse])
    names = iter([{"a": True, "b": False}, {"b": True}])

    def change(_):
        return {**next(rows), "region_attributes": {"class": next(names), "note": "x"}}

    via(tmp_path, {"p.png": BOTH}, change=change)
    with pytest.raises(UserError, match="class, note"):
        read(tmp_path, detection(VIA))
    items, problems = read(tmp_path, detection({**VIA, "attribute": "class"}))
    assert problems.rows == []
    assert [(b.label, b.xywh) for b in items["p.png"].boxes] == [
        (0, (15, 15, 10, 10)),
        (1, pytest.approx((40, 14, 10, 20))),
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(POLYGON, BOXES, MASK), max_size=3))
def test_label_studio(rows):
    """Percent and back moves a corner by rounding only: all but pixels on the outlines are equal."""
    rows = [*rows, *BOTH]
    with tempfile.TemporaryDirectory() as folder:
        studio(Path(folder), {"p.png": rows, "q.png": []})
        found, problems = masks(Path(folder), segmentation(STUDIO), SIZE)
    assert problems.rows == []
    back = []
    for name, kind, numbers in rows:
        if kind == "polygon":
            numbers = [(x * 100 / W * (W / 100), y * 100 / H * (H / 100)) for x, y in numbers]
        elif kind == "box":
            x0, y0, x1, y1 = numbers
            x, y, w, h = x0 * 100 / W, y0 * 100 / H, (x1 - x0) * 100 / W, (y1 - y0) * 100 / H
            numbers = (x * (W / 100), y * (H / 100), (x + w) * (W / 100), (y + h) * (H / 100))
        back.append((name, kind, numbers))
    assert np.array_equal(found["images/p.png"], by_coco(back)) and not found["images/q.png"].any()


def test_label_studio_which_annotation_counts(tmp_path):
    def of(*annotations):
        return lambda task: {**task, "annotations": [{**task["annotations"][0], **keys} for keys in annotations]}

    images = {"p.png": BOTH}
    for change, kinds in (
        (of({}, {"was_cancelled": True}), []),
        (of({}, {"ground_truth": True}), []),
        (of({}, {}), ["several_annotations"]),
        (of({"was_cancelled": True}), ["image_without_label"]),
        (of(), ["image_without_label"]),
        (lambda task: {**task, "data": {"image": "/data/local-files/?d=images/p.png", "text": "x"}}, []),
        (lambda task: {**task, "data": {"image": "s3://bucket/some/p.png"}}, []),
        (lambda task: {**task, "data": {"image": "other.png"}}, ["image_without_label", "label_without_image"]),
        (lambda task: {**task, "data": {"a": "a.png", "b": "b.png"}}, ["bad_task", "image_without_label"]),
    ):
        studio(tmp_path, images, change)
        items, problems = read(tmp_path, detection(STUDIO))
        assert sorted(row.kind for row in problems.serious) == kinds
        assert len(items) == (0 if kinds else 1)


def test_label_studio_shapes_with_labels_apart_turned_and_without_area(tmp_path):
    value = {"x": 25, "y": 25, "width": 25, "height": 25, "rotation": 90}
    base = {"original_width": W, "original_height": H, "image_rotation": 0}
    results = [
        {**base, "id": "1", "type": "rectangle", "value": value},
        {**base, "id": "1", "type": "labels", "value": {**value, "labels": ["a"]}},
        {**base, "id": "2", "type": "ellipselabels", "value": {
            "x": 75, "y": 50, "radiusX": 12.5, "radiusY": 25, "rotation": 0, "ellipselabels": ["b"]}},
        {"id": "3", "type": "choices", "value": {"choices": ["good"]}},
    ]  # fmt: skip
    studio(tmp_path, {"p.png": BOTH}, lambda task: {**task, "annotations": [{"result": results}]})
    items, problems = read(tmp_path, detection(STUDIO))
    assert problems.rows == []
    # a quarter turn around (16, 12): 16 wide and 12 high become 12 to the left and 16 down
    assert [(b.label, b.xywh) for b in items["images/p.png"].boxes] == [
        (0, pytest.approx((4, 12, 12, 16))),
        (1, pytest.approx((40, 12, 16, 24))),
    ]
    results.append({**base, "id": "4", "type": "keypointlabels", "value": {"x": 5, "y": 5, "keypointlabels": ["a"]}})
    studio(tmp_path, {"p.png": BOTH}, lambda task: {**task, "annotations": [{"result": results}]})
    _, problems = read(tmp_path, detection(STUDIO))
    assert [row.kind for row in problems.serious] == ["shape_without_area"]


WHOLE = st.tuples(st.integers(0, W - 1), st.integers(0, H - 1)).map(list)
RING = st.lists(WHOLE, min_size=3, max_size=6)
OF_RINGS = st.tuples(NAME, st.just("polygon"), st.tuples(RING, st.lists(RING, max_size=2)))
OF_CORNERS = st.tuples(NAME, st.just("box"), st.tuples(st.lists(WHOLE, min_size=2, max_size=2), st.just([])))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(OF_RINGS, OF_CORNERS, MASK), max_size=4), st.sampled_from(["1", "L", "RGBA"]))
def test_supervisely(rows, mode):
    """As its SDK paints: cv2.fillPoly of the outside, then of the holes; rectangles with both edges; later on top."""
    canvas = np.zeros((H, W), np.uint8)
    for name, kind, numbers in rows:
        one = np.zeros((H, W), np.uint8)
        if kind == "polygon":
            cv2.fillPoly(one, [np.array(numbers[0])], 1)
            for hole in numbers[1]:
                cv2.fillPoly(one, [np.array(hole)], 0)
        elif kind == "box":
            (x0, y0), (x1, y1) = numbers[0]
            one[min(y0, y1) : max(y0, y1) + 1, min(x0, x1) : max(x0, x1) + 1] = 1
        else:
            one = numbers
        canvas[one > 0] = " ab".index(name)
    with tempfile.TemporaryDirectory() as folder:
        supervisely(Path(folder), {"p.png": rows}, mode)
        found, problems = masks(Path(folder), segmentation(SUPERVISELY), SIZE)
    assert problems.rows == []
    assert np.array_equal(found["ds0/img/p.png"], canvas)


def test_supervisely_boxes(tmp_path):
    pixels = np.zeros((H, W), np.uint8)
    pixels[5:9, 7:10] = 1
    rows = [
        ("a", "box", ([[10, 20], [14, 29]], [])),
        ("b", "polygon", ([[30, 10], [40, 10], [40, 20]], [])),
        ("b", "mask", pixels),
    ]
    supervisely(tmp_path, {"p.jpg.png": rows})
    items, problems = read(tmp_path, detection(SUPERVISELY))
    assert problems.rows == []
    assert [(b.label, b.xywh) for b in items["ds0/img/p.jpg.png"].boxes] == [
        (0, (10, 20, 5, 10)),
        (1, (30, 10, 11, 11)),
        (1, (7, 5, 3, 4)),
    ]


DAMAGED = {
    "cvat": ["", "<a/>", "<annotations/>", "<!DOCTYPE a><annotations/>", "<annotations><image/></annotations>"],
    "via": ["", "[]", "{}", '{"a": 1}', '{"a": {"filename": "p.png"}}', '{"a": {"filename": 3, "regions": []}}'],
    "label_studio": ["", "{}", "[1]", '[{"image": "p.png", "label": []}]', '[{"data": {}}]'],
    "supervisely": ["", "[]", "{}", '{"size": {"width": 64, "height": "48"}, "objects": []}'],
}  # fmt: skip
WRITERS = {"cvat": cvat, "via": via, "label_studio": studio, "supervisely": supervisely}
FILES = {
    "cvat": "annotations.xml",
    "via": "via.json",
    "label_studio": "tasks.json",
    "supervisely": "ds0/ann/p.png.json",
}
RINGS = [("a", "polygon", ([[1, 1], [5, 1], [5, 5]], [])), ("b", "polygon", ([[11, 1], [15, 1], [15, 5]], []))]


@pytest.mark.parametrize("kind, text", [(kind, text) for kind, texts in DAMAGED.items() for text in texts])
def test_a_damaged_file_is_a_problem_and_never_background(tmp_path, kind, text):
    WRITERS[kind](tmp_path, {"p.png": RINGS if kind == "supervisely" else BOTH})
    (tmp_path / FILES[kind]).write_text(text)
    try:
        items, problems = read(tmp_path, segmentation(EACH[kind]))
    except UserError:
        return
    assert items == {} and problems.serious


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_change_of_a_file_ends_in_a_traceback(data):
    """One value of a good file becomes another kind of value: the image is left out with a reason, or is as it was."""
    kind = data.draw(st.sampled_from(["via", "label_studio", "supervisely"]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        WRITERS[kind](root, {"p.png": RINGS if kind == "supervisely" else [*BOTH, ("a", "box", (1, 2, 3, 4))]})
        path = root / FILES[kind]
        content = json.loads(path.read_text())
        places = []

        def walk(node):
            for key in node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0):
                places.append((node, key))
                walk(node[key])

        walk(content)
        node, key = data.draw(st.sampled_from(places))
        node[key] = data.draw(st.sampled_from([None, -1, 2.5, "x", "", [], {}, [[]], 1e400, True, [1, 2], {"a": 1}]))
        path.write_text(json.dumps(content))
        try:
            items, problems = read(root, segmentation(EACH[kind]))
        except UserError:
            return
        assert items or problems.serious
        for item in items.values():
            mask_of(item, SIZE)

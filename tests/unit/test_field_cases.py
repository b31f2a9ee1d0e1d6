"""Labels as people's tools really write them: read with the right numbers, or refused in one line; never background.

The cases of shared/cases/field, and others of their kinds.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrace.data.formats.voc_xml import parse_voc
from retrace.data.formats.yolo_rows import Seen
from retrace.errors import UserError
from retrace.text_files import NotUtf8, decoded, encoding_of
from tests.support.detection_sets import COCO, VOC, coco, coco_file, kinds, params, picture, read, voc, voc_xml, yolo

ONE = {"kind": "coco", "annotations": {"train": COCO["annotations"]["train"]}, "images": {"train": "train"}}
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
A = f"<object><name>a</name>{BOX.format(3, 4, 12, 13)}</object>"
GOOD = voc_xml([("a", (3, 4, 12, 13)), ("b", (1, 1, 9, 9))])
HEAD = "<annotation><filename>x.png</filename><size><width>64</width><height>48</height><depth>3</depth></size>"


def voc_boxes(tmp_path, text, **source):
    """Boxes of the image `p`, whose file has this text, or None; and the problems."""
    root = voc(tmp_path, {"p": text, "q": GOOD})
    items, problems = read(root, params({**VOC, **source}))
    item = items.get("JPEGImages/p.png")
    return None if item is None else [(box.label, box.xywh) for box in item.boxes], problems


# --- Pascal VOC


@pytest.mark.parametrize(
    ("corners", "origin", "expected"),
    [
        ((0, 0, 64, 48), 0, (0, 0, 64, 48)),
        ((1, 1, 64, 48), 1, (0, 0, 64, 48)),
        ((10.5, 4.25, 20.5, 14), 0, (10.5, 4.25, 10, 9.75)),
        ((10.5, 4.25, 20.5, 14), 1, (9.5, 3.25, 11, 10.75)),
        ((3, 4, 12, 13), 0, (3, 4, 9, 9)),
        ((3, 4, 12, 13), None, (2, 3, 10, 10)),
        ((10.999999873, 4.00000008, 20, 14), None, (10, 3, 10, 11)),
    ],
)
def test_voc_corners_are_read_by_the_origin(tmp_path, corners, origin, expected):
    boxes, problems = voc_boxes(tmp_path, voc_xml([("a", corners)]), origin=origin)
    assert problems.serious == []
    assert boxes is not None and boxes[0][1] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "corners", [(0, 4, 12, 13), (3, 0, 12, 13), (3.5, 4, 12, 13), (3, 4, 12, 13.25), (0, 0, 64, 48)]
)
def test_without_an_origin_corners_that_are_no_pixel_numbers_stop_and_name_the_choice(tmp_path, corners):
    boxes, problems = voc_boxes(tmp_path, voc_xml([("a", corners)]))
    assert boxes is None
    (row,) = problems.serious
    assert (row.kind, row.action) == ("voc_origin", "stops")
    assert "data.source.origin: 0" in row.detail and "p.xml object 1" in row.detail


def test_every_bndbox_of_an_object_is_a_box_and_parts_are_none(tmp_path):
    three = "".join(BOX.format(*corners) for corners in ((1, 1, 9, 9), (11, 1, 20, 9), (30, 20, 40, 30)))
    part = f"<part><name>head</name>{BOX.format(4, 5, 6, 7)}</part>"
    text = (
        f"{HEAD}<object><name>a</name>{three}</object><object><name>b</name>{BOX.format(3, 4, 12, 13)}{part}</object>"
    )
    boxes, problems = voc_boxes(tmp_path, text + "</annotation>")
    assert problems.rows == []
    assert boxes == [(0, (0, 0, 9, 9)), (0, (10, 0, 10, 9)), (0, (29, 19, 11, 11)), (1, (2, 3, 10, 10))]


def test_namespaces_do_not_matter(tmp_path):
    for opening in ('<annotation xmlns="http://example.org/voc">', '<v:annotation xmlns:v="urn:voc">'):
        prefix = "v:" if opening.startswith("<v:") else ""
        text = GOOD.replace("</", f"</{prefix}") if prefix else GOOD
        text = text.replace("<annotation>", opening)
        if prefix:
            text = "".join(f"<{prefix}{part}" if part[0] not in "/v" else f"<{part}" for part in text.split("<")[1:])
        boxes, problems = voc_boxes(tmp_path / prefix[:1], text)
        assert problems.rows == [] and boxes is not None and len(boxes) == 2


DIALECTS = {
    "cvat": "<annotations>"
    '<image id="0" name="p.png"><box label="a" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>',
    "nested": f"{HEAD}<objects>{A}</objects></annotation>",
    "capital": f"{HEAD}{A.replace('object>', 'Object>')}</annotation>",
    "items": f"<doc><outputs><object><item><name>a</name>{BOX.format(1, 1, 9, 9)}</item></object></outputs></doc>",
    "outputs": f"{HEAD}<outputs>"
    f"<object><item><name>a</name>{BOX.format(1, 1, 9, 9)}</item></object></outputs></annotation>",
    "several_images": f"<annotations>{GOOD}{GOOD}</annotations>",
    "own_word": f"{HEAD}<plate><name>a</name><left>1</left></plate></annotation>",
    "polygon": f"{HEAD}<object><name>a</name><polygon><pt><x>1</x><y>1</y></pt></polygon></object></annotation>",
    "rotated": f"{HEAD}<object><name>a</name><robndbox><cx>9</cx><cy>9</cy></robndbox></object></annotation>",
    "attributes": f'{HEAD}<object><name>a</name><bndbox xmin="1" ymin="1" xmax="9" ymax="9"/></object></annotation>',
    "beside": f"{HEAD}{A}<box><name>b</name></box></annotation>",
    "two_corners": f"{HEAD}{A.replace('<xmin>3', '<xmin>3</xmin><xmin>3')}</annotation>",
    "comma": f"{HEAD}{A.replace('<xmin>3', '<xmin>3,5')}</annotation>",
    "html": "<html><body>403</body></html>",
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=list(DIALECTS))
def test_what_is_not_voc_is_refused_and_never_background(tmp_path, text):
    boxes, problems = voc_boxes(tmp_path, text)
    assert boxes is None
    assert kinds(problems) == {("bad_xml", "JPEGImages/p.png")}


@given(st.lists(st.sampled_from(["object", "annotation", "bndbox", "name", "item", "size", "x"]), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_box_anywhere_in_a_file_is_read_or_refused(path):
    opened, closed = "".join(f"<{tag}>" for tag in path), "".join(f"</{tag}>" for tag in reversed(path))
    try:
        found = parse_voc(f"<annotation>{opened}{A}{closed}</annotation>".encode(), "p.xml")
    except ValueError:
        return
    assert [one.corners for one in found.objects] == [(3, 4, 12, 13)]


def test_a_size_of_zero_is_not_known_and_read_from_the_image(tmp_path):
    boxes, problems = voc_boxes(tmp_path, voc_xml([("a", (3, 4, 12, 13))], size=(0, 0)))
    assert boxes == [(0, (2, 3, 10, 10))]
    assert [(row.kind, row.path) for row in problems.rows] == [("size_not_stated", "JPEGImages/p.png")]


def test_an_empty_voc_file_shows_nothing(tmp_path):
    extra = "<folder>f</folder><source><database>d</database></source><segmented>0</segmented></annotation>"
    boxes, problems = voc_boxes(tmp_path, HEAD + extra)
    assert boxes == [] and problems.rows == []


# --- COCO


def _coco(tmp_path, change):
    made = coco(tmp_path, {"p.png": [(1, 1, 5, 5)], "q.png": [(2, 2, 6, 6)], "empty.png": []})
    change(made)
    coco_file(tmp_path, "train", made)
    return read(tmp_path, params(ONE))


@pytest.mark.parametrize(
    ("given_id", "said"),
    [
        ("0", "is text, but the id is a whole number (0)"),
        (0.0, None),
        ("00", "is text"),
        ("p.png", "write the id"),
        ("p", "write the id"),
    ],
)
def test_a_coco_image_whose_annotation_has_nearly_its_id_is_no_background(tmp_path, given_id, said):
    def change(made):
        made["annotations"][0]["image_id"] = given_id

    items, problems = _coco(tmp_path, change)
    assert sorted(items) == ["train/empty.png", "train/q.png"]
    (row,) = problems.serious
    assert row.kind == "label_without_image"
    assert (said or "a number with a decimal point") in row.detail


@pytest.mark.parametrize("given_id", ["1", 1.0, True, None])
def test_a_coco_annotation_of_an_unknown_category_costs_its_image(tmp_path, given_id):
    def change(made):
        made["annotations"][0]["category_id"] = given_id

    items, problems = _coco(tmp_path, change)
    assert sorted(items) == ["train/empty.png", "train/q.png"]
    assert kinds(problems) == {("class_out_of_range", "train/p.png")}


def test_coco_annotations_that_all_belong_elsewhere_stop(tmp_path):
    def change(made):
        for row in made["annotations"]:
            row["image_id"] += 1000

    _, problems = _coco(tmp_path, change)
    assert ("no_annotation_fits", COCO["annotations"]["train"]) in kinds(problems)
    assert any(row.action == "stops" for row in problems.rows)


def test_a_coco_annotation_of_no_image_leaves_the_others_alone(tmp_path):
    items, problems = _coco(
        tmp_path, lambda made: made["annotations"].append({**made["annotations"][0], "id": 9, "image_id": 77})
    )
    assert sorted(items) == ["train/empty.png", "train/p.png", "train/q.png"]
    assert kinds(problems) == {("label_without_image", COCO["annotations"]["train"])}


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [([50, 10, 1e-6, 5], "tiny_box"), ([50, 10, 0.4, 0.4], "tiny_box"), ([63.5, 10, 1, 5], "tiny_box")],
)
def test_boxes_under_a_pixel_are_refused(tmp_path, bbox, kind):
    items, problems = _coco(tmp_path, lambda made: made["annotations"][0].update(bbox=bbox))
    assert sorted(items) == ["train/empty.png", "train/q.png"]
    assert kinds(problems) == {(kind, "train/p.png")}


def test_the_same_box_twice_is_one_and_as_a_crowd_two(tmp_path):
    def change(made):
        first = made["annotations"][0]
        made["annotations"] += [{**first, "id": 10}, {**first, "id": 11, "iscrowd": 1}, {**first, "id": 12}]

    items, problems = _coco(tmp_path, change)
    assert [box.crowd for box in items["train/p.png"].boxes] == [False, True]
    assert problems.serious == [] and problems.counts() == {"duplicate_box": 2}


def test_coco_files_in_another_encoding_or_case(tmp_path):
    made = coco(tmp_path, {"p.png": [(1, 1, 5, 5)]})
    (tmp_path / "train/p.png").rename(tmp_path / "train/P.PNG")
    made["info"] = {"contributor": "Jérôme"}
    path = tmp_path / COCO["annotations"]["train"]
    path.write_bytes(json.dumps(made, ensure_ascii=False).encode("utf-16"))
    items, problems = read(tmp_path, params(ONE))
    assert sorted(items) == ["train/P.PNG"] and problems.rows == []
    path.write_bytes(json.dumps(made, ensure_ascii=False).encode("cp1252"))
    items, problems = read(tmp_path, params(ONE))
    assert kinds(problems) == {("encoding", COCO["annotations"]["train"])}
    assert "WINDOWS-1252" in problems.rows[0].detail and "iconv" in problems.rows[0].detail


# --- YOLO

YAML = "train: train/images\nval: valid/images\n"


def _yolo(tmp_path, rows, yaml="names: [a, b]\n", **source):
    root = yolo(tmp_path, {"train/p": rows, "valid/q": "0 .5 .5 .5 .5\n"}, YAML + yaml)
    return read(root, params({"kind": "yolo", **source}))


@pytest.mark.parametrize(
    "yaml", ['names: {"0": a, "1": b}\n', "names: [a, b]\nnc: '2'\n", "names: {0: a, '1': b}\nnc: 2\n"]
)
def test_quoted_keys_and_counts_are_numbers(tmp_path, yaml):
    items, problems = _yolo(tmp_path, "1 0.5 0.5 0.25 0.25\n", yaml)
    assert problems.rows == [] and items["train/images/p.png"].boxes[0].label == 1


WORDS = ["01", "1.0", "1.10", "null", "1_000", "0x10", "1e3", "true", "~", "", "7"]


@pytest.mark.parametrize("word", WORDS)
def test_names_that_yaml_reads_as_something_else_ask_for_quotes(tmp_path, word):
    with pytest.raises(UserError, match="put it in quotes") as caught:
        _yolo(tmp_path, "", f"names:\n- a\n- {word}\n")
    assert "names: 1:" in str(caught.value)


@pytest.mark.parametrize("word", ["on", "no", "2024-01-02", "12:30:45", '"1.10"', "'null'"])
def test_names_that_are_text_need_no_quotes(tmp_path, word):
    source = {"classes": {"a": ["a"], "b": [word.strip("\"'")]}}
    items, _ = _yolo(tmp_path, "1 .5 .5 .5 .5", f"names:\n- a\n- {word}\n", **source)
    assert items["train/images/p.png"].boxes[0].label == 1


@pytest.mark.parametrize(
    "yaml",
    [
        "names: {0: a, '0': b}\n",
        "names: {a: 0}\n",
        "names:\n  0:a\n",
        "names: {-1: a, 0: b}\n",
        "names: [a, b]\nnc: two\n",
    ],
)
def test_names_that_cannot_be_told_are_refused(tmp_path, yaml):
    with pytest.raises(UserError):
        _yolo(tmp_path, "", yaml)


POSE3 = "0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 1\n"
POSE2 = "0 0.5 0.5 0.5 0.5 0.4 0.4 0.6 0.6\n"


@pytest.mark.parametrize(("rows", "shape"), [(POSE3, "[2, 3]"), (POSE2, "[2, 2]"), (POSE3 * 2, "['2', '3']")])
def test_a_pose_set_gives_its_boxes(tmp_path, rows, shape):
    valid = rows.splitlines()[0]
    root = yolo(tmp_path, {"train/p": rows, "valid/q": valid}, f"{YAML}names: [a, b]\nkpt_shape: {shape}\n")
    items, problems = read(root, params({"kind": "yolo"}))
    assert problems.serious == []
    assert items["train/images/p.png"].boxes[0].xywh == (16, 12, 32, 24)


@pytest.mark.parametrize("rows", [POSE3, POSE2, "0 0.5 0.5 0.5 0.5 0.91 1\n", "0 0.5 0.5 0.5 0.5 0.91 17\n"])
@pytest.mark.parametrize("polygons", ["refuse", "to_boxes"])
def test_poses_and_tracks_without_a_word_in_data_yaml_are_never_polygons(tmp_path, rows, polygons):
    _, problems = _yolo(tmp_path, rows, polygons=polygons)
    assert any(row.action == "stops" and row.kind == "not_polygons" for row in problems.rows) or {
        kind for kind, _ in kinds(problems)
    } == {"bad_row"}


@pytest.mark.parametrize("column", ["0.91", "7"])
def test_a_sixth_column_is_named(tmp_path, column):
    items, problems = _yolo(tmp_path, f"0 0.5 0.5 0.5 0.5 {column}\n", polygons="to_boxes")
    assert kinds(problems) == {("bad_row", "train/images/p.png")} and "train/images/p.png" not in items
    assert ("confidence" in problems.serious[0].detail) == (column == "0.91")


@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=7), min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_polygons_closed_by_their_first_corner_are_polygons(polygons):
    seen = Seen()
    for number, corners in enumerate(polygons):
        closed = [*corners, corners[0]] + [corners[0]] * (number % 2)  # not all of one length
        seen.add(0, [value for corner in closed for value in corner])
    if len(seen.lengths) > 1:
        assert list(seen.doubts({0: "a"})) == []


def test_ids_that_count_from_one_are_recognized(tmp_path):
    root = yolo(
        tmp_path,
        {"train/p": "1 .5 .5 .5 .5\n2 .5 .5 .25 .25\n", "valid/q": "2 .5 .5 .5 .5\n"},
        YAML + "names: [a, b]\n",
    )
    _, problems = read(root, params({"kind": "yolo"}))
    assert ("ids_from_one", "data.yaml") in kinds(problems)
    (root / "data.yaml").write_text(YAML + "names: {1: a, 2: b}\n")
    items, problems = read(root, params({"kind": "yolo"}))
    assert problems.rows == []
    assert [box.label for box in items["train/images/p.png"].boxes] == [0, 1]


def test_one_image_of_an_unknown_class_is_no_count_from_one(tmp_path):
    _, problems = _yolo(tmp_path, "2 .5 .5 .5 .5\n")  # valid/q has class 0
    assert kinds(problems) == {("class_out_of_range", "train/images/p.png")}


def test_names_in_another_case_are_found(tmp_path):
    root = yolo(tmp_path, {"train/p": "0 .5 .5 .5 .5\n", "valid/q": "1 .5 .5 .5 .5\n"})
    (root / "train/labels/p.txt").rename(root / "train/labels/P.TXT")
    (root / "valid/images/q.png").rename(root / "valid/images/q.PNG")
    (root / "valid/labels").rename(root / "valid/Labels")
    items, problems = read(root, params({"kind": "yolo"}))
    assert problems.rows == []
    assert {name: [box.label for box in item.boxes] for name, item in items.items()} == {
        "train/images/p.png": [0],
        "valid/images/q.PNG": [1],
    }


def test_images_that_share_a_label_file_are_named(tmp_path):
    root = yolo(tmp_path, {"train/p": "0 .5 .5 .5 .5\n", "train/r": "", "valid/q": "1 .5 .5 .5 .5\n"})
    picture(root / "train/images/p.bmp", 9)
    items, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("same_name", "train/images/p.png"), ("same_name", "train/images/p.bmp")}
    assert sorted(items) == ["train/images/r.png", "valid/images/q.png"]


# --- text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_label_file_in_another_encoding_is_named(tmp_path, encoding):
    root = yolo(tmp_path, {"train/p": "", "train/r": "", "valid/q": "0 .5 .5 .5 .5"})
    row = "0 0.5 0.5 0.5 0.5\n" + ("# é\n" if encoding == "cp1252" else "")
    (root / "train/labels/p.txt").write_bytes(row.encode(encoding))
    items, problems = read(root, params({"kind": "yolo"}))
    assert kinds(problems) == {("encoding", "train/images/p.png")}
    assert "train/images/p.png" not in items


def test_lists_and_data_yaml_in_another_encoding_are_one_line(tmp_path):
    root = yolo(tmp_path, {"train/p": "", "valid/q": ""}, "train: list.txt\nval: valid/images\nnames: [a, b]\n")
    (root / "list.txt").write_bytes("train/images/p.png\n".encode("utf-16"))
    _, problems = read(root, params({"kind": "yolo"}))
    assert ("encoding", "list.txt") in kinds(problems)
    (root / "data.yaml").write_bytes("names: [é]\n".encode("cp1252"))
    with pytest.raises(UserError, match="WINDOWS-1252"):
        read(root, params({"kind": "yolo"}))
    other = voc(tmp_path / "voc", {"p": GOOD})
    (other / "ImageSets/train.txt").write_bytes("p\n".encode("utf-16"))
    _, problems = read(other, params(VOC))
    assert ("encoding", "ImageSets/train.txt") in kinds(problems)


@given(st.text(min_size=1), st.booleans())
@settings(max_examples=100, deadline=None)
def test_utf8_is_read_as_it_is(text, marked):
    content = text.encode("utf-8-sig" if marked else "utf-8")
    if "\0" in text:
        return
    assert decoded(content) == text.removeprefix("\ufeff" if not marked else "")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=4), st.sampled_from(["le", "be"]))
def test_utf16_is_recognized_with_and_without_its_mark(text, order):
    mark = "\ufeff".encode(f"utf-16-{order}")
    content = text.encode(f"utf-16-{order}")
    assert encoding_of(mark + content) == "UTF-16"
    assert encoding_of(content) == f"UTF-16{order.upper()}"
    with pytest.raises(NotUtf8, match="iconv -f UTF-16"):
        decoded(content)

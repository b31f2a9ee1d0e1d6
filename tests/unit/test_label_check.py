"""`retrace label-check`: spoiled labels come first, on pictures whose objects a stand-in model sees exactly."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from benchmarks.label_errors import measure
from benchmarks.tables import label_errors
from retrace.cli.label_check import check, lines
from retrace.config.load import load
from retrace.data.manifest import read_manifest
from retrace.data.splits import write_list
from retrace.documents.labels import LABEL_CHECK, LabelCheck, SuspectRow
from retrace.documents.manifest import Box, Record, write_records
from retrace.errors import UserError
from retrace.evaluation import speed
from retrace.evaluation.scores.matching import Found, Truth
from retrace.files import sha256_of
from retrace.labels.boxes import suspicious_boxes, usual_overlap
from retrace.labels.gallery import page, window
from retrace.labels.masks import suspicious_regions, usual_areas
from retrace.labels.suspects import LEAST, ranked
from retrace.labels.without import score_without, steps
from retrace.models import predict
from retrace.models.predict import Detections, SegmentationPredictor
from retrace.statistics.bootstrap import of_totals
from stages import evaluate
from tests.support.fixtures_detection import COLORS, make_shapes
from tests.support.fixtures_documents import training

USUAL = np.array([0.9, 0.9])


def truth(*boxes, labels=None):
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    return Truth(np.array(boxes, np.float64).reshape(-1, 4), labels, np.zeros(len(boxes), bool))


def found(*boxes, labels=None, scores=None):
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    scores = np.full(len(boxes), 0.9) if scores is None else np.array(scores)
    return Found(np.array(boxes, np.float64).reshape(-1, 4), labels, scores)


BOX, FAR = (10, 10, 20, 20), (60, 60, 20, 20)


@pytest.mark.parametrize(
    ("labeled", "kind", "position"),
    [
        (truth(BOX), "missing", None),
        (truth(BOX, FAR, labels=[0, 1]), "wrong class", 1),
        (truth(BOX, (68, 66, 20, 20)), "badly placed", 1),
        (truth(BOX, FAR, (61, 59, 20, 21)), "duplicated", 2),
    ],
)
def test_each_kind_is_named_first_and_the_other_labels_are_not_suspected(labeled, kind, position):
    suspects = ranked(suspicious_boxes("a", labeled, found(BOX, FAR), USUAL))
    assert [(one.kind, one.position) for one in suspects] == [(kind, position)]
    assert suspects[0].suspicion > 0.4


def test_right_labels_and_labels_without_any_detection_are_not_suspected():
    assert ranked(suspicious_boxes("a", truth(BOX, FAR), found(BOX, FAR), USUAL)) == []
    assert ranked(suspicious_boxes("a", truth(BOX, FAR), found(), USUAL)) == []
    assert ranked(suspicious_boxes("a", truth(), found(), USUAL)) == []


def test_what_lies_in_a_crowd_region_is_not_missing_and_the_region_is_not_judged():
    crowd = replace(truth((0, 0, 100, 100)), crowd=np.array([True]))
    assert ranked(suspicious_boxes("a", crowd, found(BOX, FAR), USUAL)) == []


def test_two_objects_close_together_are_no_duplicates_where_the_model_sees_two():
    near = (14, 10, 20, 20)
    assert [one.kind for one in ranked(suspicious_boxes("a", truth(BOX, near), found(BOX, near), USUAL))] == []


def test_a_model_that_draws_boxes_wide_does_not_make_every_label_badly_placed():
    wide = [(x - 3, y - 3, w + 6, h + 6) for x, y, w, h in (BOX, FAR)]
    usual = usual_overlap([truth(BOX, FAR)], [found(*wide)], 1)
    assert usual[0] == pytest.approx(400 / 676)
    assert ranked(suspicious_boxes("a", truth(BOX, FAR), found(*wide), usual)) == []


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(boxes, st.integers(0, 1)), max_size=5),
    st.lists(st.tuples(boxes, st.integers(0, 1), st.floats(0, 1)), max_size=6),
)
def test_suspicions_are_shares_and_the_order_does_not_depend_on_the_input(labeled, seen):
    real = truth(*(box for box, _ in labeled), labels=[label for _, label in labeled] or None)
    guess = found(
        *(box for box, _, _ in seen),
        labels=[label for _, label, _ in seen] or None,
        scores=[score for _, _, score in seen] or None,
    )
    suspects = suspicious_boxes("a", real, guess, USUAL)
    assert all(0 <= one.suspicion <= 1 for one in suspects)
    assert len([one for one in suspects if one.position is not None]) == len(labeled)
    assert ranked(suspects) == ranked(reversed(suspects))
    assert all(one.suspicion >= LEAST for one in ranked(suspects))


def certain(mask, classes, confidence=0.95):
    """Probabilities [C, H, W] of a model that sees `mask`."""
    others = (1 - confidence) / (classes - 1)
    return np.where(np.arange(classes)[:, None, None] == mask[None], confidence, others).astype(np.float32)


def test_a_region_of_another_class_comes_before_a_rim_and_unscored_pixels_do_not_count():
    seen = np.zeros((60, 80), np.uint8)
    seen[10:30, 10:30], seen[40:50, 50:70] = 1, 2
    labeled = seen.copy()
    labeled[10:30, 10:30] = 2  # wrong class
    labeled[40:50, 50:51] = 0  # a rim of one pixel
    labeled[0:5] = 255
    usual = usual_areas([seen], 3)
    assert usual.tolist() == [60 * 80 - 600, 400, 200]
    suspects = ranked(suspicious_regions("a", labeled, certain(seen, 3), usual))
    assert (suspects[0].box, suspects[0].label, suspects[0].suggested) == ((10, 10, 20, 20), 2, 1)
    assert suspects[0].suspicion == pytest.approx(0.95 - 0.025, abs=1e-4)
    assert all(one.suspicion < 0.1 for one in suspects[1:])
    assert ranked(suspicious_regions("a", seen, certain(seen, 3), usual)) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_regions_are_the_connected_pixels_where_another_class_is_likelier(seed):
    random = np.random.default_rng(seed)
    labeled = random.integers(0, 3, (12, 12)).astype(np.uint8)
    probabilities = random.dirichlet(np.ones(3), (12, 12)).transpose(2, 0, 1).astype(np.float32)
    suspects = suspicious_regions("a", labeled, probabilities, usual_areas([labeled], 3))
    count = 0
    for old in range(3):
        for new in range(3):
            if old != new:
                off = (labeled == old) & (probabilities.argmax(0) == new)
                count += ndimage.label(off, np.ones((3, 3)))[1]
    assert len(suspects) == count
    assert all(0 <= one.suspicion <= 1 for one in suspects)


def test_the_score_without_images_is_the_score_of_the_others():
    random = np.random.default_rng(1)
    counts = random.integers(1, 50, (30, 2))
    shares = of_totals(lambda total: {"share": total[:, 0] / total.sum(1), "other": total[:, 1]}, counts)
    images = [f"i{index}" for index in range(30)]
    left_out = {"i3", "i7", "i29"}
    kept = [index for index, name in enumerate(images) if name not in left_out]
    found_ = score_without(shares, "share", images, images, left_out, 200, 5)
    assert found_.value == pytest.approx(counts[kept, 0].sum() / counts[kept].sum())
    assert found_.n == 27 and found_.low < found_.value < found_.high
    of_rest = of_totals(lambda total: {"share": total[:, 0] / total.sum(1)}, counts[kept])
    assert score_without(of_rest, "share", images[:27], images[:27], (), 200, 5) == found_
    assert score_without(shares, "share", images, images, set(images), 200, 5).value is None
    assert steps(0) == [] and steps(3) == [1, 2, 3] and steps(10) == [1, 2, 5, 10]


class Seeing:
    """Finds the rectangles of the pictures by their colors."""

    parameters = 1
    config = {"engine": "fabric", "task": "detection", "input_size": [64, 96]}  # noqa: RUF012

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        results = []
        for image in images:
            corners, labels = [], []
            for label, color in enumerate(COLORS):
                for rows, columns in ndimage.find_objects(ndimage.label((image == color).all(-1))[0]):
                    corners.append((columns.start, rows.start, columns.stop, rows.stop))
                    labels.append(label)
            scores = np.full(len(labels), 0.9)
            results.append(Detections(np.array(corners, float).reshape(-1, 4), scores, np.array(labels, np.int64)))
        return results


def spoil(raw: Path, split: str) -> list[tuple[str, str]]:
    """Spoil one label of each of four images of one object; returns (image, kind)."""
    manifest = read_manifest(raw)
    single = [r for r in manifest.records.values() if r.split == split and len(r.boxes) == 1][:4]
    changed, spoiled = dict(manifest.records), []
    for record, kind in zip(single, ("missing", "wrong class", "badly placed", "duplicated"), strict=True):
        (box,) = record.boxes
        x, y, width, height = box.xywh
        boxes_ = {
            "missing": (),
            "wrong class": (Box(1 - box.label, box.xywh),),
            "badly placed": (Box(box.label, (x + width / 3, y + height / 4, width, height)),),
            "duplicated": (box, Box(box.label, (x + 1, y, width, height - 1))),
        }[kind]
        changed[record.id] = replace(record, boxes=boxes_)
        spoiled.append((record.id, kind))
    write_records(raw / "manifest.jsonl", changed.values())
    return spoiled


def evaluated(project, monkeypatch, spoil_it):
    """A study of shapes that was evaluated; returns what `spoil_it` gave."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(speed, "WARM_UP", 0)
    monkeypatch.setattr(speed, "RUNS", 1)
    make_shapes(project, {"phase": "light", "report": {"headline": "AP50"}}, train=2, val=24)
    write_list(project / "data/shapes/splits", "test", [])
    spoiled = spoil_it(project / "data/shapes/raw", "val")
    model = project / "models/shapes/light"
    model.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"")
    training(monitor="AP50").write(model / "train.json")
    monkeypatch.setattr(evaluate, "load_predictor", lambda *_: Seeing())
    monkeypatch.setattr(evaluate, "require_same_classes", lambda *_: None)
    evaluate.main("light")
    return spoiled


@pytest.fixture
def detection(tmp_path, monkeypatch):
    """The study on labels of which four are spoiled."""
    return tmp_path, evaluated(tmp_path, monkeypatch, spoil)


def test_of_errors_planted_by_the_benchmark_most_come_first(tmp_path, monkeypatch):
    evaluated(tmp_path, monkeypatch, lambda *_: None)
    row = measure(load(), "light", draws=8)
    planted, found_ = sum(row["planted"].values()), sum(row["found"].values())
    assert set(row["planted"]) == {"missing", "wrong class"} and planted == 16  # 5 % are two a draw
    assert found_ >= 0.6 * planted and label_errors({"rows": [row]}).count("%") > 4


def test_the_command_ranks_spoiled_boxes_first_and_writes_pictures_table_and_document(detection):
    project, spoiled = detection
    target, result = check(load(), None, 3, None)
    first = [(row.image, row.kind) for row in result.suspects if row.split == "val"][:4]
    assert sorted(first) == sorted(spoiled)
    assert LabelCheck.read(target / LABEL_CHECK) == result
    with open(target / "label_check.csv", encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["image"] for row in table] == [row.image for row in result.suspects]
    assert sorted(path.name for path in (target / "crops").iterdir()) == ["0001.jpg", "0002.jpg", "0003.jpg"]
    html = (target / "index.html").read_text(encoding="utf-8")
    assert html.count("<figure>") == 3 and "http" not in html
    scores = json.loads((project / "metrics/shapes/light.json").read_text())["splits"]["val"]
    checked = result.splits["val"]
    assert (checked.score.value, checked.score.low) == pytest.approx((scores["AP50"]["value"], scores["AP50"]["low"]))
    assert checked.without[-1].score.value > checked.score.value
    assert any("AP50" in line for line in lines(target, result))
    before = (target / LABEL_CHECK).read_bytes()
    check(load(), "light", 3, target)
    assert (target / LABEL_CHECK).read_bytes() == before


def test_what_the_command_refuses(detection):
    project, _ = detection
    with pytest.raises(UserError, match="no such phase or repeat; allowed: yolo, light"):
        check(load(), "dark", 1, None)
    with pytest.raises(UserError, match=r"metrics/shapes/yolo.json: no such file"):
        check(load(), "yolo", 1, None)
    (project / "mine").mkdir()
    (project / "mine/notes.txt").write_text("keep")
    with pytest.raises(UserError, match="did not write; give a new folder"):
        check(load(), None, 1, project / "mine")
    (project / "data/shapes/splits/val.txt").write_text("img02\n")
    with pytest.raises(UserError, match=r"not the images of this split any more; run `dvc repro evaluate@light`"):
        check(load(), None, 1, None)


class Painted(SegmentationPredictor):
    """Sees class 1 where a picture is bright."""

    def __init__(self):
        self.parameters = 1
        self.config = {"engine": "fabric", "task": "segmentation", "classes": ["road", "mark"], "input_size": [20, 30]}

    def logits(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        bright = torch.from_numpy(np.stack([image[..., 0] > 128 for image in images])).float()
        return torch.stack([4 - 8 * bright, 8 * bright - 4], 1)


SEGMENTATION = {
    "study": "roads",
    "task": "segmentation",
    "phase": "a",
    "seed": 1,
    "classes": ["road", "mark"],
    "data": {
        "root": "nowhere",
        "source": {
            "kind": "masks",
            "images": "images",
            "masks": "masks",
            "values": {"road": [0], "mark": [1]},
            "split": {"by": "ratio", "val": 0.2, "test": 0.2},
        },
    },
    "phases": {
        "a": {
            "init": "none",
            "model": {"architecture": "unet_classic", "width": 4},
            "input_size": [20, 30],
            "epochs": 1,
            "batch_size": 2,
            "optimizer": {"lr": 0.1},
            "monitor": "mIoU",
        }
    },
    "evaluate": {"splits": ["val"], "bootstrap": 100, "samples": 0},
    "report": {"title": "Roads"},
    "machine": {"device": "cpu", "workers": 0},
}


def test_the_command_ranks_spoiled_masks_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "WARM_UP", 0)
    monkeypatch.setattr(speed, "RUNS", 1)
    (tmp_path / "params.yaml").write_text(json.dumps(SEGMENTATION))
    raw, ids = tmp_path / "data/roads/raw", [f"r{index:02}" for index in range(12)]
    records, random = [], np.random.default_rng(2)
    for index, name in enumerate(ids):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:30, 5 + index : 20 + index] = 1
        image = np.repeat((40 + 180 * mask)[..., None], 3, 2) + random.integers(0, 20, (40, 60, 3), dtype=np.uint8)
        mask[:, :2] = 255
        if name == "r03":
            mask[mask == 1] = 0  # a mark that is not labeled
        if name == "r07":
            mask[32:38, 50:58] = 1  # a label where there is no mark
        sums = []
        for folder, pixels in (("images", image), ("masks", mask)):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(raw / folder / f"{name}.png")
            sums.append(sha256_of(raw / folder / f"{name}.png"))
        paths, phash = (f"images/{name}.png", f"masks/{name}.png"), f"{index:x}" * 16
        records.append(Record(name, *paths, sums[0], phash, 60, 40, name, "val", name, mask_sha256=sums[1]))
    records.append(replace(records[0], id="bare", mask=None, mask_sha256=None))  # without labels: not judged
    write_records(raw / "manifest.jsonl", records)
    for split, listed in (("train", ids[:2]), ("val", [*ids, "bare"])):
        write_list(tmp_path / "data/roads/splits", split, listed)
    model = tmp_path / "models/roads/a"
    model.mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"")
    training().write(model / "train.json")
    for module in (evaluate, predict):
        monkeypatch.setattr(module, "load_predictor", lambda *_: Painted())
    evaluate.main("a")
    target, result = check(load(), None, 10, None)
    assert [(row.image, row.label, row.suggested) for row in result.suspects] == [
        ("r03", "road", "mark"),
        ("r07", "mark", "road"),
    ]
    assert result.suspects[0].box == [8, 10, 15, 20] and result.suspects[1].box == [50, 32, 8, 6]
    assert result.splits["val"].without[-1].score.value == 1.0 > result.splits["val"].score.value
    assert (target / "crops/0002.jpg").is_file()


def test_names_of_classes_and_images_are_data_in_the_page():
    row = SuspectRow(rank=1, suspicion=0.5, kind="missing", image="<i>", split="val", label=None,
                     suggested="<script>", box=[1, 2, 3, 4], crop="crops/0001.jpg")  # fmt: skip
    empty = LabelCheck(study="s", phase="p", task="detection", metric="AP50", splits={}, suspects=[row])
    assert "<script>" not in page(empty, [row]) and "<i>" not in page(empty, [row])


@settings(max_examples=50, deadline=None)
@given(boxes)
def test_a_crop_lies_in_the_image_and_holds_the_object(box):
    row = SuspectRow(rank=1, suspicion=0.5, kind="missing", image="i", split="val", label=None, suggested="a",
                     box=[float(value) for value in box])  # fmt: skip
    left, top, right, bottom = window(row, 100, 100)
    assert 0 <= left < right <= 100 and 0 <= top < bottom <= 100
    assert left <= box[0] and right >= min(100, box[0] + box[2])

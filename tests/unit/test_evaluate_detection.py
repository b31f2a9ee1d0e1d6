"""`evaluate` for detection with each engine, on a small hand-made project and networks with random weights."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrace.config.load import parse
from retrace.data.manifest import read_manifest
from retrace.data.splits import write_list
from retrace.documents.manifest import Box, Record, write_records
from retrace.evaluation import speed
from retrace.evaluation.boxes import score_boxes
from retrace.evaluation.error_pictures import around
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import Found, load_matches, rounded, truth_of
from retrace.evaluation.work import Work
from retrace.files import write_json
from retrace.models.build import build
from retrace.models.predict import Detections, load_predictor
from retrace.models.weights import save_model
from stages import evaluate
from tests.support.fixtures_documents import training
from tests.support.helpers_models import network

CLASSES = ["plate", "sign"]
MODEL = {"architecture": "fasterrcnn", "encoder": "mobilenet_v3_large_320_fpn", "min_size": 64, "max_size": 96}
PARAMS = {
    "study": "plates",
    "task": "detection",
    "phase": "mobilenet",
    "seed": 3,
    "classes": CLASSES,
    "data": {"root": "data/external/plates", "source": {"kind": "yolo"}},
    "phases": {
        "mobilenet": {
            "init": "none",
            "model": MODEL,
            "input_size": [64, 96],
            "epochs": 1,
            "batch_size": 2,
            "optimizer": {"lr": 0.1},
            "monitor": "AP50",
        }
    },
    "evaluate": {"splits": ["val"], "bootstrap": 100, "min_reliable": 3, "samples": 1, "batch_size": 2},
    "report": {"title": "test", "headline": "AP50"},
    "runtime": {"threads": 1},
    "machine": {"device": "cpu"},
}
SIZES = [(60, 90), (64, 96), (64, 96), (80, 50)]


def make_data(root: Path) -> None:
    random = np.random.default_rng(3)
    folder = root / "data/plates/raw/images"
    folder.mkdir(parents=True)
    records = []
    for index, (height, width) in enumerate(SIZES):
        image_id = f"p{index}"
        image = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        image[10:50, 10:55] = (250, 20, 20)
        Image.fromarray(image).save(folder / f"{image_id}.png")
        boxes = (Box(0, (10.0, 10.0, 45.0, 40.0)), Box(1, (0.0, 0.0, 8.0, 8.0), crowd=index == 0)) if index < 3 else ()
        sha256 = hashlib.sha256((folder / f"{image_id}.png").read_bytes()).hexdigest()
        row = {"sha256": sha256, "phash": f"{index:x}" * 16, "group": image_id, "split": "val", "source": image_id}
        records.append(Record(image_id, f"images/{image_id}.png", None, width=width, height=height, boxes=boxes, **row))
    write_records(root / "data/plates/raw" / "manifest.jsonl", records)
    for split in ("train", "val"):
        write_list(root / "data/plates/splits", split, [record.id for record in records])


def make_fasterrcnn(folder: Path) -> None:
    model = network(MODEL)
    torch.manual_seed(1)
    module = build(model, CLASSES)
    save_model(folder, module, model, "detection", CLASSES, (64, 96), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def make_yolo(folder: Path) -> None:
    from retrace.compat.ultralytics import ultralytics

    torch.manual_seed(1)
    yolo = ultralytics().YOLO("yolo11n.yaml", task="detect", verbose=False)
    yolo.model = type(yolo.model)("yolo11n.yaml", nc=2, verbose=False)
    yolo.model.names = dict(enumerate(CLASSES))
    yolo.save(str(folder / "best.pt"))
    config = {"engine": "ultralytics", "task": "detection", "classes": CLASSES, "model": "yolo11n"}
    write_json(folder / "model.json", config | {"input_size": [96, 96], "iou": 0.7, "max_det": 50})


MAKERS = {"fabric": make_fasterrcnn, "ultralytics": make_yolo}


@pytest.fixture(params=list(MAKERS))
def project(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "WARM_UP", 1)
    monkeypatch.setattr(speed, "RUNS", 2)
    make_data(tmp_path)
    (tmp_path / "models/plates/mobilenet").mkdir(parents=True)
    MAKERS[request.param](tmp_path / "models/plates/mobilenet")
    training(monitor="AP50", best_epoch=1).write(tmp_path / "models/plates/mobilenet/train.json")
    parse(dict(PARAMS))
    (tmp_path / "params.yaml").write_text(json.dumps(PARAMS))
    return tmp_path


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_evaluate_writes_scores_of_the_stored_predictions_twice_the_same(project):
    before = tree(project / "data")
    evaluate.main("mobilenet")
    first = tree(project / "metrics")
    shutil.rmtree(project / "metrics")
    evaluate.main("mobilenet")
    assert tree(project / "metrics") == first
    assert tree(project / "data") == before  # no caches beside the images
    left = {path.name for path in project.iterdir()} - {".retrace"}
    assert left == {"data", "models", "metrics", "logs", "params.yaml"}  # nothing else is written, no runs/ folder

    folder = project / "metrics/plates/mobilenet"
    val = json.loads((folder.with_suffix(".json")).read_text())["splits"]["val"]
    rows = [json.loads(line) for line in (folder / "predictions_val.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == (folder / "images_val.txt").read_text().split()
    records = read_manifest(project / "data/plates/raw").records
    founds = [
        Found(np.array(row["boxes"]).reshape(-1, 4), np.array(row["labels"], int), np.array(row["scores"]))
        for row in rows
    ]
    assert sum(len(found.scores) for found in founds) > 10
    expected = coco_scores([truth_of(records[row["id"]]) for row in rows], founds, CLASSES)
    for name in ("AP50", "AP", "AR", "AP_small", "AP_medium"):
        assert val[name]["value"] == expected[name] >= 0
    assert val["AP_large"]["value"] is None  # there is no large object
    assert val["per_class"]["sign"]["instances"] == 2 and not val["per_class"]["sign"]["reliable"]
    assert val["per_class"]["plate"]["instances"] == 3 == val["per_class"]["plate"]["images"]
    assert np.array(val["confusion"]).shape == (3, 3)
    assert sum(map(sum, val["confusion"][:2])) == 5  # every object is somewhere; the crowd region is not
    assert len(load_matches(folder, "val").objects) == 4
    curves = json.loads((folder / "curves_val.json").read_text())
    assert len(curves["recall"]) == len(curves["precision"]["plate"]) == len(curves["F1"]["plate"]) == 101
    samples = json.loads((folder / "samples.json").read_text())
    assert {"truth", "predicted", "IoU", "confidence", "score", "kind"} <= set(samples[0])
    assert all((folder / sample["file"]).is_file() for sample in samples)
    assert json.loads((project / "logs/plates/mobilenet/speed.json").read_text())["latency_ms"] > 0


def test_pictures_of_errors_are_the_cases_that_the_confusion_matrix_counts(project):
    """Hits with the lowest IoU, the largest missed objects, the surest false alarms."""
    values = json.loads((project / "params.yaml").read_text())
    values["evaluate"] |= {"samples": 100, "confidence": 0.05}
    (project / "params.yaml").write_text(json.dumps(values))
    evaluate.main("mobilenet")
    folder = project / "metrics/plates/mobilenet"
    rows = [row for row in json.loads((folder / "errors.json").read_text()) if row["split"] == "val"]
    names = [*CLASSES, None]
    confusion = json.loads(folder.with_suffix(".json").read_text())["splits"]["val"]["confusion"]
    cells = {}
    for row in rows:
        cells.setdefault((names.index(row["truth"]), names.index(row["predicted"])), []).append(row)
    assert {cell: len(shown) for cell, shown in cells.items()} == {
        (truth, given): min(count, 100)
        for truth, row in enumerate(confusion)
        for given, count in enumerate(row)
        if count
    }
    for (truth, given), shown in cells.items():
        key = "IoU" if truth == given else "side" if given == len(CLASSES) else "confidence"
        measured = [row[key] for row in shown]
        assert measured == sorted(measured, reverse=key != "IoU")
        assert all((folder / row["file"]).is_file() for row in shown)


@pytest.mark.parametrize("box", [(0, 0, 3, 3), (300, 150, 40, 90), (610, 470, 30, 10), (0, 0, 640, 480)])
def test_the_part_of_an_image_around_a_box_holds_the_box_and_lies_in_the_image(box):
    left, top, right, bottom = around([box], (640, 480))
    assert 0 <= left <= box[0] and 0 <= top <= box[1]
    assert box[0] + box[2] <= right <= 640 and box[1] + box[3] <= bottom <= 480


def test_a_detector_that_returns_the_truth_scores_one(tmp_path):
    make_data(tmp_path)
    manifest = read_manifest(tmp_path / "data/plates/raw")
    records = iter(manifest.records.values())

    def predict(images):
        found = []
        for image, record in zip(images, records, strict=False):
            assert image.shape == (record.height, record.width, 3)
            corners = np.array([(x, y, x + w, y + h) for x, y, w, h in (b.xywh for b in record.boxes)]).reshape(-1, 4)
            labels = np.array([box.label for box in record.boxes], int)
            found.append(Detections(corners, np.linspace(0.9, 0.8, len(labels)), labels))
        return found

    options = {**PARAMS, "evaluate": {**PARAMS["evaluate"], "batch_size": 1, "samples": 0}}
    found, samples, errors = score_boxes(
        Work(parse(options), "mobilenet", manifest, predict, tmp_path, []), "val", list(manifest.records)
    )
    assert samples == errors == []
    for name in ("AP50", "AP", "AR", "precision", "recall", "F1", "best_F1"):
        assert found.estimate(name).value == 1.0, name
    assert found.confusion == [[3, 0, 0], [0, 2, 0], [0, 0, 0]]


def test_predictions_do_not_depend_on_the_batch_and_are_in_pixels_of_the_image(project):
    predictor = load_predictor(project / "models/plates/mobilenet", torch.device("cpu"))
    images = [np.asarray(Image.open(project / f"data/plates/raw/images/p{i}.png")) for i in range(4)]
    together = predictor.predict(images)
    for image, found in zip(images, together, strict=True):
        alone = predictor.predict([image])[0]
        assert len(alone.scores) == len(found.scores) > 0
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-5)
        assert (np.diff(found.scores) <= 0).all() and set(found.labels) <= {0, 1}
        assert found.boxes.min() >= 0
        assert found.boxes[:, 2].max() <= image.shape[1] and found.boxes[:, 3].max() <= image.shape[0]
        assert (rounded(found).boxes[:, 2:] >= 0).all()
    assert max(found.boxes[:, 3].max() for found in together) > 64  # the tall image is not cut to the working size


def test_captions_lie_inside_the_picture_and_apart_where_there_is_room(tmp_path):
    from retrace.evaluation.pictures import BOX_PANEL, GAP, Drawn, save_boxes

    image = np.full((100, 100, 3), 128, dtype=np.uint8)
    drawn = [
        Drawn((85.0, 2.0, 14.0, 20.0), "license_plate", color=(255, 0, 0)),
        Drawn((85.0, 60.0, 14.0, 20.0), "sign", color=(0, 0, 255)),
    ]
    save_boxes(tmp_path / "plain.jpg", image, [replace(one, caption="") for one in drawn], [])
    save_boxes(tmp_path / "named.jpg", image, drawn, drawn[:0])
    plain, named = (np.asarray(Image.open(tmp_path / f"{n}.jpg")).astype(int) for n in ("plain", "named"))
    assert named.shape == (BOX_PANEL[0], 2 * (BOX_PANEL[0] + GAP), 3)  # a small picture is enlarged
    changed = (np.abs(plain - named).max(-1) > 60)[:, : BOX_PANEL[0]]
    red = changed & (named[..., 0] - named[..., 2] > 100)[:, : BOX_PANEL[0]]
    blue = changed & (named[..., 2] - named[..., 0] > 100)[:, : BOX_PANEL[0]]
    assert red.sum() > 500 and blue.sum() > 300  # both captions are there, the wide one pushed to the left
    assert np.nonzero(red)[1].min() < 330

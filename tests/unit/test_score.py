"""`retrace score` against pycocotools, by hand, and with everything that can be wrong in a file."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as official_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import jaccard_score
from typer.testing import CliRunner

from retrace.cli.app import app
from retrace.data.formats.annotated import BadShape
from retrace.errors import UserError
from retrace.evaluation.detection import BoxScores, best_confidence
from retrace.evaluation.scores.matching import Found, Truth, match
from retrace.scoring.coco_scores import rle_of
from retrace.scoring.measure import Settings, measure
from retrace.scoring.question import Options
from retrace.scoring.reading import ask
from retrace.scoring.units import units_of
from retrace.seeds import derive
from retrace.statistics.bootstrap import Units
from retrace.statistics.verdicts import paired_difference
from tests.support.projects import ROOT

SIZE = (120, 90)


def official(truth, results, kind):
    """AP, AP50, AP75, AR and AP by class of pycocotools, NaN where it says -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = json.loads(json.dumps(truth))
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(json.loads(json.dumps(results))), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    found = {name: run.stats[place] for name, place in (("AP", 0), ("AP50", 1), ("AP75", 2), ("AR", 8))}
    for place, category in enumerate(truth["categories"]):
        precision = run.eval["precision"][:, :, place, 0, -1]
        found[f"AP/{category['name']}"] = precision[precision > -1].mean() if (precision > -1).any() else -1
    if kind == "segm":
        found |= {"AP_small": run.stats[3], "AP_medium": run.stats[4], "AP_large": run.stats[5]}
    return {name: np.nan if value == -1 else value for name, value in found.items()}


def random_set(seed, masks=False):
    """A truth with crowds, and results that are near, misplaced, of another class, tied, and sometimes too many."""
    random = np.random.default_rng(seed)
    classes, width, height = int(random.integers(1, 5)), *SIZE
    images = random.permutation(np.arange(1, int(random.integers(2, 12))))
    truth = {
        "images": [{"id": int(one), "file_name": f"{one}.jpg", "width": width, "height": height} for one in images],
        "annotations": [],
        "categories": [{"id": int(one), "name": f"class {one}"} for one in random.permutation(classes) * 3 + 1],
    }
    truth["categories"].sort(key=lambda row: row["id"])
    kinds = [row["id"] for row in truth["categories"]]
    results = []
    for image in truth["images"]:
        for _ in range(random.integers(0, 6)):
            w, h = np.exp(random.uniform(np.log(4), np.log(70), 2))
            x, y = random.uniform(0, width - w), random.uniform(0, height - h)
            category, crowd = int(random.choice(kinds)), int(random.random() < 0.15)
            row = {"id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": category}
            box = [round(float(value), 2) for value in (x, y, w, h)]
            truth["annotations"].append(row | _shaped(box, crowd, random, masks) | {"iscrowd": crowd})
            if crowd:  # an object in the region: detections of it must not be taken for parts of the crowd
                inside = row | {"id": row["id"] + 1} | _shaped(box, 0, random, masks)
                truth["annotations"].append(inside | {"iscrowd": 0})
            for _ in range(random.integers(0, 4)):
                near = (np.array(box) + random.normal(0, 0.1, 4) * [w, h, w, h]).clip(1).round(2)
                category = int(random.choice(kinds)) if random.random() < 0.2 else category
                results.append(_result(image["id"], category, near.tolist(), random, masks))
        for _ in range(random.integers(0, 5) if random.random() < 0.95 else 130):
            far = [*random.uniform(0, 60, 2).round(2).tolist(), *random.uniform(3, 50, 2).round(2).tolist()]
            results.append(_result(image["id"], int(random.choice(kinds)), far, random, masks))
    order = random.permutation(len(results))
    return truth, [results[place] for place in order]


def _shaped(box, crowd, random, masks):
    if not masks:
        return {"bbox": box, "area": box[2] * box[3]}
    x, y, w, h = box
    area = round(w * h * random.uniform(0.5, 1), 2)
    if crowd:
        rle = _rle(box)
        return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}, "bbox": box, "area": area}
    return {"segmentation": [[x, y, x + w, y, x + w, y + h, x + w / 2, y + h / 2, x, y + h]], "bbox": box, "area": area}


def _rle(box):
    pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
    x, y, w, h = (int(value) for value in box)
    pixels[y : y + h + 1, x : x + w + 1] = 1
    return official_mask.encode(pixels)


def _result(image, category, box, random, masks):
    row = {"image_id": image, "category_id": category, "score": round(float(random.random()), 1)}
    if not masks:
        return row | {"bbox": box}
    rle = _rle(box)
    return row | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [folder / f"{name}.json" for name in files]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(25, 200), marks=pytest.mark.slow)], ids=["25", "175"])
def test_scores_equal_pycocotools_on_random_sets(tmp_path, kind, seeds):
    compared = 0
    for seed in seeds:
        truth, results = random_set(seed, masks=kind == "segm")
        if not results or all(row["iscrowd"] for row in truth["annotations"]):
            continue
        expected = official(truth, results, kind)
        first, second = write(tmp_path, truth=truth, a=results)
        question = ask(first, [second], Options(masks=kind == "segm"))
        found = question.answers[0].statistic(np.ones((1, len(question.images))))
        mine = {name: float(found[name][0]) for name in expected}
        assert mine == pytest.approx(expected, abs=1e-12, rel=0, nan_ok=True), seed
        compared += 1
    assert compared > 0.8 * len(seeds)


def test_rles_are_read_as_numbers_as_text_and_as_polygons():
    numbers = {"size": [4, 5], "counts": [6, 2, 2, 2, 8]}  # columns 1 and 2, rows 2 and 3
    packed = official_mask.frPyObjects(numbers, 4, 5)
    text = {"size": [4, 5], "counts": packed["counts"].decode()}
    polygon = [[1, 2, 3, 2, 3, 4, 1, 4]]
    pixels = [official_mask.decode(rle_of(one, (5, 4))) for one in (numbers, text, polygon)]
    assert pixels[0].sum() == 4
    assert pixels[0][2:4, 1:3].all()
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] == pixels[2]).all()


def example(tmp_path, images=24, seed=5):
    """A truth with several clips, and two files of results of which the second is better."""
    random = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "bus"}]}
    results = {"a": [], "b": []}
    for image in range(1, images + 1):
        name = f"clip{image % 8}_{image}.jpg"
        truth["images"].append({"id": image, "file_name": name, "width": 200, "height": 100})
        for category in (3, 7):
            box = [float(value) for value in (*random.uniform(0, 60, 2).round(1), *random.uniform(15, 40, 2).round(1))]
            row = {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category, "bbox": box}
            truth["annotations"].append(row | {"area": box[2] * box[3], "iscrowd": 0})
            for name, noise in (("a", 3.0), ("b", 0.5)):
                near = (np.array(box) + random.normal(0, noise, 4)).round(2).tolist()
                score = round(float(random.uniform(0.2, 1)), 3)
                results[name].append({"image_id": image, "category_id": category, "bbox": near, "score": score})
    return truth, results, write(tmp_path, truth=truth, **results)


def test_differences_and_verdicts_are_those_of_the_reports(tmp_path):
    truth, results, (file, a, b) = example(tmp_path)
    question = ask(file, [a, b], Options())
    units, called = units_of(question.images, "group", "^(clip.)")
    result = measure(question, Settings(units, called, resamples=300, seed=3))
    truths, founds = [], {"a": [], "b": []}
    for image in range(1, 25):
        mine = [row for row in truth["annotations"] if row["image_id"] == image]
        labels = np.array([0 if row["category_id"] == 3 else 1 for row in mine])
        truths.append(Truth(np.array([row["bbox"] for row in mine]), labels, np.zeros(2, bool)))
        for name, rows in results.items():
            mine = [row for row in rows if row["image_id"] == image]
            scores = np.array([row["score"] for row in mine])
            founds[name].append(Found(np.array([row["bbox"] for row in mine]), labels, scores))
    matches = {name: match(truths, found, 2, 0.5) for name, found in founds.items()}
    classes = ["car", "bus"]
    scores = {name: BoxScores(one, classes, 0.25, best_confidence(one, classes)) for name, one in matches.items()}
    seed = derive(3, "bootstrap", "score")
    expected = paired_difference(scores["b"], scores["a"], units, 300, seed)
    mine = result.scored[1].differences
    assert result.units == 8
    assert result.scored[0].differences is None
    for name in ("AP", "AP50", "F1", "AP/car", "AP50/bus"):
        ends = [getattr(mine[name], key) for key in ("value", "low", "high", "p", "detectable")]
        assert ends == [getattr(expected[name], key) for key in ("value", "low", "high", "p", "detectable")]
    assert mine["AP"].verdict == "better"
    assert mine["AP"].low > 0


def test_another_baseline_turns_the_differences_round(tmp_path):
    _, _, (file, a, b) = example(tmp_path)
    question = ask(file, [a, b], Options())
    units = Units.each(24)
    first = measure(question, Settings(units, resamples=200))
    second = measure(question, Settings(units, resamples=200, baseline="b", metric="AP50"))
    assert second.base == "b"
    assert second.overall[0] == "AP50"
    assert second.scored[1].differences is None
    assert second.scored[0].differences["AP"].value == -first.scored[1].differences["AP"].value
    assert second.scored[0].differences["AP"].verdict == "worse"
    for wrong in ({"baseline": "c"}, {"metric": "mIoU"}):
        with pytest.raises(UserError, match="allowed: "):
            measure(question, Settings(units, **wrong))


def test_the_constant_answer_itself_gets_no_verdict(tmp_path):
    """Where all objects are at one place, their mean box is perfect and nothing can be above it."""
    truth, results, _ = example(tmp_path)
    for row in truth["annotations"]:
        row["bbox"] = [20, 20, 40, 30] if row["category_id"] == 3 else [100, 20, 40, 30]
    boxes = {(row["image_id"], row["category_id"]): row["bbox"] for row in truth["annotations"]}
    perfect = [row | {"bbox": boxes[row["image_id"], row["category_id"]]} for row in results["a"]]
    file, a, b = write(tmp_path, truth=truth, a=results["a"], b=perfect)
    result = measure(ask(file, [a, b], Options()), Settings(Units.each(24), resamples=200))
    assert result.floors["AP"].value == 1
    assert result.scored[1].scores["AP"].value == 1
    assert result.scored[1].differences["AP"].verdict is None
    assert result.scored[1].differences["AP"].why == "floor"


def test_the_floor_can_be_learned_elsewhere(tmp_path):
    truth, _, (file, a, _) = example(tmp_path)
    for row in truth["annotations"]:
        row["bbox"] = [150, 70, 10, 10]
    (train,) = write(tmp_path, train=truth)
    question = ask(file, [a], Options(train=train))
    assert question.train == "train.json"
    assert float(question.floor(np.ones((1, 24)))["AP"][0]) == 0
    own = ask(file, [a], Options()).floor(np.ones((1, 24)))
    assert float(own["AP50"][0]) > 0


def test_yolo_folders_score_as_the_same_boxes_in_coco_files(tmp_path):
    truth, results, (file, a, b) = example(tmp_path)
    folders = {name: tmp_path / name / "labels" for name in ("yolo", "a", "b")}
    (tmp_path / "yolo" / "images").mkdir(parents=True)
    (tmp_path / "yolo" / "data.yaml").write_text("names: [car, bus]\n")
    for folder in folders.values():
        folder.mkdir(parents=True)
    names = {row["id"]: row["file_name"] for row in truth["images"]}
    for name in sorted(names.values()):
        Image.new("RGB", (200, 100)).save(tmp_path / "yolo" / "images" / name)
    for name, rows in {"yolo": truth["annotations"], **results}.items():
        for row in rows:
            x, y, w, h = row["bbox"]
            shares = [
                (x + w / 2) / 200,
                (y + h / 2) / 100,
                w / 200,
                h / 100,
                *([row["score"]] if "score" in row else []),
            ]
            line = " ".join([str(int(row["category_id"] == 7)), *(f"{value:.17g}" for value in shares)])
            with open(folders[name] / f"{names[row['image_id']][:-4]}.txt", "a") as stream:
                stream.write(f"{line}\n")
    yolo = ask(folders["yolo"], [folders["a"], folders["b"]], Options())
    coco = ask(file, [a, b], Options())
    assert [answer.name for answer in yolo.answers] == ["a", "b"]
    assert yolo.classes == coco.classes
    order = [yolo.images.index(name[:-4]) for name in coco.images]
    assert (yolo.seen[order] == coco.seen).all()
    for mine, other in zip(yolo.answers, coco.answers, strict=True):
        found, expected = (one.statistic(np.ones((1, 24))) for one in (mine, other))
        for name in ("AP", "AP50", "AP75", "AP_small", "F1", "AP/bus"):
            assert float(found[name][0]) == pytest.approx(float(expected[name][0]), abs=1e-9)


def masks(folder, seed, wrong=0.0, shape=(20, 30)):
    """Eight masks of three classes with a border that is not scored; `wrong`: share of pixels of another class."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for image in range(8):
        mask = np.random.default_rng(image).integers(0, 3, shape).astype(np.uint8)
        if wrong:
            mask = np.where(random.random(shape) < wrong, random.integers(0, 3, shape), mask).astype(np.uint8)
        else:
            mask[:2] = 255
        Image.fromarray(mask).save(folder / f"m{image}.png")
    return folder


def test_masks_score_as_scikit_learn_says(tmp_path):
    truth, a, b = masks(tmp_path / "truth", 0), masks(tmp_path / "a", 1, 0.5), masks(tmp_path / "b", 2, 0.2)
    result = measure(ask(truth, [a, b], Options(classes=("x", "y", "z"))), Settings(Units.each(8), resamples=200))
    for scored, folder in zip(result.scored, (a, b), strict=True):
        true, guess = (
            np.concatenate([np.asarray(Image.open(path)).ravel() for path in sorted(one.glob("*.png"))])
            for one in (truth, folder)
        )
        expected = jaccard_score(true[true != 255], guess[true != 255], average=None)
        assert [scored.scores[f"IoU/{name}"].value for name in "xyz"] == pytest.approx(expected.tolist(), abs=1e-12)
        assert scored.scores["mIoU"].value == pytest.approx(expected.mean(), abs=1e-12)
    assert result.scored[1].differences["mIoU"].verdict == "better"
    assert result.floors["mIoU"].value < result.scored[0].scores["mIoU"].value


def test_class_names_of_masks_come_from_a_file_or_from_the_values(tmp_path):
    truth, a = masks(tmp_path / "truth", 0), masks(tmp_path / "a", 1, 0.5)
    assert ask(truth, [a], Options()).classes == ("class 0", "class 1", "class 2")
    (truth / "labels.txt").write_text("sky\nroad\ncar\n")
    assert ask(truth, [a], Options()).classes == ("sky", "road", "car")


@pytest.mark.parametrize(
    "content",
    ["image,group\n" + "".join(f"{name},{name[0]}\n" for name in ("a1", "a2", "b1.jpg")),
     json.dumps({"a1.jpg": "first", "a2": "first", "b1": 2})],
    ids=["csv", "json"],
)  # fmt: skip
def test_groups_come_from_a_file_or_a_pattern(tmp_path, content):
    images = ("x/a1.jpg", "x/a2.jpg", "b1.jpg")
    file = tmp_path / ("groups.csv" if content.startswith("image") else "groups.json")
    file.write_text(content)
    for given in (str(file), "([ab])[0-9]"):
        units, called = units_of(images, "group", given)
        assert (units.of.tolist(), called) == ([0, 0, 1], "group")
    assert units_of(images, "image", None)[0].count == 3
    assert units_of(images, "group", "(a)")[0].of.tolist() == [0, 0, 1]  # b1 does not match: a group of its own


WRONG_UNITS = {
    "frame": ("frame", None),
    "groups without unit": ("image", "(a)"),
    "unit without groups": ("group", None),
    "no such file": ("group", "nothing.csv"),
    "no capture": ("group", "a"),
    "no expression": ("group", "("),
    "no match": ("group", "(q)"),
}


@pytest.mark.parametrize("unit,groups", WRONG_UNITS.values(), ids=WRONG_UNITS)
def test_wrong_units_are_refused(unit, groups):
    with pytest.raises(UserError, match="^--(unit|groups)"):
        units_of(("a1.jpg", "b1.jpg"), unit, groups)


def test_an_image_without_a_group_is_named(tmp_path):
    (tmp_path / "g.csv").write_text("image,group\na1,1\n")
    with pytest.raises(UserError, match="1 of 2 images have no group: b1.jpg"):
        units_of(("a1.jpg", "b1.jpg"), "group", str(tmp_path / "g.csv"))


def changed(rows, **values):
    return [rows[0] | values, *rows[1:]]


def without(rows, key):
    return [{name: value for name, value in rows[0].items() if name != key}, *rows[1:]]


PREDICTIONS = {  # what is wrong -> (the results, what the message says)
    "unknown category": (lambda t, r: changed(r, category_id=99), "category_id 99 is no category of the truth"),
    "category as text": (lambda t, r: changed(r, category_id="3"), "is text, but the id is a whole number"),
    "unknown image": (lambda t, r: changed(r, image_id=12345), "image_id 12345 is no image of the truth"),
    "image by name": (lambda t, r: changed(r, image_id="clip1_1.jpg"), "is the name of what has the id 1"),
    "score above 1": (lambda t, r: changed(r, score=1.5), "score 1.5 must be a number from 0 to 1"),
    "score below 0": (lambda t, r: changed(r, score=-0.1), "score -0.1"),
    "score is NaN": (lambda t, r: changed(r, score=float("nan")), "score nan"),
    "no score": (lambda t, r: without(r, "score"), "row 0: it has no score"),
    "box is NaN": (lambda t, r: changed(r, bbox=[1, 2, float("nan"), 4]), "must be four finite numbers"),
    "box is infinite": (lambda t, r: changed(r, bbox=[1, 2, 1e999, 4]), "must be four finite numbers"),
    "box of three": (lambda t, r: changed(r, bbox=[1, 2, 3]), "must be four finite numbers"),
    "negative width": (lambda t, r: changed(r, bbox=[1, 2, -3, 4]), "must be four finite numbers"),
    "no box": (lambda t, r: without(r, "bbox"), "it has no bbox"),
    "truth as predictions": (lambda t, r: t, "a truth file and not a file of predictions"),
    "a text": (lambda t, r: "nothing", "not a file of predictions"),
}


@pytest.mark.parametrize("change,says", PREDICTIONS.values(), ids=PREDICTIONS)
def test_wrong_predictions_are_refused_with_file_and_reason(tmp_path, change, says):
    truth, results, (file, a, _) = example(tmp_path, images=6)
    a.write_text(json.dumps(change(truth, results["a"])))
    with pytest.raises(UserError, match=re.escape(says)) as raised:
        ask(file, [a], Options())
    assert str(a) in str(raised.value)


TRUTHS = {
    "predictions as truth": (lambda t, r: r["a"], "not a COCO truth file"),
    "no categories": (lambda t, r: t | {"categories": []}, "category_id 3 is no category"),
    "nothing annotated": (lambda t, r: t | {"annotations": []}, "not one object is annotated"),
    "same name twice": (
        lambda t, r: t | {"categories": changed(t["categories"], name="bus")}, "2 of them are called 'bus'"),
    "same id twice": (lambda t, r: t | {"images": changed(t["images"], id=2)}, "id 2 is there twice"),
    "mixed ids": (lambda t, r: t | {"images": changed(t["images"], id="1")}, "write all alike"),
    "no box": (lambda t, r: t | {"annotations": without(t["annotations"], "bbox")}, "it has no bbox"),
    "crowd of 2": (lambda t, r: t | {"annotations": changed(t["annotations"], iscrowd=2)}, "must be 0 or 1"),
}  # fmt: skip


@pytest.mark.parametrize("change,says", TRUTHS.values(), ids=TRUTHS)
def test_wrong_truths_are_refused_with_file_and_reason(tmp_path, change, says):
    truth, results, (file, a, _) = example(tmp_path, images=6)
    file.write_text(json.dumps(change(truth, results)))
    with pytest.raises(UserError, match=re.escape(says)) as raised:
        ask(file, [a], Options())
    assert str(file) in str(raised.value)


SEGMENTATIONS = {
    "none": (None, "it has no segmentation"),
    "two corners": ([[1, 2, 3, 4]], "must be x1, y1, x2, y2, x3, y3"),
    "NaN": ([[1, 2, 3, 4, float("nan"), 6]], "all finite"),
    "other size": ({"size": [9, 9], "counts": [81]}, "the truth says [4, 5]"),
    "too few pixels": ({"size": [4, 5], "counts": [7]}, "run lengths of 7 pixels; the image has 20"),
    "negative": ({"size": [4, 5], "counts": [-1, 21]}, "must be run lengths"),
    "bad text": ({"size": [4, 5], "counts": "\u00e9"}, "cannot occur"),
}


@pytest.mark.parametrize("segmentation,says", SEGMENTATIONS.values(), ids=SEGMENTATIONS)
def test_wrong_masks_of_coco_files_are_refused(segmentation, says):
    with pytest.raises(BadShape, match=re.escape(says)):
        rle_of(segmentation, (5, 4))


def test_wrong_masks_are_refused_with_folder_and_reason(tmp_path):
    truth, good = masks(tmp_path / "truth", 0), masks(tmp_path / "good", 1, 0.5)

    def refused(name, change, says):
        folder = masks(tmp_path / name, 1, 0.5)
        change(folder)
        with pytest.raises(UserError, match=re.escape(says)) as raised:
            ask(truth, [good, folder], Options())
        assert str(folder) in str(raised.value)

    def save(array):
        return lambda folder: Image.fromarray(array).save(folder / "m3.png")

    refused("missing", lambda folder: (folder / "m3.png").unlink(), "m3.png: missing")
    refused("more", lambda folder: shutil.copy(folder / "m3.png", folder / "x.png"), "x.png: there is no such mask")
    refused("size", save(np.zeros((20, 31), np.uint8)), "31 x 20 and 30 x 20 pixels")
    refused("value", save(np.full((20, 30), 7, np.uint8)), "raw value 7")
    refused("unscored", save(np.full((20, 30), 255, np.uint8)), "raw value 255")
    refused("colors", save(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)), "RGB colors")
    refused("damaged", lambda folder: (folder / "m3.png").write_bytes(b"nothing"), "m3.png")


YOLO = {
    "five columns": ("0 0.5 0.5 0.1 0.1", "no confidence"),
    "confidence above 1": ("0 0.5 0.5 0.1 0.1 1.2", "confidence 1.2"),
    "pixels": ("0 50 50 10 10 0.5", "must be shares of the image"),
    "NaN": ("0 nan 0.5 0.1 0.1 0.5", "all finite"),
    "text": ("car 0.5 0.5 0.1 0.1 0.5", "is not `class x y width height confidence`"),
    "unknown class": ("4 0.5 0.5 0.1 0.1 0.5", "class id 4 is none of the truth: 0"),
    "polygon": ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.5", "8 columns: a polygon or keypoints"),
}


@pytest.mark.parametrize("line,says", YOLO.values(), ids=YOLO)
def test_wrong_yolo_rows_are_refused(tmp_path, line, says):
    folders = [tmp_path / "labels", tmp_path / "a"]
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "x.jpg")
    for folder, row in zip(folders, ("0 0.5 0.5 0.1 0.1", line), strict=True):
        folder.mkdir()
        (folder / "x.txt").write_text(f"{row}\n")
    with pytest.raises(UserError, match=re.escape(says)) as raised:
        ask(folders[0], folders[1:], Options())
    assert f"{folders[1]}: x.txt" in str(raised.value)
    (tmp_path / "images" / "x.jpg").unlink()
    with pytest.raises(UserError, match="--images"):
        ask(folders[0], folders[1:], Options())


def retrace(*words, cwd):
    code = (
        "import sys\nfrom retrace.cli.app import app\n"
        "try: app()\n"
        "finally: print([name for name in ('torch', 'torchvision', 'ultralytics') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, "-c", code, "score", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_command_works_anywhere_without_torch_and_writes_every_format(tmp_path):
    example(tmp_path)
    files = [word for ending in ("md", "html", "csv", "tex") for word in ("-o", f"out/scores.{ending}")]
    done = retrace("truth.json", "a.json", "b.json", "--resamples", "200", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    texts = {path.suffix: path.read_text() for path in sorted((tmp_path / "out").iterdir())}
    assert sorted(texts) == [".csv", ".html", ".md", ".tex"]
    rows = list(csv.DictReader(io.StringIO(texts[".csv"])))
    question = ask(tmp_path / "truth.json", [tmp_path / "a.json", tmp_path / "b.json"], Options())
    result = measure(question, Settings(Units.each(24), resamples=200))
    assert len(rows) == sum(len(one.scores) for one in result.scored)
    for row in rows:
        scored = next(one for one in result.scored if one.name == row["predictions"])
        name = f"{row['metric']}/{row['class']}" if row["class"] else row["metric"]
        value = scored.scores[name].value
        assert row["value"] == ("" if value is None else repr(value))
        assert row["compared_with"] == ("" if scored.differences is None else "a")
    for text in (done.stdout, texts[".md"], texts[".html"], texts[".tex"]):
        assert "mAP@0.75" in text
        assert f"{result.scored[1].scores['AP'].value:.3f}" in text
    assert texts[".tex"].count("\\begin{tabular}") == texts[".tex"].count("\\end{tabular}") == 4
    assert "<script src" not in texts[".html"]


@pytest.mark.parametrize(
    "words",
    [
        ("truth.json", "truth.json"),
        ("truth.json", "a.json", "--metric", "mIoU"),
        ("truth.json", "a.json", "a.json"),
        ("no.json", "a.json"),
        ("truth.json", "no.json"),
        ("truth.json", "a.json", "-o", "x.pdf"),
        ("truth.json", "a.json", "--unit", "group"),
    ],
    ids=" ".join,
)
def test_a_wrong_input_is_one_message_and_nothing_is_written(tmp_path, monkeypatch, words):
    example(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["score", *words, "-o", "x.md"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    assert not (tmp_path / "x.md").exists()

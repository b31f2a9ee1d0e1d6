"""Where our numbers are those of other libraries, and where they are not: the table of docs/metrics.md.

Every test computes both sides, holds them equal where the definitions agree, and holds the difference where
they do not.
"""

import contextlib
import io
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex, MulticlassPrecision
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.segmentation import DiceScore, MeanIoU
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ConfusionMatrix, ap_per_class, box_iou

from benchmarks.tables import filled
from retrace.config.metrics import METRICS
from retrace.evaluation.boxes import confusion
from retrace.evaluation.detection import BoxScores, best_confidence
from retrace.evaluation.scores.matching import THRESHOLDS, Found, Truth, match, rounded
from retrace.evaluation.scores.segmentation import confusion_matrix, scores
from tests.support.projects import ROOT

# ---------------------------------------------------------------- segmentation


def masks(absent=(), seed=1):
    """Two images [2, 30, 40] of four classes, the second much harder; classes in `absent` are only predicted."""
    random = np.random.default_rng(seed)
    truth = random.choice([label for label in range(4) if label not in absent], (2, 30, 40))
    wrong = random.random(truth.shape) < np.array([0.1, 0.6])[:, None, None]
    return truth, np.where(wrong, random.integers(0, 4, truth.shape), truth)


def ours(truth, predicted):
    return scores(confusion_matrix(truth, predicted, 4))


def tensors(predicted, truth):
    return torch.from_numpy(predicted), torch.from_numpy(truth)


def test_class_absent_from_the_truth_scikit_learn():
    truth, predicted = masks()
    mine = ours(truth, predicted)
    assert mine["mIoU"] == pytest.approx(sk.jaccard_score(truth.ravel(), predicted.ravel(), average="macro"))
    truth, predicted = masks(absent=[2])
    mine, theirs = ours(truth, predicted), sk.jaccard_score(truth.ravel(), predicted.ravel(), average=None)
    assert np.isnan(mine["IoU"][2]) and theirs[2] == 0
    np.testing.assert_allclose(np.delete(mine["IoU"], 2), np.delete(theirs, 2))
    assert theirs.mean() == pytest.approx(mine["mIoU"] * 3 / 4)  # the absent class is a 0 in its mean


def test_class_absent_from_the_truth_torchmetrics():
    truth, predicted = masks()
    macro, each = (MulticlassJaccardIndex(4, average=average) for average in ("macro", None))
    assert ours(truth, predicted)["mIoU"] == pytest.approx(float(macro(*tensors(predicted, truth))), rel=1e-6)
    truth, predicted = masks(absent=[2])
    mine = ours(truth, predicted)
    assert np.isnan(mine["IoU"][2]) and float(each(*tensors(predicted, truth))[2]) == 0
    assert float(macro(*tensors(predicted, truth))) == pytest.approx(mine["mIoU"] * 3 / 4, rel=1e-6)
    nowhere = np.where(predicted == 2, 0, predicted)  # neither true nor predicted: left out of its mean, too
    assert float(macro(*tensors(nowhere, truth))) == pytest.approx(ours(truth, nowhere)["mIoU"], rel=1e-6)
    assert float(each(*tensors(nowhere, truth))[2]) == 0


def test_precision_of_a_class_that_is_never_predicted():
    truth, predicted = masks()
    predicted = np.where(predicted == 3, 0, predicted)
    mine = ours(truth, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.precision_score(truth.ravel(), predicted.ravel(), average=None)
    np.testing.assert_allclose(mine["precision"][:3], theirs[:3])
    assert np.isnan(mine["precision"][3]) and theirs[3] == 0
    assert float(MulticlassPrecision(4, average=None)(*tensors(predicted, truth))[3]) == 0
    assert mine["recall"][3] == mine["F1"][3] == mine["IoU"][3] == 0  # it is in the truth, so these are defined


def test_pixels_that_are_not_scored():
    truth, predicted = masks()
    truth[:, :10] = 255
    mine, scored = ours(truth, predicted), truth != 255
    assert mine["pixel_accuracy"] == pytest.approx(sk.accuracy_score(truth[scored], predicted[scored]))
    with_them = sk.accuracy_score(truth.ravel(), predicted.ravel())  # scikit-learn has no such value
    assert with_them == pytest.approx(mine["pixel_accuracy"] * 2 / 3)
    theirs = MulticlassJaccardIndex(4, ignore_index=255)(*tensors(predicted, truth))
    assert float(theirs) == pytest.approx(mine["mIoU"], rel=1e-6)


def test_accuracy_and_balanced_accuracy():
    truth, predicted = masks(absent=[2])
    mine = ours(truth, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "y_pred contains classes not in y_true"
        assert mine["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth.ravel(), predicted.ravel()))
    micro, macro = (MulticlassAccuracy(4, average=average) for average in ("micro", "macro"))
    assert mine["pixel_accuracy"] == pytest.approx(float(micro(*tensors(predicted, truth))), rel=1e-6)
    # torchmetrics' default is the mean of recalls, with a 0 for the class that is only predicted
    assert MulticlassAccuracy(4).average == "macro"
    assert float(macro(*tensors(predicted, truth))) == pytest.approx(mine["balanced_accuracy"] * 3 / 4, rel=1e-6)


def test_one_matrix_of_all_images_and_not_a_mean_over_images():
    truth, predicted = masks()
    mine, single = ours(truth, predicted), [ours(*pair) for pair in zip(truth, predicted, strict=True)]
    theirs = float(MeanIoU(4, input_format="index")(*tensors(predicted, truth)))
    assert theirs == pytest.approx(np.mean([row["mIoU"] for row in single]), rel=1e-6)
    assert abs(theirs - mine["mIoU"]) > 0.02
    by_image = np.mean([row["F1"] for row in single], axis=0)
    for level, expected in {"global": mine["F1"], "samplewise": by_image}.items():
        dice = DiceScore(4, average=None, aggregation_level=level, input_format="index")
        np.testing.assert_allclose(dice(*tensors(predicted, truth)), expected, rtol=1e-6)
    assert DiceScore(4).aggregation_level == "samplewise"


# ---------------------------------------------------------------- detection

CLASSES = ["a", "b", "c"]


def truth(*boxes, labels=None, crowd=None):
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(boxes)
    return Truth(boxes, np.array(labels or [0] * count, np.int64), np.array(crowd or [False] * count, bool))


def found(*boxes, scores, labels=None):
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Found(boxes, np.array(labels or [0] * len(boxes), np.int64), np.array(scores, dtype=np.float64))


def box(place, size=20.0):
    """A box of its own: boxes of other places do not overlap it."""
    return [100.0 * place, 0.0, size, size]


def scored(truths, founds, confidence=0.25):
    matches = match(truths, founds, len(CLASSES), 0.5)
    statistic = BoxScores(matches, CLASSES, confidence, best_confidence(matches, CLASSES))
    return {name: value[0] for name, value in statistic(np.ones((1, len(truths)))).items()}


def coco(truths, founds, areas=None):
    """pycocotools after `accumulate` and `summarize`. areas: of the objects in turn, if not those of the boxes."""
    data = {"images": [], "annotations": [], "categories": [{"id": 1 + k} for k in range(len(CLASSES))]}
    results = []
    for image, (true, guess) in enumerate(zip(truths, founds, strict=True), start=1):
        data["images"].append({"id": image})
        for place, label, crowd in zip(true.boxes.tolist(), true.labels.tolist(), true.crowd.tolist(), strict=True):
            number = len(data["annotations"])
            row = {"id": number + 1, "image_id": image, "category_id": label + 1, "bbox": place}
            area = areas[number] if areas else place[2] * place[3]
            data["annotations"].append(row | {"area": area, "iscrowd": int(crowd)})
        for place, label, score in zip(guess.boxes.tolist(), guess.labels.tolist(), guess.scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": label + 1, "bbox": place, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = data
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


class Matcher(BaseValidator):
    """Ultralytics' matching without the rest of its validator."""

    def __init__(self):
        self.iouv = torch.linspace(0.5, 0.95, 10)


def corners(boxes):
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))


def ultralytics_hits(true, guess):
    """bool [K, 10] by falling confidence."""
    order = np.argsort(-guess.scores, kind="stable")
    iou = box_iou(corners(true.boxes), corners(guess.boxes[order]))
    return (
        Matcher().match_predictions(torch.from_numpy(guess.labels[order]), torch.from_numpy(true.labels), iou).numpy()
    )


def ultralytics(truths, founds):
    """`{"P", "R", "F1", "AP50", "AP"}` per class in the truth, by Ultralytics' own matching and curves."""
    hits = np.concatenate([ultralytics_hits(true, guess) for true, guess in zip(truths, founds, strict=True)])
    orders = [np.argsort(-guess.scores, kind="stable") for guess in founds]
    score = np.concatenate([guess.scores[order] for guess, order in zip(founds, orders, strict=True)])
    label = np.concatenate([guess.labels[order] for guess, order in zip(founds, orders, strict=True)])
    target = np.concatenate([true.labels for true in truths])
    _, _, precision, recall, f1, ap, *_ = ap_per_class(hits, score, label, target)
    return {"P": precision, "R": recall, "F1": f1, "AP50": ap[:, 0], "AP": ap.mean(1)}


def random_set(seed, images=20, crowds=0.0):
    """Objects of three classes, detections near them, doubled, misplaced and mislabeled, with distinct scores."""
    random = np.random.default_rng(seed)
    truths, founds = [], []
    for _ in range(images):
        count = random.integers(1, 6)
        size = np.exp(random.uniform(np.log(10), np.log(150), (count, 2)))
        boxes = np.concatenate([random.uniform(0, 400, (count, 2)), size], axis=1).round(2)
        labels = random.integers(0, 3, count)
        truths.append(Truth(boxes, labels, random.random(count) < crowds))
        near = boxes + random.normal(0, 0.07, boxes.shape) * size[:, [0, 1, 0, 1]]
        double = boxes + random.normal(0, 0.1, boxes.shape) * size[:, [0, 1, 0, 1]]
        far = np.concatenate([random.uniform(0, 400, (4, 2)), random.uniform(10, 90, (4, 2))], axis=1)
        guessed = np.concatenate([labels, labels, random.integers(0, 3, 4)])
        guess = np.concatenate([near, double, far]).round(2)
        guess[:, 2:] = np.maximum(guess[:, 2:], 1)
        score = np.concatenate([random.beta(4, 2, count), random.beta(2, 3, count), random.beta(1, 4, 4)]).round(6)
        founds.append(Found(guess, guessed, score))
    return truths, founds


def test_pycocotools_says_minus_1_where_we_say_null():
    truths, founds = [truth(box(0))], [found(box(0), scores=[0.9])]
    run, mine = coco(truths, founds), scored(truths, founds)
    assert run.stats[0] == pytest.approx(mine["AP"]) == 1
    assert run.stats[3] == pytest.approx(mine["AP_small"]) == 1
    assert run.stats[5] == -1 and np.isnan(mine["AP_large"])  # no large object
    assert run.eval["precision"][0, :, 1, 0, -1].mean() == -1 and np.isnan(mine["AP50/b"])


def test_size_of_an_object_is_that_of_its_box():
    truths, founds = [truth(box(0, 40))], [found(box(0, 40), scores=[0.9])]
    run, mine = coco(truths, founds), scored(truths, founds)
    assert run.stats[4] == pytest.approx(mine["AP_medium"]) == 1
    assert run.stats[3] == -1 and np.isnan(mine["AP_small"])
    by_mask = coco(truths, founds, areas=[800.0])  # the object's mask fills half of its box
    assert by_mask.stats[3] == pytest.approx(1) and by_mask.stats[4] == -1


def test_what_is_scored_is_what_the_file_holds():
    boxes = np.array([[0, 0, 20, 20.0], [500, 0, 520, 20]])
    prediction = SimpleNamespace(boxes=boxes, labels=np.zeros(2, int), scores=np.array([0.5, 0.50000004]))
    exact = Found(np.array([[0, 0, 20, 20.0], [500, 0, 20, 20]]), prediction.labels, prediction.scores)
    truths, kept = [truth(box(0))], [rounded(prediction)]
    assert coco(truths, [exact]).stats[1] == pytest.approx(0.5)  # the false alarm is ahead by 0.00000004
    assert scored(truths, kept)["AP50"] == pytest.approx(coco(truths, kept).stats[1]) == 1


def test_equal_confidences_go_by_the_order_of_the_images():
    right = truth(box(0)), found(box(0), scores=[0.5])
    wrong = truth(box(0)), found(box(3), scores=[0.5])
    for pair, expected in (([right, wrong], 51 / 101), ([wrong, right], 51 / 101 / 2)):
        truths, founds = zip(*pair, strict=True)
        assert scored(truths, founds)["AP50"] == pytest.approx(expected)
        assert coco(truths, founds).stats[1] == pytest.approx(expected)


def test_at_most_100_detections_of_an_image_and_class():
    places = [box(place) for place in range(120)]
    truths, founds = [truth(*places)], [found(*places, scores=np.linspace(0.9, 0.5, 120))]
    mine, run = scored(truths, founds), coco(truths, founds)
    assert mine["AR"] == pytest.approx(run.stats[8]) == pytest.approx(100 / 120)
    assert mine["recall"] == pytest.approx(100 / 120)
    assert mine["AP50"] == pytest.approx(run.stats[1]) == pytest.approx(84 / 101)
    theirs = ultralytics(truths, founds)  # has no limit of an image and class
    assert theirs["R"][0] == pytest.approx(1) and theirs["AP50"][0] == pytest.approx(0.995)


def test_crowd_regions():
    truths = [truth(box(0), [300, 0, 100, 100], crowd=[False, True])]
    founds = [found([310, 10, 20, 20], box(0), scores=[0.9, 0.8])]  # the first lies in the crowd
    mine = scored(truths, founds)
    assert mine["AP50"] == pytest.approx(coco(truths, founds).stats[1]) == 1 and mine["precision"] == 1
    without = [truth(box(0))]  # Ultralytics' data sets have no crowds; a converter leaves them out
    assert ultralytics(without, founds)["P"][0] == pytest.approx(0.5)
    assert scored(without, founds)["precision"] == pytest.approx(0.5)


def test_area_under_the_curve_in_ultralytics():
    perfect = [truth(box(0), box(1))], [found(box(0), box(1), scores=[0.9, 0.8])]
    assert scored(*perfect)["AP50"] == 1 and ultralytics(*perfect)["AP50"][0] == pytest.approx(0.995)
    truths = [truth(box(0), box(1))]
    founds = [found(box(0), box(7), box(1), scores=[0.9, 0.8, 0.7])]  # hit, false alarm, hit
    assert scored(truths, founds)["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)  # 0.835
    assert coco(truths, founds).stats[1] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert ultralytics(truths, founds)["AP50"][0] == pytest.approx(0.8283, abs=1e-4)
    for seed in range(10):
        sets = random_set(seed)
        mine, theirs = scored(*sets), ultralytics(*sets)
        for name in ("AP50", "AP"):
            assert 0 < mine[name] - theirs[name].mean() <= 0.0051


def test_precision_and_recall_at_the_best_f1_in_ultralytics():
    perfect = [truth(box(0), box(1))], [found(box(0), box(1), scores=[0.9, 0.8])]
    mine, theirs = scored(*perfect), ultralytics(*perfect)
    assert mine["best_F1"] == 1 and theirs["F1"][0] == pytest.approx(1)
    for seed in range(10):  # it smooths the curve before it looks for the best, and joins its points by lines
        sets = random_set(seed)
        assert ultralytics(*sets)["F1"].mean() < scored(*sets)["best_F1"] + 1e-9
    mine, theirs = scored(*random_set(0)), ultralytics(*random_set(0))
    assert mine["best_F1_precision"] == pytest.approx(0.846, abs=1e-3)
    assert theirs["P"].mean() == pytest.approx(0.800, abs=1e-3)
    assert abs(mine["precision"] - mine["best_F1_precision"]) > 0.2  # at a confidence of 0.25: another number


def test_precision_of_a_class_without_detections_in_ultralytics():
    truths, founds = [truth(box(0), box(1), labels=[0, 1])], [found(box(0), scores=[0.9])]
    mine, theirs = scored(truths, founds), ultralytics(truths, founds)
    assert mine["recall"] == pytest.approx(theirs["R"].mean()) == 0.5 and mine["F1"] == 0.5
    assert np.isnan(mine["precision/b"]) and mine["precision"] == 1
    assert theirs["P"][1] == 0 and theirs["P"].mean() == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_matching_in_ultralytics(seed):
    truths, founds = random_set(seed)
    matches = match(truths, founds, 3, 0.5)
    for image, (true, guess) in enumerate(zip(truths, founds, strict=True)):
        rows = matches.rows[matches.rows["image"] == image]
        rows = rows[np.argsort(-rows["score"], kind="stable")]
        mine = (rows["hit"][:, :1] >> np.arange(len(THRESHOLDS)) & 1).astype(bool)
        np.testing.assert_array_equal(mine, ultralytics_hits(true, guess))


def test_confusion_matrix_in_ultralytics():
    guess = found(box(0), [4, 0, 20, 20], scores=[0.5, 0.9], labels=[0, 1])
    mine, theirs = both_confusions(truth(box(0)), guess)
    assert mine[0, 0] == 1 and mine[3, 1] == 1  # pairs by overlap: the exact box
    assert theirs[0, 1] == 1 and theirs[3, 0] == 1  # pairs by confidence: the surer box
    loose = found([0, 0, 20, 9.4], scores=[0.9])  # IoU 0.47: its limit is 0.45, ours evaluate.iou_threshold
    mine, theirs = both_confusions(truth(box(0)), loose)
    assert mine[0, 3] == 1 and mine[3, 0] == 1 and theirs[0, 0] == 1
    apart = found(box(0), box(4), scores=[0.9, 0.8], labels=[0, 2])
    np.testing.assert_array_equal(*both_confusions(truth(box(0), box(1), labels=[0, 1]), apart))


def both_confusions(true, guess):
    """Ours and Ultralytics', [truth][predicted]."""
    table = ConfusionMatrix({0: "a", 1: "b", 2: "c"})
    detections = {"bboxes": corners(guess.boxes), "conf": guess.scores, "cls": guess.labels}
    detections = {key: torch.as_tensor(value) for key, value in detections.items()}
    table.process_batch(detections, {"bboxes": corners(true.boxes), "cls": torch.from_numpy(true.labels)})
    return confusion([true], [guess], 3, 0.5), table.matrix.T


def torchmetrics(truths, founds, **options):
    metric = MeanAveragePrecision(box_format="xywh", **options)
    for true, guess in zip(truths, founds, strict=True):
        detected = {"boxes": guess.boxes, "scores": guess.scores, "labels": guess.labels}
        target = {"boxes": true.boxes, "labels": true.labels, "iscrowd": true.crowd.astype(int)}
        metric.update(*([{key: torch.from_numpy(value) for key, value in row.items()}] for row in (detected, target)))
    return {name: float(value) for name, value in metric.compute().items() if value.ndim == 0}


NAMES = {"map": "AP", "map_50": "AP50", "mar_100": "AR", "map_small": "AP_small", "map_medium": "AP_medium"}


def test_recall_levels_of_torchmetrics_are_float32():
    ten = [box(place) for place in range(10)]
    six = [truth(*ten)], [found(*ten[:6], scores=np.linspace(0.9, 0.8, 6))]
    assert scored(*six)["AP50"] == pytest.approx(coco(*six).stats[1]) == pytest.approx(61 / 101)
    assert torchmetrics(*six)["map_50"] == pytest.approx(60 / 101)  # 6 / 10 does not reach 0.60000002
    exact = {"rec_thresholds": np.linspace(0, 1, 101).tolist(), "iou_thresholds": THRESHOLDS.tolist()}
    for seed in range(3, 6):
        sets = random_set(seed, crowds=0.2)
        mine, same, theirs = scored(*sets), torchmetrics(*sets, **exact), torchmetrics(*sets)
        for key, name in NAMES.items():
            assert same[key] == pytest.approx(mine[name], abs=1e-6)
            assert theirs[key] == pytest.approx(mine[name], abs=2e-3)


def test_torchmetrics_says_minus_1_where_we_say_null():
    sets = [truth(box(0))], [found(box(0), scores=[0.9])]
    assert torchmetrics(*sets)["map_large"] == -1 and np.isnan(scored(*sets)["AP_large"])
    assert torchmetrics(*sets)["map_small"] == pytest.approx(scored(*sets)["AP_small"]) == 1


# ---------------------------------------------------------------- docs/metrics.md

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_table_of_differences_names_tests_that_exist():
    rows = PAGE.partition("## Differences from other libraries")[2].partition("## References")[0].splitlines()
    rows = [row for row in rows if row.startswith("| ") and not row.startswith(("| ---", "| library"))]
    named = set()
    for row in rows:
        last = row.rstrip(" |").rpartition(" | ")[2]
        names, _, file = last.partition(" in ")
        source = (ROOT / "tests" / "unit" / (file.strip("`") or "test_metric_definitions.py")).read_text("utf-8")
        tests = re.findall(r"test_\w+", names)
        assert tests and all(f"def {name}(" in source for name in tests), row
        named.update(tests)
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text("utf-8"), re.M))
    unnamed = {name for name in here - named if "docs_metrics" not in name and "table_of_differences" not in name}
    assert unnamed == set()


@pytest.mark.parametrize("task", METRICS)
def test_docs_metrics_define_every_metric(task):
    for name in (m.name for m in METRICS[task] if not m.missing and m.name != "best_value"):
        assert f"`{name}`" in PAGE, name


def test_docs_metrics_tables_are_those_of_the_results():
    assert filled(PAGE) == PAGE

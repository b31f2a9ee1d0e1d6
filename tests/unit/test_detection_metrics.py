"""Detection scores against pycocotools, hand-made cases, and resampling done the slow way."""

import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from retrace.config.schema import Evaluate
from retrace.evaluation.boxes import confusion, quality
from retrace.evaluation.detection import BoxScores, best_confidence, curves, summarize
from retrace.evaluation.scores.coco import coco_scores
from retrace.evaluation.scores.matching import Found, Truth, load_matches, match, pair
from retrace.files import dump_json
from retrace.statistics.bootstrap import Units, bootstrap, intervals, resample_weights
from retrace.statistics.estimate import Difference
from retrace.statistics.verdicts import paired_difference

CLASSES = ["a", "b", "never", "c"]


def random_set(seed, images=30, classes=4, absent=(2,), objects=6, extra=8, side=300):
    """Truth with crowds and every size; detections near, misplaced, mislabeled, tied, and of the absent class."""
    random = np.random.default_rng(seed)
    present = [label for label in range(classes) if label not in absent]
    truths, founds = [], []
    for _ in range(images):
        count = random.integers(0, objects + 1)
        size = np.exp(random.uniform(np.log(8), np.log(200), (count, 2)))
        boxes = np.concatenate([random.uniform(0, side, (count, 2)), size], axis=1).round(2)
        labels = random.choice(present, count)
        crowd = random.random(count) < 0.15
        truths.append(Truth(boxes, labels, crowd))
        near = boxes + random.normal(0, 0.08, boxes.shape) * size[:, [0, 1, 0, 1]]
        far = np.concatenate([random.uniform(0, side, (extra, 2)), random.uniform(5, 150, (extra, 2))], axis=1)
        found = np.concatenate([near, near, far]).round(2)
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        guessed = np.concatenate([labels, labels, random.integers(0, classes, extra)])
        guessed = np.where(random.random(len(guessed)) < 0.1, random.integers(0, classes, len(guessed)), guessed)
        keep = random.random(len(found)) < 0.8
        founds.append(Found(found[keep], guessed[keep], random.random(keep.sum()).round(2)))
    return truths, founds


def official(truths, founds, classes=4):
    """pycocotools' numbers, -1 as NaN."""
    truth, results = {"images": [], "annotations": [], "categories": [{"id": k + 1} for k in range(classes)]}, []
    for image, (true, found) in enumerate(zip(truths, founds, strict=True), start=1):
        truth["images"].append({"id": image})
        for box, label, crowd in zip(true.boxes.tolist(), true.labels, true.crowd, strict=True):
            row = {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": int(label) + 1, "bbox": box}
            truth["annotations"].append(row | {"area": box[2] * box[3], "iscrowd": int(crowd)})
        for box, label, score in zip(found.boxes.tolist(), found.labels, found.scores, strict=True):
            results.append({"image_id": image, "category_id": int(label) + 1, "bbox": box, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = {"AP": 0, "AP50": 1, "AP_small": 3, "AP_medium": 4, "AP_large": 5, "AR": 8}
    found = {name: run.stats[index] for name, index in names.items()}
    for label in range(classes):
        precision = run.eval["precision"][:, :, label, 0, -1]
        found[f"AP/{CLASSES[label]}"] = precision.mean()
        found[f"AP50/{CLASSES[label]}"] = precision[0].mean()
    return {name: np.nan if value < 0 else value for name, value in found.items()}


@pytest.mark.parametrize("seed", range(8))
def test_two_independent_evaluators_agree_to_1e_9(seed):
    truths, founds = random_set(seed)
    expected = official(truths, founds)
    matches = match(truths, founds, 4, 0.5)
    mine = BoxScores(matches, CLASSES, 0.25, 0.5)(np.ones((1, len(truths))))
    theirs = coco_scores(truths, founds, CLASSES)
    for name, value in expected.items():
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(mine[name][0], value, rtol=0, atol=1e-9, err_msg=name)
    assert np.isnan(expected["AP/never"]) and 0 < expected["AP"] < 1


def test_reweighted_matches_equal_scoring_the_resampled_images():
    truths, founds = random_set(20, images=12)
    distinct = np.random.default_rng(1).permutation(5000) / 5000  # ties between images would have an order
    offset = np.cumsum([0, *(len(found.scores) for found in founds)])
    founds = [Found(f.boxes, f.labels, distinct[o : o + len(f.labels)]) for f, o in zip(founds, offset, strict=False)]
    matches = match(truths, founds, 4, 0.5)
    drawn = bootstrap(BoxScores(matches, CLASSES, 0.25, 0.5), Units.each(12), 100, seed=4)
    weights = np.concatenate(list(resample_weights(Units.each(12), 100, seed=4))).astype(int)
    for row in range(12):
        chosen = np.repeat(np.arange(12), weights[row])
        expected = official([truths[i] for i in chosen], [founds[i] for i in chosen])
        missing = (matches.objects[chosen].sum(0) == 0) & (matches.objects.sum(0) > 0)  # [C, A]
        for name, value in expected.items():
            area = ("AP_small", "AP_medium", "AP_large").index(name) + 1 if name.startswith("AP_") else 0
            wanted = np.nan if missing[:, area].any() and "/" not in name else value  # the mean of other classes
            np.testing.assert_allclose(drawn[name][row], wanted, rtol=0, atol=1e-9, err_msg=name)


def test_precision_recall_f1_at_a_confidence_by_hand():
    one = np.array([[0.0, 0, 10, 10]])
    truth = Truth(np.concatenate([one, one + [50, 0, 0, 0]]), np.array([0, 0]), np.array([False, False]))
    boxes = np.concatenate([one, one + [50, 0, 0, 0], one + [100, 0, 0, 0], one + [200, 0, 0, 0]])
    found = Found(boxes, np.array([0, 0, 0, 1]), np.array([0.9, 0.2, 0.6, 0.9]))
    matches = match([truth], [found], 2, 0.5)
    scores = BoxScores(matches, ["x", "y"], 0.5, best_confidence(matches, ["x", "y"]))(np.ones((1, 1)))
    assert scores["precision"][0] == scores["recall"][0] == scores["F1"][0] == 0.5  # 1 of 2 found, 1 of 2 right
    assert np.isnan(scores["precision/y"][0])  # y is nowhere in the truth
    # at 0.2 or lower: 2 of 2 found, 2 of 3 right
    assert best_confidence(matches, ["x", "y"]) == 0.0
    assert scores["best_F1"][0] == pytest.approx(0.8) and scores["best_F1_recall"][0] == 1
    found = curves(matches, ["x", "y"])
    assert found["F1"]["x"][[0, 200, 201, 600, 601, 901]] == pytest.approx([0.8, 0.8, 0.5, 0.5, 2 / 3, 0])
    assert "y" not in found["F1"]


def test_reported_iou_threshold_is_free():
    truth = Truth(np.array([[0.0, 0, 10, 10]]), np.array([0]), np.array([False]))
    found = Found(np.array([[0.0, 0, 10, 4.2]]), np.array([0]), np.array([0.9]))  # IoU 0.42
    for threshold, expected in ((0.4, 1), (0.5, 0)):
        scores = BoxScores(match([truth], [found], 1, threshold), ["x"], 0.25, 0.5)(np.ones((1, 1)))
        assert scores["F1"][0] == expected and scores["AP50"][0] == 0


def test_crowd_is_neither_hit_nor_miss():
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 20, 20]])
    truth = Truth(boxes, np.array([0, 0]), np.array([True, False]))
    found = Found(np.array([[10.0, 10, 20, 20], [40, 40, 20, 20], [200, 0, 20, 20]]), np.zeros(3, int), np.full(3, 0.9))
    matches = match([truth], [found], 1, 0.5)
    scores = BoxScores(matches, ["x"], 0.25, 0.5)(np.ones((1, 1)))
    assert scores["precision"][0] == scores["recall"][0] == scores["AP50"][0] == 1
    assert matches.objects[0, 0].tolist() == [1, 1, 0, 0]
    assert confusion([truth], [found], 1, 0.5).tolist() == [[1, 0], [0, 0]]


def test_confusion_matrix_with_background():
    boxes = np.array([[0.0, 0, 10, 10], [50, 0, 10, 10], [100, 0, 10, 10]])
    truth = Truth(boxes, np.array([0, 1, 1]), np.zeros(3, bool))
    guesses = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 10, 10], [300, 0, 10, 10]])
    found = Found(guesses, np.array([0, 0, 0, 1]), np.array([0.5, 0.9, 0.9, 0.9]))
    # a right, its double and a detection of nothing; b taken for a; b missed
    assert confusion([truth], [found], 2, 0.5).tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
    pairs, left = pair(truth, found, 0.5)
    assert [(t, d) for t, d, _ in pairs] == [(0, 0), (1, 2)] and left == [1, 3]
    score, mean = quality(truth, found, 0.5)
    assert mean == 1 and score == pytest.approx(2 / 7)  # one hit; 3 objects, 4 detections
    assert np.isnan(quality(Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool)), Found(*nothing()), 0.5)[0])


def nothing():
    return np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)


def test_a_perfect_detector_scores_one_and_a_blind_one_zero():
    truths, _ = random_set(3, images=10)
    perfect = [Found(t.boxes, t.labels, np.linspace(0.9, 0.8, len(t.labels))) for t in truths]
    options = Evaluate(bootstrap=100, min_reliable=5)
    for founds, expected in ((perfect, 1.0), ([Found(*nothing())] * 10, 0.0)):
        found = summarize(
            truths, founds, match(truths, founds, 4, 0.5), Units.each(len(truths)), CLASSES, options, seed=1
        ).content()
        assert [found[name]["value"] for name in ("AP50", "AP", "AR", "recall", "F1")] == [expected] * 5
        assert found["per_class"]["never"]["AP50"]["value"] is None
        assert not found["per_class"]["never"]["reliable"] and found["per_class"]["never"]["instances"] == 0
        dump_json(found)
    assert found["precision"]["value"] is None  # nothing was predicted


def test_no_images_and_no_objects_are_null():
    options = Evaluate(bootstrap=100)
    empty = Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    for truths, founds in (([], []), ([empty] * 3, random_set(1, images=3)[1])):
        found = summarize(
            truths, founds, match(truths, founds, 4, 0.5), Units.each(len(truths)), CLASSES, options, seed=1
        ).content()
        assert found["AP50"]["value"] is None and found["F1"]["value"] is None
        dump_json(found)


def test_kept_matches_give_the_same_after_reading_back_and_pair_two_phases(tmp_path):
    truths, founds = random_set(5)
    worse = [Found(f.boxes + [9, 9, 0, 0], f.labels, f.scores) for f in founds]
    statistics = []
    for name, detections in (("good", founds), ("shifted", worse)):
        matches = match(truths, detections, 4, 0.5)
        (tmp_path / name).mkdir()
        matches.save(tmp_path / name, "val")
        again = load_matches(tmp_path / name, "val")
        assert (again.rows == matches.rows).all() and (again.objects == matches.objects).all()
        statistics.append(BoxScores(again, CLASSES, 0.25, 0.5))
    found = paired_difference(*statistics, Units.each(30), 200, seed=2)
    assert found["AP"].p < 0.05 and found["AP"].value > found["AP"].low > 0
    assert found["AP/never"] == Difference(None, n=30, usable=0.0)
    assert paired_difference(*statistics[::-1], Units.each(30), 200, seed=2)["AP"].high < 0


def test_no_draw_of_a_mean_is_over_other_classes_than_the_value():
    """Two classes are found without fault, the third, in 3 of 36 images, never: no resample may leave it out."""
    near, far = [10.0, 10.0, 50.0, 50.0], [100.0, 100.0, 150.0, 150.0]
    truths, founds = [], []
    for image in range(36):
        labels = np.array([0, 1] + [3] * (image < 3))
        boxes = np.array([near, far, [200.0, 10.0, 20.0, 20.0]])[: len(labels)]
        truths.append(Truth(boxes, labels, np.zeros(len(labels), bool)))
        wrong = boxes + [0, 200, 0, 0]  # of the third class
        founds.append(Found(np.concatenate([boxes[:2], wrong[2:]]), labels, np.full(len(labels), 0.9)))
    matches = match(truths, founds, 4, 0.5)
    found = summarize(truths, founds, matches, Units.each(36), CLASSES, Evaluate(bootstrap=1000), seed=1).content()
    for name in ("AP50", "AP", "AR", "precision", "recall", "F1", "best_F1", "best_F1_precision"):
        assert [found[name][end] for end in ("value", "low", "high")] == pytest.approx([2 / 3] * 3), name
    assert [found["AP_small"][end] for end in ("value", "low", "high")] == [0.0, 0.0, 0.0]
    blind = match(truths, [Found(*nothing())] * 36, 4, 0.5)
    statistics = [BoxScores(kept, CLASSES, 0.25, 0.25) for kept in (matches, blind)]
    pair = paired_difference(*statistics, Units.each(36), 1000, seed=1)["AP50"]
    assert [pair.value, pair.low, pair.high] == pytest.approx([2 / 3] * 3)


def test_the_order_of_images_does_not_matter():
    truths, founds = random_set(6)
    founds = [
        Found(f.boxes, f.labels, f.scores + np.arange(len(f.scores)) * 1e-5 + i * 1e-7) for i, f in enumerate(founds)
    ]
    forward, backward = (
        BoxScores(match(t, f, 4, 0.5), CLASSES, 0.25, 0.5)(np.ones((1, 30)))
        for t, f in ((truths, founds), (truths[::-1], founds[::-1]))
    )
    for name in forward:
        np.testing.assert_allclose(forward[name], backward[name], atol=1e-12)


def test_a_thousand_resamples_of_a_large_set_take_seconds():
    """1,640 images and 52,000 detections, 1,000 resamples in 60 s of one core: here a tenth, and the matching."""
    truths, founds = random_set(9, images=1640, classes=1, absent=(), objects=6, extra=36)
    assert sum(len(found.scores) for found in founds) > 52_000
    start = time.process_time()
    statistic = BoxScores(match(truths, founds, 1, 0.5), ["plate"], 0.25, 0.5)
    matched = time.process_time() - start
    start = time.process_time()
    found = intervals(statistic, Units.each(1640), 100, seed=1)["AP"]
    assert found.low < found.value < found.high
    assert matched + 10 * (time.process_time() - start) < 60

"""The best constant answer against a brute-force search, and what a model that learned nothing is told."""

import numpy as np
import pytest

from retrace.data.manifest import Box, Record
from retrace.evaluation.floor import against_floor, constant_boxes, constant_masks
from retrace.evaluation.scores.segmentation import confusion_matrix, scores
from retrace.statistics.bootstrap import Units, of_totals

CLASSES = ("road", "sky", "sign")


def masks(random, images=12):
    return random.choice(3, p=[0.6, 0.35, 0.05], size=(images, 20, 30)).astype(np.uint8)


def pixels(truths):
    return np.stack([np.bincount(truth.ravel(), minlength=3) for truth in truths])


def test_one_class_everywhere_is_scored_as_a_model_that_answers_it():
    random = np.random.default_rng(1)
    train, scored = masks(random), masks(random)
    floor, answers = constant_masks(pixels(train).sum(0), pixels(scored), CLASSES, focus=[1, 2])
    assert (answers["mIoU"], answers["pixel_accuracy"], answers["focus_mIoU"]) == ("road", "road", "sky")
    found = floor(np.ones((1, len(scored))))
    for name, answer in answers.items():
        guess = np.full_like(scored, CLASSES.index(answer))
        expected = scores(confusion_matrix(scored, guess, 3), focus=[1, 2])
        key, _, of = name.partition("/")
        value = expected[key][CLASSES.index(of)] if of else expected[key]
        assert found[name][0] == pytest.approx(value, rel=1e-12)
    assert found["mIoU"][0] == max(
        scores(confusion_matrix(scored, np.full_like(scored, label), 3))["mIoU"] for label in range(3)
    )


@pytest.mark.parametrize("quality, beaten", [(0.0, False), (0.9, True)])
def test_a_model_that_learned_nothing_does_not_beat_the_floor(quality, beaten):
    random = np.random.default_rng(2)
    scored = masks(random)
    guess = np.where(random.random(scored.shape) < quality, scored, random.integers(0, 3, scored.shape))
    matrices = np.stack([confusion_matrix(t, g, 3) for t, g in zip(scored, guess, strict=True)])
    floor, _ = constant_masks(pixels(scored).sum(0), pixels(scored), CLASSES, focus=[])
    model = of_totals(lambda totals: {"mIoU": scores(totals)["mIoU"]}, matrices)
    found = against_floor(model, floor, Units.each(12), 200, 1, ["mIoU"])
    assert found["mIoU"]["beaten"] is beaten
    few = against_floor(model, floor, Units(np.arange(12) % 3), 200, 1, ["mIoU"])
    assert few["mIoU"]["beaten"] is None and few["mIoU"]["value"] == found["mIoU"]["value"]


def record(name, width, height, *boxes):
    rows = tuple(Box(label, xywh, crowd) for label, xywh, crowd in boxes)
    return Record(name, name, None, "", "", width, height, "", "train", name, {}, rows)


def test_the_mean_training_box_is_relative_to_the_image():
    train = [
        record("a", 100, 100, (0, (10.0, 10.0, 20.0, 20.0), False), (0, (0.0, 0.0, 90.0, 90.0), True)),
        record("b", 200, 100, (0, (60.0, 30.0, 40.0, 20.0), False)),
    ]
    found = constant_boxes(train, [record("c", 1000, 500)], ("plate", "never"))
    # centers (0.2, 0.2) and (0.4, 0.4), sizes (0.2, 0.2) both
    np.testing.assert_allclose(found[0].boxes, [[200.0, 100.0, 200.0, 100.0]])
    assert found[0].labels.tolist() == [0] and found[0].scores.tolist() == [1.0]


def test_no_training_object_no_box():
    found = constant_boxes([record("a", 10, 10)], [record("b", 10, 10)], ("plate",))
    assert found[0].boxes.shape == (0, 4)

"""The best constant answer against a brute-force search, and what a model that learned nothing is told."""

import numpy as np
import pytest

from retrace.documents.manifest import Box, Record
from retrace.evaluation.floor import against_floor, constant_boxes, constant_masks, places, spread
from retrace.evaluation.scores.segmentation import confusion_matrix, scores
from retrace.statistics.bootstrap import Units, of_totals

CLASSES = ("road", "sky", "sign")


def masks(random, images=12):
    return random.choice(3, p=[0.6, 0.35, 0.05], size=(images, 20, 30)).astype(np.uint8)


def floor_of(train, scored, focus=()):
    found = places(train, 3)
    usual = np.stack([confusion_matrix(truth, found.answer(truth.shape), 3) for truth in scored])
    return constant_masks(found, usual, CLASSES, focus)


def test_one_class_everywhere_is_scored_as_a_model_that_answers_it():
    train = np.repeat(np.array([0] * 8 + [1] * 3 + [2], np.uint8), 600).reshape(12, 20, 30)
    scored = train[::-1].copy()
    floor, answers = floor_of(train, scored, focus=[1, 2])
    assert answers["mIoU"] == answers["pixel_accuracy"] == "road everywhere"
    assert answers["focus_mIoU"] == "sky everywhere"
    found = floor(np.ones((1, len(scored))))
    for name, answer in answers.items():
        guess = np.full_like(scored, CLASSES.index(answer.removesuffix(" everywhere")))
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
    floor, answers = floor_of(masks(random), scored)
    model = of_totals(lambda totals: {"mIoU": scores(totals)["mIoU"]}, matrices)
    answers = {"mIoU": answers["mIoU"]}
    found = against_floor(model, floor, answers, Units.each(12), 200, 1)
    assert found["mIoU"].beaten is beaten
    few = against_floor(model, floor, answers, Units(np.arange(12) % 3), 200, 1)
    assert few["mIoU"].beaten is None and few["mIoU"].value == found["mIoU"].value


def test_where_places_tell_the_class_the_usual_picture_is_the_floor():
    """Sky above, road below, of masks of several sizes; the sign is nowhere most frequent."""

    def scene(height, width):
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 1
        return mask

    train, scored = [scene(40, 60), scene(80, 100), scene(11, 17)], [scene(30, 50), scene(64, 64)]
    scored[0][0, 0] = 255
    floor, answers = floor_of(train, scored)
    assert set(answers.values()) >= {"the most frequent class at each place"}
    assert floor(np.ones((1, 2)))["mIoU"][0] == pytest.approx(1.0)


def test_at_most_a_thousand_masks_are_read():
    names = [f"{number:05d}" for number in range(7000)]
    assert len(spread(names)) == 1000 and spread(names[:10]) == names[:10]


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

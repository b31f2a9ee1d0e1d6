"""Segmentation scores against scikit-learn and torchmetrics, with absent classes and ignored pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassJaccardIndex

from retrace.evaluation.scores.segmentation import as_numbers, confusion_matrix, confusion_matrix_torch, scores
from retrace.files import dump_json


def random_masks(seed, classes=6, absent=(2,), ignored=0.2, shape=(40, 50)):
    random = np.random.default_rng(seed)
    present = [c for c in range(classes) if c not in absent]
    truth = random.choice(present, size=shape).astype(np.uint8)
    predicted = np.where(random.random(shape) < 0.6, truth, random.integers(0, classes, shape)).astype(np.uint8)
    truth[random.random(shape) < ignored] = 255
    return truth, predicted


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn_and_torchmetrics(seed):
    truth, predicted = random_masks(seed)
    matrix = confusion_matrix(truth, predicted, 6)
    scored = truth != 255
    true, guess = truth[scored], predicted[scored]
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(true, guess, labels=range(6)))

    found = scores(matrix, focus=[1, 2, 3])
    present = [0, 1, 3, 4, 5]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(true, guess, labels=present)
    iou = sk.jaccard_score(true, guess, labels=present, average=None)
    for name, expected in {"IoU": iou, "precision": precision, "recall": recall, "F1": f1}.items():
        np.testing.assert_allclose(found[name][present], expected, rtol=1e-12)
        assert np.isnan(found[name][2])
    assert found["mIoU"] == pytest.approx(iou.mean(), rel=1e-12)
    assert found["focus_mIoU"] == pytest.approx((iou[1] + iou[2]) / 2, rel=1e-12)  # classes 1 and 3; 2 is absent
    assert found["pixel_accuracy"] == pytest.approx(sk.accuracy_score(true, guess), rel=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(recall.mean(), rel=1e-12)

    jaccard = MulticlassJaccardIndex(6, average=None, ignore_index=255)
    theirs = jaccard(torch.from_numpy(predicted).long()[None], torch.from_numpy(truth).long()[None]).numpy()
    np.testing.assert_allclose(found["IoU"][present], theirs[present], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_torch_and_numpy_count_alike_in_every_integer_type(kind):
    truth, predicted = random_masks(11, classes=20)
    expected = confusion_matrix(truth, predicted, 20)
    np.testing.assert_array_equal(confusion_matrix(truth.astype(kind), predicted.astype(kind), 20), expected)
    found = confusion_matrix_torch(torch.from_numpy(truth.astype(kind)), torch.from_numpy(predicted.astype(kind)), 20)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), expected)
    assert expected.dtype == np.int64 and expected.sum() == (truth != 255).sum()


def test_wrong_input_is_refused():
    good = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(good, good[:2], 3)
    for truth, predicted in ((good + 3, good), (good, good + 3)):
        with pytest.raises(ValueError, match="0 ... 2"):
            confusion_matrix(truth, predicted, 3)


def test_undefined_is_null_never_zero():
    # class 1 is in the truth and never predicted; class 2 is predicted and never in the truth
    found = as_numbers(scores(np.array([[4, 0, 1], [5, 0, 0], [0, 0, 0]])))
    assert found["IoU"] == [0.4, 0.0, None] and found["recall"] == [0.8, 0.0, None] and found["F1"][1:] == [0.0, None]
    assert found["precision"] == [pytest.approx(4 / 9), None, None]
    assert found["mIoU"] == pytest.approx(0.2) and found["focus_mIoU"] is None
    dump_json(found)
    nothing = as_numbers(scores(np.zeros((3, 3), np.int64)))
    assert all(value is None for name in ("mIoU", "pixel_accuracy", "balanced_accuracy") for value in [nothing[name]])


matrices = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).integers(0, 50, (4, 4)))


@given(matrices, st.permutations(range(4)))
@settings(max_examples=50, deadline=None)
def test_order_of_the_classes_does_not_matter(matrix, order):
    found, shuffled = scores(matrix), scores(matrix[np.ix_(order, order)])
    for name in ("IoU", "precision", "recall", "F1"):
        np.testing.assert_array_equal(found[name][order], shuffled[name])
    for name in ("mIoU", "pixel_accuracy", "balanced_accuracy"):
        np.testing.assert_allclose(found[name], shuffled[name], rtol=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 39))
@settings(max_examples=30, deadline=None)
def test_parts_of_an_image_add_up(seed, row):
    truth, predicted = random_masks(seed)
    whole = confusion_matrix(truth, predicted, 6)
    parts = [confusion_matrix(truth[part], predicted[part], 6) for part in (slice(row), slice(row, None))]
    np.testing.assert_array_equal(whole, parts[0] + parts[1])


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_perfect_prediction_scores_one_and_a_batch_scores_as_its_members(seed):
    truth, predicted = random_masks(seed)
    perfect = scores(confusion_matrix(truth, np.where(truth == 255, 0, truth), 6))
    assert perfect["mIoU"] == perfect["pixel_accuracy"] == perfect["balanced_accuracy"] == 1
    assert np.nanmin(perfect["IoU"]) == np.nanmin(perfect["F1"]) == 1
    matrix = confusion_matrix(truth, predicted, 6)
    batch = scores(np.stack([matrix, matrix * 3, matrix.T])[None])
    for name, value in scores(matrix.T).items():
        np.testing.assert_array_equal(batch[name][0, 2], value)

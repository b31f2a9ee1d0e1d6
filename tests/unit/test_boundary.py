"""Boundary F-score against SciPy's exact distance transform and scikit-image-like outlines."""

import numpy as np
import pytest
from scipy import ndimage

from retrace.evaluation.boundary import boundary, boundary_counts, boundary_scores


def outline(mask, label):
    """Another way to the same pixels: the class less its erosion, where the outside counts as the class."""
    other = (mask != label) & (mask != 255)
    cross = ndimage.generate_binary_structure(2, 1)
    return (mask == label) & ndimage.binary_dilation(other, cross)


def blobs(random, shape=(60, 80), classes=3):
    noise = ndimage.gaussian_filter(random.normal(size=shape), 4)
    cuts = np.quantile(noise, np.linspace(0, 1, classes + 1)[1:-1])
    return np.digitize(noise, cuts).astype(np.uint8)


@pytest.mark.parametrize("radius", [1, 1.5, 2, 3, 5.3])
@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_exact_distances(seed, radius):
    random = np.random.default_rng(seed)
    truth = blobs(random)
    predicted = np.roll(truth, (int(random.integers(0, 4)), 2), axis=(0, 1))
    truth[random.random(truth.shape) < 0.02] = 255
    counts = boundary_counts(truth, predicted, 4, radius)
    seen = np.where(truth == 255, 255, predicted).astype(np.uint8)
    for label in range(3):
        true, guess = outline(truth, label), outline(seen, label)
        np.testing.assert_array_equal(boundary(truth, label), true)
        to_true, to_guess = (ndimage.distance_transform_edt(~edge) for edge in (true, guess))
        expected = [
            (guess & (to_true <= radius)).sum(),
            guess.sum(),
            (true & (to_guess <= radius)).sum(),
            true.sum(),
        ]
        assert counts[label].tolist() == expected
    assert counts[3].tolist() == [0, 0, 0, 0]


def test_a_perfect_mask_scores_one_and_a_shifted_line_what_the_tolerance_allows():
    truth = np.zeros((40, 40), np.uint8)
    truth[10, 5:35] = 1
    moved = np.roll(truth, 3, axis=0)
    for predicted, radius, expected in ((truth, 1, 1.0), (moved, 3, 1.0), (moved, 2, 0.0)):
        counts = boundary_counts(truth, predicted, 2, radius)
        assert boundary_scores(counts, counts)["boundary_F1"][1] == expected
    both = np.maximum(truth, np.roll(truth, 20, axis=0))  # the line, and a second one that is not there
    counts = boundary_counts(truth, both, 2, 1)
    assert boundary_scores(counts, counts)["boundary_F1"][1] == pytest.approx(2 / 3)


def test_undefined_and_missing():
    empty, line = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    line[10] = 1
    never = boundary_counts(empty, empty, 3, 2)
    assert np.isnan(boundary_scores(never, never)["boundary_F1"]).all()
    assert np.isnan(boundary_scores(never, never)["mean_boundary_F1"])
    missed = boundary_counts(line, empty, 3, 2)
    found = boundary_scores(missed, missed)
    assert found["boundary_F1"][1] == 0 and np.isnan(found["boundary_F1"][2])
    assert found["mean_boundary_F1"] == 0
    resamples = np.stack([missed, never])
    assert np.isnan(boundary_scores(resamples, missed)["mean_boundary_F1"]).tolist() == [False, True]


def test_the_edge_of_the_image_and_of_what_is_not_scored_is_no_boundary():
    whole = np.full((10, 10), 1, np.uint8)
    assert not boundary(whole, 1).any()
    whole[:, 5:] = 255
    assert not boundary(whole, 1).any()

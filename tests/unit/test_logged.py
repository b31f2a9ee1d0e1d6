"""AP50 as logged, against Ultralytics' own function and the closing rule that its version 8.3.231 had."""

import numpy as np
import pytest

from retrace.evaluation.detection import BoxScores
from retrace.evaluation.logged import NAME, LoggedScores
from retrace.evaluation.scores.matching import AREAS, ROW, Matches


def kept(random, images=40, classes=2):
    """Matches of a detector whose hits are usually more confident than its false alarms."""
    objects = np.zeros((images, classes, len(AREAS)), dtype=np.int64)
    objects[..., 0] = random.integers(0, 4, (images, classes))
    rows = []
    for image in range(images):
        for label in range(classes):
            hits = random.binomial(objects[image, label, 0], 0.9)
            for right in [True] * hits + [False] * int(random.poisson(1.0)):
                score = random.beta(3.2, 1.1) if right else random.beta(0.55, 2.2)
                row = np.zeros(1, ROW)
                row["image"], row["label"], row["score"], row["hit"][:, 0] = image, label, score, int(right)
                row["ignored"][:, 1:] = 0xFFFF
                rows.append(row)
    return Matches(np.concatenate(rows), objects)


def curve_of(matches, label, confidence):
    rows = matches.rows[(matches.rows["label"] == label) & (matches.rows["score"] >= confidence)]
    hits = (rows["hit"][:, 0] & 1)[np.argsort(-rows["score"], kind="stable")]
    total = matches.objects[:, label, 0].sum()
    return np.cumsum(hits) / total, np.cumsum(hits) / np.arange(1, len(hits) + 1)


def version_8_3(recall, precision):
    """`compute_ap` of Ultralytics 8.3.231."""
    ends = np.concatenate(([0.0], recall, [1.0])), np.concatenate(([1.0], precision, [0.0]))
    envelope = np.flip(np.maximum.accumulate(np.flip(ends[1])))
    grid = np.linspace(0, 1, 101)
    return np.trapezoid(np.interp(grid, ends[0], envelope), grid)


def test_equals_the_published_version_and_not_the_installed_one():
    from ultralytics.utils.metrics import compute_ap

    random = np.random.default_rng(1)
    matches = kept(random)
    found = LoggedScores(matches, ("a", "b"), 0.25)(np.ones((1, 40)))[NAME][0]
    curves = [curve_of(matches, label, 0.25) for label in range(2)]
    assert found == pytest.approx(np.mean([version_8_3(*curve) for curve in curves]), rel=1e-12)
    installed = np.mean([compute_ap(*curve)[0] for curve in curves])
    assert found > installed + 0.003  # the closing line adds area


def test_a_resample_is_the_score_of_the_drawn_images():
    random = np.random.default_rng(2)
    matches = kept(random)
    weights = np.bincount(random.integers(0, 40, 40), minlength=40).astype(float)
    drawn = np.repeat(np.arange(40), weights.astype(int))
    rows = []
    for position, image in enumerate(drawn):
        mine = matches.rows[matches.rows["image"] == image].copy()
        mine["image"] = position
        rows.append(mine)
    again = Matches(np.concatenate(rows), matches.objects[drawn])
    expected = LoggedScores(again, ("a", "b"), 0.25)(np.ones((1, 40)))[NAME][0]
    assert LoggedScores(matches, ("a", "b"), 0.25)(weights[None])[NAME][0] == pytest.approx(expected, rel=1e-9)


def test_the_log_promises_more_than_the_whole_curve_of_good_weights():
    higher = 0
    for seed in range(40):
        matches = kept(np.random.default_rng(seed))
        logged = LoggedScores(matches, ("a", "b"), 0.25)(np.ones((1, 40)))[NAME][0]
        higher += logged > BoxScores(matches, ("a", "b"), 0.25, 0.5)(np.ones((1, 40)))["AP50"][0]
    assert higher >= 30


def test_no_detections_and_no_objects():
    random = np.random.default_rng(3)
    matches = kept(random)
    assert LoggedScores(matches, ("a", "b"), 1.1)(np.ones((1, 40)))[NAME][0] == 0.0
    nothing = Matches(matches.rows[:0], np.zeros_like(matches.objects))
    assert np.isnan(LoggedScores(nothing, ("a", "b"), 0.25)(np.ones((1, 40)))[NAME][0])

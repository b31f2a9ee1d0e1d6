"""The bootstrap: right coverage, paired, bounded, the same on every run."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from retrace.evaluation.scores.segmentation import scores
from retrace.statistics.bootstrap import (
    FEWEST_UNITS,
    Units,
    bootstrap,
    interval,
    intervals,
    of_totals,
    resample_weights,
)
from retrace.statistics.estimate import Estimate
from retrace.statistics.verdicts import paired_difference


def ratio(totals):
    return {"ratio": totals[..., 0] / totals[..., 1]}


def confusions(random, images, classes=3, quality=0.7):
    """Images of different difficulty, so that pixels of one image hang together."""
    result = np.zeros((images, classes, classes), dtype=np.int64)
    for image in range(images):
        right = np.clip(random.normal(quality, 0.1), 0.05, 0.99)
        for true in range(classes):
            share = np.full(classes, (1 - right) / (classes - 1))
            share[true] = right
            result[image, true] = random.multinomial(random.integers(50, 200), share)
    return result


def test_weights_are_resamples_of_the_images():
    blocks = list(resample_weights(Units.each(50), 150, seed=3))
    weights = np.concatenate(blocks)
    assert weights.shape == (150, 50)
    assert (weights.sum(1) == 50).all() and (weights >= 0).all() and (weights == weights.astype(int)).all()
    assert len({row.tobytes() for row in weights}) == 150  # no block repeats another
    # the count of one image in one resample is Binomial(50, 1/50)
    assert weights.mean() == 1 and weights.var() == pytest.approx(1 - 1 / 50, abs=0.05)


def test_same_seed_same_draws_other_seed_other_draws():
    totals = confusions(np.random.default_rng(0), 20)
    first, again, other = (
        bootstrap(of_totals(scores, totals), Units.each(20), 130, seed)["mIoU"] for seed in (1, 1, 2)
    )
    assert (first == again).all() and not (first == other).all()


def test_equals_resampling_the_images_themselves():
    totals = confusions(np.random.default_rng(1), 12)
    drawn = bootstrap(of_totals(scores, totals), Units.each(12), 100, seed=5)
    weights = np.concatenate(list(resample_weights(Units.each(12), 100, seed=5))).astype(int)
    for row in range(100):
        chosen = np.repeat(np.arange(12), weights[row])
        by_hand = scores(sum(totals[index] for index in chosen))
        for name in ("mIoU", "IoU", "precision", "pixel_accuracy"):
            np.testing.assert_array_equal(drawn[name][row], by_hand[name])


def test_interval_covers_the_true_value_in_about_95_of_100_studies():
    random, covered, studies = np.random.default_rng(7), 0, 400
    for study in range(studies):
        rate = random.beta(8, 2, size=60)  # per image; mean 0.8
        counts = np.stack([random.binomial(30, rate), np.full(60, 30)], axis=1)
        found = intervals(of_totals(ratio, counts), Units.each(60), 200, seed=study)["ratio"]
        covered += found.low <= 0.8 <= found.high
    assert 0.90 <= covered / studies <= 0.98


def test_paired_interval_is_right_and_narrower_than_two_separate_ones():
    random, wrong, studies = np.random.default_rng(8), 0, 300
    for study in range(studies):
        difficulty = random.beta(8, 2, size=50)  # shared by both models, which are equally good
        a, b = (np.stack([random.binomial(40, difficulty), np.full(50, 40)], axis=1) for _ in range(2))
        found = paired_difference(of_totals(ratio, a), of_totals(ratio, b), Units.each(50), 200, seed=study)["ratio"]
        wrong += found.p <= 0.05
    assert wrong / studies < 0.10
    paired = found.high - found.low
    alone = [intervals(of_totals(ratio, x), Units.each(50), 200, seed=study)["ratio"] for x in (a, b)]
    assert paired < sum(i.high - i.low for i in alone) / 2


def test_absent_class_is_null_and_one_image_has_no_interval():
    totals = confusions(np.random.default_rng(2), 10)
    totals[:, 2, :] = 0  # never in the truth
    found = intervals(of_totals(lambda t: scores(t, focus=[2]), totals), Units.each(10), 100, seed=1)
    assert found["IoU"][2] == Estimate(None, n=10, usable=0.0) == found["focus_mIoU"]
    assert found["IoU"][0].low < found["IoU"][0].value < found["IoU"][0].high
    one = intervals(of_totals(scores, totals[:1]), Units.each(1), 100, seed=1)
    assert one["mIoU"].value is not None and one["mIoU"].low is None


def test_rare_class_leaves_out_the_resamples_without_it():
    draws = np.array([0.2, np.nan, 0.4, np.nan] * 30)
    assert interval(0.3, draws, 40) == Estimate(0.3, 0.2, 0.4, 40, 0.5)
    few = np.where(np.arange(120) < 59, 0.2, np.nan)
    assert interval(0.3, few, 40) == Estimate(0.3, None, None, 40, 59 / 120)


def test_too_few_units_have_no_interval():
    totals = confusions(np.random.default_rng(2), 40)
    four, five = (Units(np.arange(40) % count) for count in (FEWEST_UNITS - 1, FEWEST_UNITS))
    assert intervals(of_totals(scores, totals), four, 100, seed=1)["mIoU"].low is None
    assert intervals(of_totals(scores, totals), five, 100, seed=1)["mIoU"].low is not None


def test_a_class_is_supported_by_the_units_that_show_it():
    totals = confusions(np.random.default_rng(2), 40)
    totals[8:, 2, :] = 0  # the class is in eight images of four units
    units = Units(np.arange(40) // 2)
    held = units.holding(totals.sum(2) > 0)
    assert held.tolist() == [20, 20, 4]
    found = intervals(recalls(totals), units, 400, seed=1, support={"IoU": held})
    assert found["IoU"][2].low is None and found["IoU"][1].low is not None
    assert found["mIoU"].low is not None


def test_a_unit_is_drawn_as_a_whole_and_images_are_units_where_none_are_given():
    units = Units.named(["b", "a", "b", "c", "a", "b"])
    assert units.of.tolist() == [0, 1, 0, 2, 1, 0] and units.count == 3
    for weights in resample_weights(units, 100, seed=1):
        for unit in range(3):
            assert (np.ptp(weights[:, units.of == unit], axis=1) == 0).all()
    totals = confusions(np.random.default_rng(3), 12)
    summed = np.stack([totals[units_.nonzero()[0]].sum(0) for units_ in (np.arange(12) // 3 == u for u in range(4))])
    by_image = bootstrap(of_totals(scores, totals), Units(np.arange(12) // 3), 70, seed=2)["mIoU"]
    by_unit = bootstrap(of_totals(scores, summed), Units.each(4), 70, seed=2)["mIoU"]
    np.testing.assert_array_equal(by_image, by_unit)


@pytest.mark.parametrize("units", [5, 10, 48, 1000])
def test_interval_of_a_mean_is_as_wide_as_students(units):
    """Expanded percentiles of a mean's draws are the t interval, up to the skew of the draws."""
    values = np.random.default_rng(units).normal(0.5, 0.1, units)
    rows = np.stack([values, np.ones(units)], axis=1)
    found = intervals(of_totals(ratio, rows), Units.each(units), 20_000, seed=1)["ratio"]
    low, high = stats.t.interval(0.95, units - 1, values.mean(), values.std(ddof=1) / units**0.5)
    assert found.high - found.low == pytest.approx(high - low, rel=0.12 if units < 10 else 0.05)


def with_rare_class(random, images, rare, spread=0.0, qualities=(0.9, 0.85, 0.8, 0.3)):
    """Four classes of 100 pixels an image, the hard last one in the first `rare` images only."""
    result = np.zeros((images, 4, 4), dtype=np.int64)
    for image in range(images):
        for true, quality in enumerate(qualities if image < rare else qualities[:-1]):
            share = np.clip(random.normal(quality, spread), 0.02, 0.98) if spread else quality
            hits = random.binomial(100, share) if spread else round(100 * quality)
            result[image, true, true], result[image, true, (true + 1) % 3] = hits, 100 - hits
    return result


def recalls(images, focus=()):
    """Statistic of the confusion matrices of a whole set."""
    return of_totals(lambda totals: scores(totals, focus, images.sum(0)), images)


def test_no_draw_of_a_mean_is_over_other_classes_than_the_value():
    """A class in 3 of 36 images is missing from 4.4 % of the draws; all images are alike, so no mean may move."""
    random = np.random.default_rng(4)
    mine, theirs = with_rare_class(random, 36, 3), with_rare_class(random, 36, 3, qualities=(0.9, 0.85, 0.8, 0.5))
    found = intervals(recalls(mine), Units.each(36), 1000, seed=1)["balanced_accuracy"]
    assert found.usable < 1
    assert [found.value, found.low, found.high] == pytest.approx([0.7125] * 3)  # without it 0.85
    pair = paired_difference(recalls(mine), recalls(theirs), Units.each(36), 1000, seed=1)["balanced_accuracy"]
    assert [pair.value, pair.low, pair.high] == pytest.approx([-0.05] * 3)  # without it 0
    assert pair.p < 0.001
    focus = intervals(recalls(mine, focus=[0, 3]), Units.each(36), 1000, seed=1)["focus_mIoU"]
    alone = intervals(recalls(mine), Units.each(36), 1000, seed=1)["IoU"]
    assert focus.high <= (alone[0].high + alone[3].high) / 2


def test_classes_in_every_draw_give_the_same_bits_with_and_without_the_whole():
    totals = confusions(np.random.default_rng(3), 20, classes=5)
    totals[:, 3] = 0
    plain, whole = (intervals(s, Units.each(20), 130, seed=1) for s in (of_totals(scores, totals), recalls(totals)))
    assert plain == whole


def test_interval_of_a_mean_with_a_rare_class_covers_the_true_mean():
    """Six of 36 images hold the class. (With three of them any percentile bootstrap covers less: about 85 %.)"""
    random, covered, studies = np.random.default_rng(1), 0, 200
    truth = scores(with_rare_class(random, 5000, 5000, spread=0.1).sum(0))["balanced_accuracy"]
    for study in range(studies):
        images = with_rare_class(random, 36, 6, spread=0.1)
        found = intervals(recalls(images), Units.each(36), 200, seed=study)["balanced_accuracy"]
        covered += found.low <= truth <= found.high
    assert 0.85 <= covered / studies <= 0.99


def test_ten_thousand_images_stay_small_in_memory():
    counts = np.ones((10_000, 2), dtype=np.int64)
    tracemalloc.start()
    intervals(of_totals(ratio, counts), Units.each(10_000), 200, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20

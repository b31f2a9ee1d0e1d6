"""Verdicts: four words, Holm's correction, and the difference that a comparison could have found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from retrace.statistics.bootstrap import FEWEST_UNITS, Units, of_totals
from retrace.statistics.verdicts import (
    decide,
    detectable_ratio,
    difference,
    holm,
    paired_difference,
    units_needed,
)


def mean(totals):
    return {"mean": totals[..., 0] / totals[..., 1]}


def compared(values, units=None, resamples=2000):
    """The difference of a model with these scores per image, in thousandths, to one that scores 0 everywhere."""
    rows = np.stack([np.round(1000 * np.asarray(values)), np.full(len(values), 1000.0)], axis=1)
    nothing = rows * [0, 1]
    units = units or Units.each(len(values))
    return paired_difference(of_totals(mean, rows), of_totals(mean, nothing), units, resamples, 1)["mean"]


def words(*rows, margin=0.0):
    return decide(rows, margin)


def test_the_four_words():
    random = np.random.default_rng(1)
    noise = random.normal(0, 0.1, 40)
    noise -= noise.mean()
    up, down, nothing = compared(noise + 0.2), compared(noise - 0.2), compared(noise + 0.005)
    assert words(up) == ["better"] and words(down) == ["worse"] and words(nothing) == ["undecided"]
    assert words(nothing, margin=0.1) == ["equal"] and words(up, margin=0.1) == ["better"]
    small = compared(noise / 100 + 0.002)  # surely above 0, and too small to matter
    assert words(small) == ["better"] and words(small, margin=0.01) == ["equal"]


def test_no_interval_no_verdict():
    few = compared(np.full(40, 0.5), Units(np.arange(40) % (FEWEST_UNITS - 1)))
    assert few.low is None and few.p is None and few.detectable is None
    assert words(few, few) == [None, None]


def test_interval_and_p_value_agree():
    random = np.random.default_rng(3)
    for _ in range(200):
        units = int(random.integers(10, 60))
        row = compared(random.normal(0.05, 0.15, units), resamples=2000)
        excluded = row.low > 0 or row.high < 0
        assert (row.p <= 0.05) == excluded or abs(row.p - 0.05) < 0.02


def rejected_step_down(p_values, level):
    """Holm's procedure as published: from the smallest p value on, until one is not small enough."""
    order = sorted((place for place, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i])
    rejected = set()
    for step, place in enumerate(order):
        if p_values[place] > level / (len(order) - step):
            break
        rejected.add(place)
    return rejected


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    adjusted = holm(p_values)
    assert [p is None for p in adjusted] == [p is None for p in p_values]
    near = [p for p in adjusted if p is not None and abs(p - level) < 1e-9]
    if not near:
        found = {place for place, p in enumerate(adjusted) if p is not None and p <= level}
        assert found == rejected_step_down(p_values, level)


def test_many_comparisons_need_more_than_one():
    random = np.random.default_rng(5)
    noise = random.normal(0, 0.1, 30)
    row = compared(noise - noise.mean() + 0.04, resamples=4000)
    assert 0.01 < row.p < 0.05
    assert words(row) == ["better"] and words(*[row] * 10) == ["undecided"] * 10


@pytest.mark.parametrize("units", [5, 10, 40, 200])
def test_a_detectable_difference_is_found_four_times_in_five(units):
    random = np.random.default_rng(units)
    shift = detectable_ratio(units) * 0.2 / units**0.5
    sample = random.normal(shift, 0.2, (20_000, units))
    found = stats.ttest_1samp(sample, 0, axis=1)
    assert ((found.pvalue <= 0.05) & (found.statistic > 0)).mean() == pytest.approx(0.8, abs=0.01)


def test_more_units_detect_less():
    row = compared(np.random.default_rng(7).normal(0, 0.1, 40))
    assert units_needed(40, row.detectable, row.detectable) == 40
    wanted = row.detectable / 2
    count = units_needed(40, row.detectable, wanted)
    assert 150 < count < 165
    for wrong in (0.0, -1.0):
        with pytest.raises(ValueError, match="above 0"):
            units_needed(40, row.detectable, wrong)


def test_equal_models_are_equally_good():
    row = difference(0.0, np.zeros(100), 40)
    assert row.p == 1.0 and words(row) == ["undecided"] and words(row, margin=0.001) == ["equal"]

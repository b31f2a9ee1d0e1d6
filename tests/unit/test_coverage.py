"""Simulated studies: intervals that hold the truth, verdicts that are rarely false, differences that are found.

`python -m benchmarks.coverage` on a smaller scale, by the same functions and with fixed seeds. A share of so
many studies has an error of its own. A test fails where chance explains the distance of the share to its limit
in less than 1 % of the cases (exact binomial test): with 400 studies, a coverage below 90 % contradicts 93 %.
"""

import pytest
from scipy.stats import binom

from benchmarks.coverage import outcome, power, seeds_outcome, seeds_power

STUDIES = {"IoU": 400, "mIoU": 400, "AP50": 150}  # one of AP50 takes six times as long
DESIGNS = ((48, 1, 0.0), (40, 5, 0.0), (40, 5, 0.8), (20, 5, 0.5), (10, 5, 0.5))
FALSE_VERDICTS = 0.06
CHANCE = 0.01

pytestmark = pytest.mark.slow


def at_least(share, limit, studies):
    """Whether this share can be that of `studies` draws from a true share of `limit` or more."""
    return binom.cdf(round(share * studies), studies, limit) >= CHANCE


def at_most(share, limit, studies):
    return at_least(1 - share, 1 - limit, studies)


@pytest.mark.parametrize(("sequences", "images", "icc"), DESIGNS)
@pytest.mark.parametrize("metric", STUDIES)
def test_intervals_hold_the_truth_and_equal_models_get_no_verdict(metric, sequences, images, icc):
    studies = STUDIES[metric]
    found = outcome(metric, sequences, images, icc, studies)
    for covered in (found.covered, found.difference_covered):
        assert at_least(covered, 0.93 if sequences >= 40 else 0.91, studies), found
        assert at_most(covered, 0.97, studies), found
    if sequences >= 20:
        assert at_most(found.decided, FALSE_VERDICTS, studies), found


@pytest.mark.parametrize(
    ("metric", "sequences", "images", "icc", "studies"),
    [("IoU", 48, 1, 0.0, 200), ("mIoU", 40, 5, 0.5, 200), ("AP50", 48, 1, 0.0, 100)],
)
def test_the_detectable_difference_is_found_in_four_of_five_studies(metric, sequences, images, icc, studies):
    """Within 10 %, and two standard errors of the simulated one.

    Near 80 %, the power of a t test rises by about 0.8 for 100 % more of the difference: phi(0.84) x 2.85.
    """
    error = (0.8 * 0.2 / studies) ** 0.5 / 0.8
    found = power(metric, sequences, images, icc, studies)
    assert found["promised"] == pytest.approx(found["simulated"], rel=0.1 + 2 * error), found


@pytest.mark.parametrize("spread", [0.02, 0.1])
@pytest.mark.parametrize(("sequences", "images", "icc"), [(48, 1, 0.0), (40, 5, 0.5)])
def test_two_equal_settings_with_other_seeds_are_called_different_in_at_most_6_percent(sequences, images, icc, spread):
    studies = 200
    found = seeds_outcome("IoU", sequences, images, icc, spread, seeds=3, studies=studies)
    assert found.decided <= FALSE_VERDICTS, found


def test_the_detectable_difference_of_three_seeds_is_found_in_four_of_five_studies():
    found = seeds_power("IoU", 48, 1, 0.0, spread=0.1, seeds=3, studies=200)
    error = (0.8 * 0.2 / 200) ** 0.5 / 0.8
    assert found["promised"] == pytest.approx(found["simulated"], rel=0.1 + 2 * error), found

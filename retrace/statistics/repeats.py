"""Scores of phases that were trained with several seeds: mean, spread, differences, and how often one beats the other.

The trainings of a phase are a cell of `effects`, whose two-way layout of seeds and units gives the variance of a mean
or of a difference of two means, and its t intervals: the spread over seeds is estimated from few of them, which
percentiles of resampled seeds would make too small. Trainings with the same seed in two phases count as independent.
"""

from collections.abc import Sequence

import numpy as np

from retrace.statistics.bootstrap import FEWEST_UNITS, LEAST_USABLE, LEVEL
from retrace.statistics.effects import Layout, Variances, variances
from retrace.statistics.estimate import Difference, Estimate, Interval
from retrace.statistics.verdicts import ALPHA, detectable_by

Trained = tuple[np.ndarray, np.ndarray]  # scores [R] of the trainings of a phase; their draws [B, R]


def mean(trained: Trained, units: int) -> Estimate:
    """The mean over at least two trainings, with its interval over seeds and units.

    All draws of a row are on the same resample of the `units` units. There is no interval where there are fewer than
    `FEWEST_UNITS` units, where fewer than half of the resamples define the score, or where all trainings score alike.
    """
    return _estimated([trained], np.full(len(trained[0]), 1 / len(trained[0])), units)[0]


def difference(trained: Trained, others: Trained, units: int) -> Difference:
    """By how much the mean over the trainings of one phase exceeds that of another with as many trainings.

    `p` is the level at which the interval would just touch 0. `detectable` takes the test for a t test with the same
    critical value, whose power is known.
    """
    count = len(trained[0])
    contrast = np.repeat([1 / count, -1 / count], count)
    found, parts = _estimated([trained, others], contrast, units)
    ends = (found.value, found.low, found.high, found.n, found.usable)
    if found.value is None or parts is None:
        return Difference(*ends)
    return Difference(*ends, _p_value(found.value, parts), _detectable(parts))


def spread(scores: np.ndarray) -> float | None:
    """Standard deviation over seeds [R]; None where a score is undefined or there is one seed."""
    if len(scores) < 2 or np.isnan(scores).any():
        return None
    return float(np.std(scores, ddof=1))


def superiority(scores: np.ndarray, others: np.ndarray) -> Interval:
    """P(A > B) from the scores [R], [S]: how often a training of A scores above one of B, over seeds.

    The share of all pairs of trainings, ties half (Bouthillier et al., MLSys 2021, on one test set); the 95 %
    interval is method 5 of Newcombe (Statistics in Medicine 25, 2006) for the Mann-Whitney statistic, which holds for
    few seeds and at 0 and 1. Undefined scores make it undefined.
    """
    if np.isnan(scores).any() or np.isnan(others).any():
        return Interval(None)
    apart = scores[:, None] - others
    share = float(((apart > 0) + 0.5 * (apart == 0)).mean())
    ends = [_end(share, len(scores), len(others), side) for side in (-1, 1)]
    return Interval(share, *ends)


def _end(share: float, first: int, second: int, side: int) -> float:
    """The probability below (side -1) or above (1) the share that is just compatible with it."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    if share == (1 if side > 0 else 0):
        return share
    quantile = norm.isf((1 - LEVEL / 100) / 2)
    weight = (first + second) / 2 - 1

    def beyond(true: float) -> float:
        shape = 1 + weight * ((1 - true) / (2 - true) + true / (1 + true))
        return side * (true - share) - quantile * (true * (1 - true) * shape / (first * second)) ** 0.5

    inner, outer = share + side * 1e-9, (1.0 if side > 0 else 0.0)
    return float(brentq(beyond, inner, outer))


def _estimated(cells: Sequence[Trained], contrast: np.ndarray, units: int) -> tuple[Estimate, Variances | None]:
    scores = np.concatenate([trained[0] for trained in cells])
    draws = np.concatenate([trained[1] for trained in cells], axis=1)
    numbers = np.repeat(np.arange(len(cells)), [len(trained[0]) for trained in cells])
    defined = draws[~np.isnan(draws).any(1)]
    usable = len(defined) / len(draws)
    if np.isnan(scores).any():
        return Estimate(None, None, None, units, usable), None
    value = float(contrast @ scores)
    if units < FEWEST_UNITS or usable < LEAST_USABLE or np.ptp(scores) == 0:
        return Estimate(value, None, None, units, usable), None
    layout = Layout(numbers, numbers[:, None])
    parts = variances(layout, contrast, scores, defined, units)
    half = parts.half_width(LEVEL / 100)
    return Estimate(value, value - half, value + half, units, usable), parts


def _p_value(value: float, parts: Variances) -> float:
    from scipy.optimize import brentq

    smallest = 1e-12
    if abs(value) >= parts.half_width(1 - smallest):
        return 0.0
    if value == 0:
        return 1.0
    return float(brentq(lambda p: parts.half_width(1 - p) - abs(value), smallest, 1.0))


def _detectable(parts: Variances) -> float:
    """The smallest true difference that is found with 80 % power, by a t test with the same critical value."""
    error = (parts.by_seed + parts.by_unit) ** 0.5
    freedom = _freedom(parts.half_width(LEVEL / 100) / error)
    return error / _shrinkage(freedom) * detectable_by(freedom)


def _freedom(critical: float) -> float:
    """Degrees of freedom of the t test that rejects from this many standard errors on."""
    from scipy.optimize import brentq
    from scipy.stats import t

    most = 1e6  # a normal test
    if critical <= t.isf(ALPHA / 2, most):
        return most
    return float(brentq(lambda freedom: t.isf(ALPHA / 2, freedom) - critical, 0.5, most))


def _shrinkage(freedom: float) -> float:
    """By how much the root of an estimated variance is too small on average (c4 of quality control)."""
    from scipy.special import gammaln

    return float((2 / freedom) ** 0.5 * np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2)))

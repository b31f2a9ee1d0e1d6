"""Differences of two models on the same images: interval, p value, detectable difference and verdict.

    better, worse   the difference is not chance at the 5 % level, all verdicts of a table together
                    (Holm, Scandinavian Journal of Statistics 6, 1979)
    equal           the whole interval lies within the margin: whichever model is better, it does not matter
    undecided       none of these; `detectable` is the smallest difference that would have been found

No verdict is given where there is no interval (see `bootstrap`). All scores here are "higher is better".
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from retrace.statistics.bootstrap import (
    LEVEL,
    Statistic,
    Support,
    Units,
    counted,
    draw,
    interval,
    nested,
    point,
)
from retrace.statistics.estimate import Difference, Interval

BETTER, WORSE, EQUAL, UNDECIDED = VERDICTS = ("better", "worse", "equal", "undecided")
ALPHA = 1 - LEVEL / 100
POWER = 0.8
FEW_DRAWS = 10  # fewer draws than this beyond 0 do not say how small a p value is


def paired_difference(
    statistic: Statistic,
    other: Statistic,
    units: Units,
    resamples: int,
    seed: int,
    support: Support | None = None,
) -> dict[str, Any]:
    """How much `statistic` exceeds `other` on the same images: a `Difference` for each score."""

    def less(weights: np.ndarray) -> dict[str, np.ndarray]:
        mine, others = statistic(weights), other(weights)
        return {name: mine[name] - others[name] for name in mine if name in others}

    values = point(less, units)
    draws = draw(less, values, units, resamples, seed)
    return {
        name: nested(difference, value, draws[name], counted(support, name, units, value))
        for name, value in values.items()
    }


def difference(value: float, draws: np.ndarray, units: int) -> Difference:
    """`interval` of a difference, with its p value and the detectable difference."""
    found = interval(value, draws, units)
    ends = (found.value, found.low, found.high, found.n, found.usable)
    if found.low is None:
        return Difference(*ends)
    defined = draws[~np.isnan(draws)]
    error = standard_error(defined, units)
    p = p_value(value, defined, units, error)
    return Difference(*ends, p, error * detectable_ratio(units))


def standard_error(draws: np.ndarray, units: int) -> float:
    """Standard error from the defined draws [B]; n / (n - 1) undoes the bootstrap's small-sample bias."""
    return float(draws.std(ddof=1)) * math.sqrt(units / (units - 1))


def p_value(value: float, draws: np.ndarray, units: int, error: float) -> float:
    """The level at which the interval of the difference would just touch 0: in step with its ends.

    Where next to no draw lies beyond 0, their share says nothing; the t statistic then does.
    """
    from scipy.stats import norm, t

    if error == 0:
        return 1.0 if value == 0 else 0.0
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    if beyond >= FEW_DRAWS:
        quantile = norm.isf(min(beyond / draws.size, 0.5)) / math.sqrt(units / (units - 1))
        return min(1.0, 2 * float(t.sf(quantile, units - 1)))
    return min(1.0, 2 * float(t.sf(abs(value) / error, units - 1)))


def detectable_ratio(units: int) -> float:
    """Smallest detectable difference of paired units, in standard errors."""
    return detectable_by(units - 1)


def detectable_by(freedom: float) -> float:
    """In standard errors, from the power of the two-sided t test (noncentral t)."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    limit = t.isf(ALPHA / 2, freedom)
    return float(brentq(lambda shift: nct.sf(limit, freedom, shift) - POWER, 0.0, 60.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for making all of these decisions at once; None (no test) stays None."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted


def verdict(row: Difference, margin: float, adjusted: float | None) -> str | None:
    """One of `VERDICTS` for a difference; None without an interval.

    margin: differences of at most this size do not matter, in the unit of the score, at least 0.
    adjusted: its p value after `holm`.
    """
    low, high = row.low, row.high
    if low is None or high is None or adjusted is None:
        return None
    if margin > 0 and -margin <= low and high <= margin:
        return EQUAL
    if adjusted <= ALPHA and (low > 0 or high < 0):
        return BETTER if low > 0 else WORSE
    return UNDECIDED


def of_effect(effect: Interval) -> str:
    """The verdict on an effect whose interval already accounts for seeds: better, worse or undecided."""
    if not effect.excludes_zero or effect.low is None:
        return UNDECIDED
    return BETTER if effect.low > 0 else WORSE


def decide(rows: Sequence[Difference], margin: float) -> list[str | None]:
    """The verdicts of all rows of one table, with Holm's correction over them."""
    adjusted = holm([row.p for row in rows])
    return [verdict(row, margin, p) for row, p in zip(rows, adjusted, strict=True)]


def units_needed(units: int, detectable: float, wanted: float) -> int:
    """How many units such a comparison needs to detect a difference of `wanted` with 80 % power.

    units, detectable: of a comparison that was made. The spread per unit is taken to stay the same.
    Raises ValueError unless both differences are above 0.
    """
    if detectable <= 0 or wanted <= 0:
        raise ValueError("both differences must be above 0")
    spread = detectable / detectable_ratio(units) * math.sqrt(units)
    return _fewest(lambda count: spread / math.sqrt(count) * detectable_ratio(count) <= wanted)


def seeds_needed(spread: float, wanted: float) -> int:
    """How many seeds each of two phases needs so that the spread over seeds does not hide a difference of `wanted`.

    spread: standard deviation of a phase's score over seeds. 80 % power, seeds alone: a two-sample t test.
    Raises ValueError unless both are above 0.
    """
    if spread <= 0 or wanted <= 0:
        raise ValueError("spread and difference must be above 0")
    return _fewest(lambda count: spread * math.sqrt(2 / count) * detectable_by(2 * count - 2) <= wanted)


def _fewest(enough: Callable[[int], bool]) -> int:
    """The smallest number from 2 on that is enough, where every larger one is, too."""
    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

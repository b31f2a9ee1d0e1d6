"""95 % bootstrap intervals over independent units, from per-image sufficient statistics.

A *unit* is a set of images that are not independent of each other: a sequence, a source photograph,
near-duplicates. Where every image is independent, every image is a unit. A resample draws as many units
as there are, with replacement (the cluster bootstrap; Davison & Hinkley 1997, section 3.8), so it is a row
of integer image weights, and nothing is predicted or matched again. Two phases scored on the same images
with the same seed see the same resamples, which makes their difference paired.

Percentiles of few units are too close together. They are expanded (Hesterberg 2015, "What Teachers Should
Know About the Bootstrap", section 5.5): instead of the tail `a` of the draws, the tail

    Phi(-sqrt(n / (n - 1)) t(a; n - 1))

is cut off, where n is the number of units. Below `FEWEST_UNITS` units there is no interval, nor where fewer
than half of the resamples define the score.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrace.statistics.estimate import Estimate

BLOCK = 64  # resamples held at once: 10,000 images x 64 x 8 bytes = 5 MB
LEVEL = 95.0  # per cent
FEWEST_UNITS = 5
LEAST_USABLE = 0.5  # share of the resamples in which the score must be defined

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
Support = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Units:
    """The independent unit of every image."""

    of: np.ndarray  # int [N], values 0 ... count - 1

    @classmethod
    def each(cls, images: int) -> "Units":
        """Every image is a unit of its own."""
        return cls(np.arange(images))

    @classmethod
    def named(cls, names: Sequence[str]) -> "Units":
        """Images with the same name are one unit; units are numbered as they first appear."""
        number: dict[str, int] = {}
        return cls(np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64))

    @property
    def count(self) -> int:
        """Number of units."""
        return int(self.of.max(initial=-1)) + 1

    def holding(self, present: np.ndarray) -> np.ndarray:
        """bool [N, ...] -> int [...]: in how many units at least one image has what `present` says."""
        held = np.zeros((self.count, *present.shape[1:]), dtype=bool)
        np.logical_or.at(held, self.of, present)
        return held.sum(0)


def resample_weights(units: Units, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Image weights in blocks: float64 [<= BLOCK, N], how often each image's unit was drawn.

    `seed` comes from `seeds.derive(seed, "bootstrap", split)`.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    count = units.count
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = random.integers(0, count, size=(rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield weights[:, units.of].astype(np.float64)


def bootstrap(statistic: Statistic, units: Units, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Draw `statistic` (weights [b, N] -> {name: [b, ...]}) on every resample: {name: [resamples, ...]}."""
    blocks = [statistic(weights) for weights in resample_weights(units, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def of_totals(scores: Statistic, per_image: np.ndarray) -> Statistic:
    """The statistic of weights that sums `per_image` [N, ...] counts and scores the totals [b, ...].

    Sums of integer counts below 2**53 are exact in float64, so the result does not depend on the
    order of summing.
    """
    flat = per_image.reshape(len(per_image), math.prod(per_image.shape[1:])).astype(np.float64)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return scores((weights @ flat).reshape(len(weights), *per_image.shape[1:]))

    return statistic


def tails(units: int) -> tuple[float, float]:
    """The percentiles (per cent) of the draws at which the interval of this many units ends."""
    from scipy.stats import norm, t

    outside = (1 - LEVEL / 100) / 2
    expanded = math.sqrt(units / (units - 1)) * t.isf(outside, units - 1)
    low = 100 * float(norm.sf(expanded))
    return low, 100 - low


def interval(value: float, draws: np.ndarray, units: int) -> Estimate:
    """One number with its interval from its draws [B]; undefined (NaN) is None.

    Draws in which the score is undefined (its class, or one of the classes it is the mean of, was not
    drawn) are left out; `usable` is the share of the others, `n` the number of units. low and high are
    None where `usable` is below `LEAST_USABLE` or there are fewer than `FEWEST_UNITS` units that the
    score is made from.
    """
    defined = draws[~np.isnan(draws)]
    usable = defined.size / draws.size if draws.size else 0.0
    if np.isnan(value):
        return Estimate(None, None, None, units, usable)
    if units < FEWEST_UNITS or usable < LEAST_USABLE:
        return Estimate(float(value), None, None, units, usable)
    low, high = np.percentile(defined, tails(units))
    return Estimate(float(value), float(low), float(high), units, usable)


def intervals(
    statistic: Statistic,
    units: Units,
    resamples: int,
    seed: int,
    support: Support | None = None,
) -> dict[str, Any]:
    """Every score of all images with its interval: `{name: Estimate}`, or
    `{name: [Estimate, ...]}` for a score per class.

    support: {name: number of units that have the class, int [...] of the score's shape} for scores of
    one class; every other score is made from all units.
    """
    values = point(statistic, units)
    draws = draw(statistic, values, units, resamples, seed)
    return {
        name: nested(interval, value, draws[name], counted(support, name, units, value))
        for name, value in values.items()
    }


def point(statistic: Statistic, units: Units) -> dict[str, np.ndarray]:
    """{name: [...]}: every score of all images."""
    return {name: array[0] for name, array in statistic(np.ones((1, len(units.of)))).items()}


def draw(
    statistic: Statistic,
    values: Mapping[str, np.ndarray],
    units: Units,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """`bootstrap`, or undefined draws where there are too few units for any interval."""
    if units.count < FEWEST_UNITS:
        return {name: np.full((1, *np.shape(value)), np.nan) for name, value in values.items()}
    return bootstrap(statistic, units, resamples, seed)


def counted(support: Support | None, name: str, units: Units, value: np.ndarray) -> np.ndarray:
    """Number of units that a score is made from, in the shape of the score."""
    every = np.full(np.shape(value), units.count)
    return every if support is None else np.asarray(support.get(name, every))


def nested(make: Callable[..., Estimate], value: np.ndarray, draws: np.ndarray, units: Any) -> Any:
    """`make(value, draws, units)` for a number, or a list of them for an array of numbers."""
    if np.ndim(value) == 0:
        return make(float(value), draws, int(units))
    return [nested(make, value[i], draws[:, i], units[i]) for i in range(len(value))]

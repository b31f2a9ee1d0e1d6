"""95 % percentile bootstrap over images (Efron & Tibshirani 1993, chapter 13), from per-image sufficient statistics.

An image is the sampling unit: its pixels or objects are not independent, images are. A resample is a row of integer
weights (how often each image was drawn), so nothing is predicted or matched again. Two phases scored on the same
images with the same seed see the same resamples, which is what makes their difference paired.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BLOCK = 64  # resamples held at once: 10,000 images x 64 x 8 bytes = 5 MB
LEVEL = 95.0  # per cent
FEWEST = 40  # draws an interval takes: one beyond either end
VERDICTS = ("better", "no measurable difference", "worse")

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def resample_weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Multinomial image weights in blocks: float64 [<= BLOCK, images], integer values, every row sums to `images`.

    `seed` comes from `seeds.derive(seed, "bootstrap", split)`.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = random.integers(0, images, size=(rows, images)) + np.arange(rows)[:, None] * images
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def bootstrap(statistic: Statistic, images: int, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Draw `statistic` (weights [b, images] -> {name: [b, ...]}) on every resample: {name: [resamples, ...]}."""
    blocks = [statistic(weights) for weights in resample_weights(images, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def of_totals(scores: Statistic, per_image: np.ndarray) -> Statistic:
    """The statistic of weights that sums `per_image` [N, ...] counts and scores the totals [b, ...].

    Sums of integer counts below 2**53 are exact in float64, so the result does not depend on the order of summing.
    """
    flat = per_image.reshape(len(per_image), math.prod(per_image.shape[1:])).astype(np.float64)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return scores((weights @ flat).reshape(len(weights), *per_image.shape[1:]))

    return statistic


def interval(value: float, draws: np.ndarray) -> dict[str, float | None]:
    """`{"value", "low", "high"}` of one number and its draws [B]; undefined (NaN) is None.

    Draws in which the score is undefined (its class, or one of the classes it is the mean of, was not drawn) are left
    out. Where fewer than `FEWEST` remain there is no interval.
    """
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or defined.size < FEWEST:
        return {"value": None if np.isnan(value) else float(value), "low": None, "high": None}
    low, high = np.percentile(defined, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def intervals(statistic: Statistic, images: int, resamples: int, seed: int) -> dict[str, Any]:
    """Every score of all images with its interval: `{name: I}`, or `{name: [I, ...]}` for a score per class.

    One image (or none) has no spread to estimate: low and high are then None.
    """
    values = {name: array[0] for name, array in statistic(np.ones((1, images))).items()}
    draws = _draws(statistic, values, images, resamples, seed)
    return {name: _nested(interval, value, draws[name]) for name, value in values.items()}


def paired_difference(statistic: Statistic, other: Statistic, images: int, resamples: int, seed: int) -> dict[str, Any]:
    """How much `statistic` exceeds `other` on the same images: value, low, high and verdict for each score.

    The verdict is `better` (the whole interval is above 0), `worse` (below 0) or `no measurable difference`; None
    where either side is undefined. All scores here are "higher is better".
    """

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        mine, theirs = statistic(weights), other(weights)
        return {name: mine[name] - theirs[name] for name in mine if name in theirs}

    values = {name: array[0] for name, array in difference(np.ones((1, images))).items()}
    draws = _draws(difference, values, images, resamples, seed)
    return {name: _nested(_judged, value, draws[name]) for name, value in values.items()}


def verdict(low: float | None, high: float | None) -> str:
    """In words, from the interval of a difference; without an interval nothing is measurable."""
    if low is not None and low > 0:
        return "better"
    return "worse" if high is not None and high < 0 else "no measurable difference"


def _judged(value: float, draws: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = interval(value, draws)
    return result | {"verdict": None if result["value"] is None else verdict(result["low"], result["high"])}


def _draws(
    statistic: Statistic, values: dict[str, np.ndarray], images: int, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    if images < 2:
        return {name: np.full((1, *np.shape(value)), np.nan) for name, value in values.items()}
    return bootstrap(statistic, images, resamples, seed)


def _nested(make: Callable[[float, np.ndarray], dict[str, Any]], value: np.ndarray, draws: np.ndarray) -> Any:
    if np.ndim(value) == 0:
        return make(float(value), draws)
    return [_nested(make, value[index], draws[:, index]) for index in range(len(value))]

"""Boundary F-score of thin structures: how many pixels of the outlines lie near each other.

Csurka, Larlus & Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013; the
counts are summed over all images before the score is taken, as those of every other score here.

The boundary of a class is its pixels that have a scored pixel of another class above, below, left or right
of them. Neither the edge of the image nor the edge of an area that is not scored is a boundary.
"""

import math
from typing import Any

import numpy as np

from retrace.config.schema import Boundary
from retrace.data.manifest import IGNORE
from retrace.statistics.bootstrap import Units, intervals, of_totals

COUNTS = ("near_predicted", "predicted", "near_true", "true")  # columns of `boundary_counts`


def boundary(mask: np.ndarray, label: int) -> np.ndarray:
    """uint8 [H, W] of class indices -> bool [H, W]: boundary pixels of one class."""
    inside = mask == label
    other = ~inside & (mask != IGNORE)
    beside = np.zeros_like(inside)
    beside[1:] |= other[:-1]
    beside[:-1] |= other[1:]
    beside[:, 1:] |= other[:, :-1]
    beside[:, :-1] |= other[:, 1:]
    return inside & beside


def disk(radius: float) -> np.ndarray:
    """uint8 [2 r + 1, 2 r + 1]: 1 at the offsets whose Euclidean length is at most `radius` pixels."""
    reach = math.floor(radius)
    offsets = np.arange(-reach, reach + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


def boundary_counts(truth: np.ndarray, predicted: np.ndarray, classes: int, radius: float) -> np.ndarray:
    """int64 [classes, 4], columns as in `COUNTS`: boundary pixels of either mask, and those of them that
    have a boundary pixel of the other mask within `radius` pixels.

    truth, predicted: uint8 [H, W]; where the truth is 255 neither is looked at.
    """
    import cv2  # here, because the report reads the scores of counts and nothing else

    predicted = np.where(truth == IGNORE, np.uint8(IGNORE), predicted)
    near = disk(radius)
    counts = np.zeros((classes, len(COUNTS)), dtype=np.int64)
    for label in np.union1d(np.unique(truth), np.unique(predicted)):
        if label == IGNORE:
            continue
        true, guess = boundary(truth, label), boundary(predicted, label)
        around_true, around_guess = (cv2.dilate(edge.astype(np.uint8), near).astype(bool) for edge in (true, guess))
        counts[label] = (
            (guess & around_true).sum(),
            guess.sum(),
            (true & around_guess).sum(),
            true.sum(),
        )
    return counts


def boundary_scores(counts: np.ndarray, whole: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of summed counts [..., C, 4]: `boundary_F1` [..., C] and its mean `mean_boundary_F1` [...].

    In [0, 1]. NaN for a class without a boundary in the truth, and for the mean where one of the classes
    that have one in `whole` [C, 4], the counts of all images, has none.
    """
    near_guess, guess, near_true, true = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    precision, recall = _ratio(near_guess, guess), _ratio(near_true, true)
    defined = true > 0
    score = np.where(defined, _ratio(2 * precision * recall, precision + recall), np.nan)
    averaged = np.asarray(whole)[:, -1] > 0
    total = np.where(averaged, score, 0.0).sum(-1)
    mean = total / averaged.sum() if averaged.any() else np.full(total.shape, np.nan)
    return {"boundary_F1": score, "mean_boundary_F1": mean}


def radius_of(options: Boundary, shape: tuple[int, ...]) -> float:
    """The tolerance in pixels for an image of this shape (height, width)."""
    if options.unit == "pixels":
        return options.tolerance
    return options.tolerance * math.hypot(shape[0], shape[1])


def summarize_boundaries(per_image: np.ndarray, units: Units, resamples: int, seed: int) -> dict[str, Any]:
    """`boundary_scores` of all images with their intervals. per_image: int64 [N, C, 4]."""
    whole = per_image.sum(0)
    statistic = of_totals(lambda totals: boundary_scores(totals, whole), per_image)
    support = {"boundary_F1": units.holding(per_image[:, :, -1] > 0)}
    return intervals(statistic, units, resamples, seed, support)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0: nothing was predicted, or nothing of it is near."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)

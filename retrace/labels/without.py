"""What a score becomes when the images of the most suspicious labels are left out."""

from collections.abc import Collection, Sequence

import numpy as np

from retrace.documents.labels import Without
from retrace.labels.suspects import Suspect
from retrace.statistics.bootstrap import Statistic, Units, intervals
from retrace.statistics.estimate import UNDEFINED, Estimate

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def steps(suspects: int) -> list[int]:
    """The numbers of suspects that are tried: those of `STEPS` below the number of all, and all."""
    return [*(count for count in STEPS if count < suspects), *([suspects] if suspects else [])]


def score_without(
    statistic: Statistic,
    metric: str,
    images: Sequence[str],
    unit_names: Sequence[str],
    left_out: Collection[str],
    resamples: int,
    seed: int,
) -> Estimate:
    """The score of the images that are not in `left_out`, with its interval over their units.

    statistic: weights [b, N] of all `images` -> scores. unit_names: of every image. Undefined if nothing is left.
    """
    kept = np.array([place for place, image in enumerate(images) if image not in left_out], dtype=np.int64)
    if not kept.size:
        return UNDEFINED

    def of_kept(weights: np.ndarray) -> dict[str, np.ndarray]:
        whole = np.zeros((len(weights), len(images)))
        whole[:, kept] = weights
        return {metric: statistic(whole)[metric]}

    units = Units.named([unit_names[place] for place in kept])
    found: Estimate = intervals(of_kept, units, resamples, seed)[metric]
    return found


def without(
    suspects: Sequence[Suspect],
    statistic: Statistic,
    metric: str,
    images: Sequence[str],
    unit_names: Sequence[str],
    resamples: int,
    seed: int,
) -> list[Without]:
    """`score_without` the images of the first suspects, for each of `steps`. suspects: of this split, ranked."""
    rows = []
    for count in steps(len(suspects)):
        left_out = {one.image for one in suspects[:count]}
        score = score_without(statistic, metric, images, unit_names, left_out, resamples, seed)
        rows.append(Without(suspects=count, images_left_out=len(left_out), score=score))
    return rows

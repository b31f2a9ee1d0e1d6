"""Effects of factors in a replicated two-level design, with 95 % intervals from seeds and from images.

Every run r is one combination of levels (cell), trained with a seed that no other run has; all runs are scored on the
same images. An effect is a contrast a'y of the runs' scores y (Box, Hunter & Hunter, Statistics for Experimenters, 2nd
ed. 2005, chapter 5):

    main effect of f         mean of y where f is on - mean where it is off
    interaction of f and g   half of what the effect of f changes by when g is switched on

Two things would come out differently next time, and runs and images are crossed: every run sees every image. Where
images come in sequences, the sequences take the place of the images: they are what is independent. The
variance of a contrast is therefore put together from its parts as in a two-way random-effects layout (Searle, Casella &
McCulloch, Variance Components, 1992; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007):

    V(a) = V_seeds(a) + max(V_images(a) - V_both(a), 0)

    V_seeds    sum over cells of |a_cell|^2 s_cell^2, where s_cell^2 is the variance of the scores within the cell:
               training again with another seed. It already holds the run-by-image part.
    V_images   variance of a'y over resamples of the images, the same resample for every run (paired bootstrap)
    V_both     V_seeds of the resampled scores around the scores: the run-by-image part, otherwise counted twice

The runs' seeds differ between cells, so the runs are independent given the images, whatever a seed does to one change
and not to another; and every cell brings its own variance, so that cells may differ in it (Welch, Biometrika 34, 1947).
The degrees of freedom of V_seeds follow from the cells that the contrast compares (Satterthwaite, Biometrics Bulletin
2, 1946), with unbiased estimates in place of the plain squares, which two seeds make far too few:

    (V_seeds^2 - 2 Q) / Q,  Q = sum over cells of (|a_cell|^2 s_cell^2)^2 / (seeds + 1)

held between seeds - 1 (one cell has all the variance) and cells (seeds - 1) (all have the same). The two parts have
their own degrees of freedom (images - 1 for the second); their intervals are joined in quadrature (Howe, JASA 69,
1974): a'y -/+ sqrt(t1^2 V1 + t2^2 V2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from retrace.statistics.bootstrap import FEWEST_UNITS
from retrace.statistics.estimate import Interval

LEVEL = 0.95
FLOOR = 0.01  # a score below one point: the class is practically not found


@dataclass(frozen=True)
class Layout:
    """Which run is which: `cells` int [R], every one with the same number of runs; `levels` int [R, K], 0 or 1 (on)."""

    cells: np.ndarray
    levels: np.ndarray

    def __post_init__(self) -> None:
        counts = np.unique(self.cells, return_counts=True)[1]
        if counts.min() < 2 or counts.min() != counts.max():
            raise ValueError("every cell needs a run with every seed, and at least two seeds")

    @property
    def seeds(self) -> int:
        """How many runs a cell has."""
        return len(self.cells) // len(np.unique(self.cells))

    def by_cell(self, contrast: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """[R], [..., R] -> [..., cells]: what every cell adds to the variance of the contrast, from its own runs."""
        member = (self.cells[:, None] == np.unique(self.cells)).astype(float)  # [R, cells]
        residuals = scores - scores @ (member / self.seeds) @ member.T
        return (contrast**2 @ member) * (residuals**2 @ member) / (self.seeds - 1)


def main_effects(layout: Layout, design: str) -> np.ndarray:
    """[K, R]: the contrast of each factor. Full: all runs; else the cell in which it alone differs from the base."""
    levels = layout.levels
    if design == "full":
        return (2.0 * (2 * levels - 1) / len(levels)).T
    rest = 0 if design == "one-at-a-time" else 1
    base = (levels == rest).all(1)
    rows = []
    for factor in range(levels.shape[1]):
        alone = (levels[:, factor] != rest) & (np.delete(levels, factor, axis=1) == rest).all(1)
        rows.append((alone.astype(float) - base) * (-1 if rest else 1) / layout.seeds)
    return np.stack(rows)


def interactions(layout: Layout) -> dict[tuple[int, int], np.ndarray]:
    """`{(f, g): contrast [R]}` of every pair of factors of a full design."""
    signs = 2.0 * layout.levels - 1
    pairs = combinations(range(layout.levels.shape[1]), 2)
    return {(f, g): 2 * signs[:, f] * signs[:, g] / len(signs) for f, g in pairs}


def together(layout: Layout) -> np.ndarray:
    """[R]: all factors on less all off, of a full design."""
    return ((layout.levels == 1).all(1).astype(float) - (layout.levels == 0).all(1)) / layout.seeds


def effect(
    layout: Layout, contrast: np.ndarray, scores: np.ndarray, draws: np.ndarray, units: int, level: float = LEVEL
) -> Interval:
    """One contrast with its interval; None where it is undefined. Runs that all score the same (a class
    that none of them finds) have no spread to make an interval from.

    contrast, scores: [R]; draws: [B, R], the scores on B resamples of the `units` independent units, the same
    resample in a row for all runs. NaN is an undefined score: in `scores` it makes the effect undefined, in `draws`
    the row is left out (a class that was not drawn). With fewer than five units there is no interval.
    """
    if np.isnan(scores).any():
        return Interval(None)
    value = float(contrast @ scores)
    usable = draws[~np.isnan(draws).any(1)]
    if units < FEWEST_UNITS or len(usable) < 2 or np.ptp(scores[contrast != 0]) == 0:
        return Interval(value)
    half = variances(layout, contrast, scores, usable, units).half_width(level)
    return Interval(value, value - half, value + half)


@dataclass(frozen=True)
class Variances:
    """The two parts of the variance of a contrast, each with its degrees of freedom."""

    by_seed: float
    by_unit: float
    seed_freedom: float
    unit_freedom: int

    def half_width(self, level: float) -> float:
        """Half of the interval of this level (0 to 1), in the unit of the contrast."""
        from scipy.stats import t

        quantiles = t.ppf((1 + level) / 2, [self.seed_freedom, self.unit_freedom])
        return float((quantiles[0] ** 2 * self.by_seed + quantiles[1] ** 2 * self.by_unit) ** 0.5)


def variances(layout: Layout, contrast: np.ndarray, scores: np.ndarray, draws: np.ndarray, units: int) -> Variances:
    """The parts of the variance of a contrast [R], from the runs' scores [R] and their defined draws [B, R]."""
    parts = layout.by_cell(contrast, scores)
    small = units / (units - 1)  # the bootstrap's variance is that of the population of these units
    both = small * float(layout.by_cell(contrast, draws - draws.mean(0)).sum(-1).mean())
    by_image = max(small * float((draws @ contrast).var(ddof=1)) - both, 0.0)
    return Variances(float(parts.sum()), by_image, _freedom(parts, layout.seeds), units - 1)


def _freedom(parts: np.ndarray, seeds: int) -> float:
    """Degrees of freedom of the sum of independent variances [cells], each from `seeds` runs."""
    squares = float((parts**2).sum()) / (seeds + 1)
    most = float(np.count_nonzero(parts) * (seeds - 1))
    return min(max(float(parts.sum()) ** 2 / squares - 2, seeds - 1.0), most) if squares else seeds - 1.0


def costliest(
    layout: Layout,
    contrast: np.ndarray,
    scores: Mapping[str, np.ndarray],
    draws: Mapping[str, np.ndarray],
    names: Sequence[str],
    units: int,
) -> dict[str, tuple[str, Interval]]:
    """Which of `names` the contrast costs most and gains most: `{"costs": (name, effect), "gains": ...}`.

    Only those are named whose interval excludes 0 after it was widened for choosing among many (Bonferroni: 1 - 0.05 /
    number of names), so that noise names nothing more often than one time in twenty. And only a class that the runs
    find: one whose score is next to 0 in three quarters of the compared runs has nothing to lose in most of them.
    """
    level = 1 - (1 - LEVEL) / max(1, len(names))
    found = [name for name in names if (scores[name][contrast != 0] < FLOOR).mean() < 0.75]
    wide = {name: effect(layout, contrast, scores[name], draws[name], units, level) for name in found}
    result: dict[str, tuple[str, Interval]] = {}
    for key, sign in (("costs", -1), ("gains", 1)):
        sizes = {name: sign * (row.value or 0.0) for name, row in wide.items() if row.excludes_zero}
        mine = {name: size for name, size in sizes.items() if size > 0}
        if mine:
            name = max(mine, key=lambda name: mine[name])
            result[key] = name, effect(layout, contrast, scores[name], draws[name], units)
    return result

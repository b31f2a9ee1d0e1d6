"""Coverage of the intervals and false verdicts in simulated studies: `python -m benchmarks.coverage`.

Test images come in sequences: a quality that varies between sequences and between images of a sequence
(intra-class correlation `icc`) decides how many pixels or objects of an image are right. The true score is
that of a very large sample. Every study's interval is the one that `evaluate` and `report` compute.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.harness import arguments, save
from retrace.evaluation.detection import BoxScores
from retrace.evaluation.scores.matching import AREAS, ROW, THRESHOLDS, Matches
from retrace.evaluation.scores.segmentation import scores
from retrace.statistics import repeats
from retrace.statistics.bootstrap import Statistic, Units, bootstrap, intervals, of_totals, point
from retrace.statistics.verdicts import BETTER, POWER, WORSE, decide, paired_difference

DESIGNS = ((48, 1), (40, 5), (20, 5), (10, 5), (8, 30))  # sequences, images of each
CORRELATIONS = (0.0, 0.2, 0.5, 0.8)
METRICS = ("IoU", "mIoU", "AP50")
RESAMPLES = 400
MANY = 40_000  # images of the sample that stands for the truth
OWN = 0.4  # spread of what two models do differently, in the unit of the logit of the quality
SPREADS = (0.02, 0.1)  # of the trainings of a phase over seeds, in the same unit
SEEDS = (2, 3, 5)
SHIFT = 0.15  # how much better the second model is where there is a true difference


@dataclass(frozen=True)
class Study:
    """One simulated data set, scored by two models: a statistic each and the sequence of every image."""

    models: tuple[Statistic, Statistic]
    units: Units


def qualities(
    random: np.random.Generator, sequences: int, images: int, icc: float, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Share of right answers of two models, [sequences * images] each, in (0, 1).

    Half of the variance is the images' own difficulty, which both models share.
    """

    def by_sequence(spread: float) -> np.ndarray:
        between = random.normal(0, spread * np.sqrt(icc), (sequences, 1))
        within = random.normal(0, spread * np.sqrt(1 - icc), (sequences, images))
        return (between + within).ravel()

    shared = 1.0 + by_sequence(0.7)
    first, second = (1 / (1 + np.exp(-(shared + offset + by_sequence(OWN)))) for offset in (0.0, shift))
    return first, second


def segmentation(random: np.random.Generator, quality: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Confusion matrices int64 [N, 3, 3] of images with `sizes` [N, 3] pixels of each class."""
    right = random.binomial(sizes, quality[:, None])
    matrices = np.zeros((len(quality), 3, 3), dtype=np.int64)
    for label in range(3):
        matrices[:, label, label] = right[:, label]
        matrices[:, label, (label + 1) % 3] = sizes[:, label] - right[:, label]
    return matrices


def masks_scored(matrices: np.ndarray, only: str) -> Statistic:
    """The statistic of one score of confusion matrices: `mIoU`, or `IoU` of the first class."""
    whole = matrices.sum(0)

    def chosen(totals: np.ndarray) -> dict[str, np.ndarray]:
        found = scores(totals, whole=whole)
        return {"mIoU": found["mIoU"]} if only == "mIoU" else {"IoU": found["IoU"][..., 0]}

    return of_totals(chosen, matrices)


def boxes_scored(random: np.random.Generator, quality: np.ndarray, counts: np.ndarray) -> Statistic:
    """The statistic AP50 of one class, with `counts` [N] objects an image and false alarms between them."""
    hits = random.binomial(counts, quality)
    alarms = random.poisson(1.5 * (1 - quality))
    images = np.repeat(np.arange(len(quality)), hits + alarms)
    rows = np.zeros(len(images), ROW)
    rows["image"] = images
    first = np.cumsum(hits + alarms) - (hits + alarms)
    right = np.arange(len(images)) - first[images] < hits[images]
    rows["score"] = random.normal(np.where(right, 1.0, 0.0), 0.7)
    every = (1 << (len(THRESHOLDS) + 1)) - 1
    rows["hit"][:, 0] = right  # at an IoU of 0.5; the other thresholds and sizes are not looked at
    rows["ignored"][:, 1:] = every
    objects = np.zeros((len(quality), 1, len(AREAS)), dtype=np.int64)
    objects[:, 0, 0] = counts
    found = BoxScores(Matches(rows, objects), ["object"], 0.5, 0.5)
    return lambda weights: {"AP50": found(weights)["AP50"]}


def simulated(random: np.random.Generator, metric: str, sequences: int, images: int, icc: float, shift: float) -> Study:
    """A study of `sequences` times `images` test images."""
    first, second = qualities(random, sequences, images, icc, shift)
    units = Units(np.repeat(np.arange(sequences), images))
    if metric == "AP50":
        counts = 1 + random.poisson(2.0, len(first))
        models = (boxes_scored(random, first, counts), boxes_scored(random, second, counts))
    else:
        sizes = random.lognormal(6, 0.5, (len(first), 3)).astype(np.int64)
        models = tuple(  # type: ignore[assignment]
            masks_scored(segmentation(random, quality, sizes), metric) for quality in (first, second)
        )
    return Study(models, units)


def truth(metric: str, icc: float, shift: float) -> tuple[float, float]:
    """The two models' scores of a very large sample in which every image is a sequence of its own."""
    study = simulated(np.random.default_rng(99), metric, MANY, 1, icc, shift)
    ones = np.ones((1, MANY))
    first, second = (float(model(ones)[metric][0]) for model in study.models)
    return first, second


@dataclass(frozen=True)
class SeedsOutcome:
    """Shares of simulated studies; `detectable`: its mean."""

    decided: float  # the difference is called better or worse, without a margin
    detectable: float


@dataclass(frozen=True)
class Outcome(SeedsOutcome):
    """The same, with the coverage of the intervals."""

    covered: float  # the interval of the first model's score holds the true score
    difference_covered: float  # the interval of the difference holds the true difference


def outcome(metric: str, sequences: int, images: int, icc: float, studies: int, shift: float = 0.0) -> Outcome:
    """Simulate this many studies."""
    first, second = truth(metric, icc, shift)
    hits, between, decided, detectable = 0, 0, 0, 0.0
    for number in range(studies):
        random = np.random.default_rng([number, sequences, images, round(100 * icc)])
        study = simulated(random, metric, sequences, images, icc, shift)
        one = intervals(study.models[0], study.units, RESAMPLES, number)[metric]
        two = paired_difference(study.models[1], study.models[0], study.units, RESAMPLES, number)[metric]
        hits += one.low <= first <= one.high
        between += two.low <= second - first <= two.high
        decided += decide([two], margin=0.0)[0] in (BETTER, WORSE)
        detectable += two.detectable
    return Outcome(decided / studies, detectable / studies, hits / studies, between / studies)


def power(metric: str, sequences: int, images: int, icc: float, studies: int) -> dict[str, float]:
    """`{"promised", "simulated"}`: the mean detectable difference, and the one that 80 % of studies do find.

    The latter is interpolated between differences of known power around the former. Raises ValueError where
    these do not enclose 80 %.
    """
    return _power(metric, icc, lambda shift: outcome(metric, sequences, images, icc, studies, shift))


def _power(metric: str, icc: float, simulate: Callable[[float], SeedsOutcome]) -> dict[str, float]:
    grid = np.arange(0.0, 2.1, 0.2)
    stated = simulate(0.0).detectable
    wanted = stated * np.array([0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
    shifts = np.interp(wanted, [true_difference(metric, icc, shift) for shift in grid], grid)
    sizes = [true_difference(metric, icc, shift) for shift in shifts]
    found = [simulate(shift) for shift in shifts]
    decided = [row.decided for row in found]
    if not decided[0] < POWER <= decided[-1]:
        raise ValueError(f"{metric}, icc {icc}: differences {sizes} have power {decided}")
    reached = np.interp(POWER, decided, sizes)
    promised = np.interp(reached, sizes, [row.detectable for row in found])
    return {"promised": float(promised), "simulated": float(reached)}


def true_difference(metric: str, icc: float, shift: float) -> float:
    """How much better the second model is."""
    first, second = truth(metric, icc, shift)
    return second - first


def trainings(
    random: np.random.Generator,
    metric: str,
    sequences: int,
    images: int,
    icc: float,
    spread: float,
    shifts: list[float],
) -> tuple[list[Statistic], Units]:
    """One training for each of `shifts`, all scored on the same images.

    Each has an offset of its own (standard deviation `spread`, in the unit of the logit of the quality), beside what
    any two models do differently. shifts: how much better each is meant to be.
    """

    def by_sequence(size: float) -> np.ndarray:
        between = random.normal(0, size * np.sqrt(icc), (sequences, 1))
        within = random.normal(0, size * np.sqrt(1 - icc), (sequences, images))
        return (between + within).ravel()

    shared = 1.0 + by_sequence(0.7)
    sizes = random.lognormal(6, 0.5, (len(shared), 3)).astype(np.int64)
    counts = 1 + random.poisson(2.0, len(shared))
    models = []
    for shift in shifts:
        quality = 1 / (1 + np.exp(-(shared + shift + random.normal(0, spread) + by_sequence(OWN))))
        if metric == "AP50":
            models.append(boxes_scored(random, quality, counts))
        else:
            models.append(masks_scored(segmentation(random, quality, sizes), metric))
    return models, Units(np.repeat(np.arange(sequences), images))


def over_seeds(models: list[Statistic], units: Units, metric: str, number: int) -> repeats.Trained:
    """The scores and draws of the trainings of a phase, as the report makes them."""
    values = [point(model, units) for model in models]
    draws = [bootstrap(model, units, RESAMPLES, number)[metric] for model in models]
    return np.array([float(value[metric]) for value in values]), np.stack(draws, axis=1)


def seeds_outcome(
    metric: str, sequences: int, images: int, icc: float, spread: float, seeds: int, studies: int, shift: float = 0.0
) -> SeedsOutcome:
    """Simulate this many studies of two phases with `seeds` trainings each."""
    decided, detectable = 0, 0.0
    for number in range(studies):
        random = np.random.default_rng([number, sequences, images, round(100 * icc), seeds])
        models, units = trainings(random, metric, sequences, images, icc, spread, [0.0] * seeds + [shift] * seeds)
        first, second = (over_seeds(part, units, metric, number) for part in (models[:seeds], models[seeds:]))
        found = repeats.difference(second, first, units.count)
        decided += decide([found], margin=0.0)[0] in (BETTER, WORSE)
        detectable += found.detectable or 0.0
    return SeedsOutcome(decided / studies, detectable / studies)


def seeds_power(
    metric: str, sequences: int, images: int, icc: float, spread: float, seeds: int, studies: int
) -> dict[str, float]:
    """`power` for two phases with several seeds."""

    def simulate(shift: float) -> SeedsOutcome:
        return seeds_outcome(metric, sequences, images, icc, spread, seeds, studies, shift)

    return _power(metric, icc, simulate)


def main() -> None:
    """Simulate every design and write benchmarks/results/coverage.json."""
    parser = arguments(__doc__, repetitions=1)
    parser.add_argument("--studies", type=int, default=600, help="simulated studies of each design")
    options = parser.parse_args()
    rows = []
    for metric in METRICS:
        for sequences, images in DESIGNS:
            for icc in CORRELATIONS if images > 1 else (0.0,):
                found = outcome(metric, sequences, images, icc, options.studies)
                apart = outcome(metric, sequences, images, icc, options.studies, SHIFT)
                rows.append(
                    {"metric": metric, "sequences": sequences, "images": images, "icc": icc}
                    | {"covered": found.covered, "difference_covered": apart.difference_covered}
                    | {"false_verdicts": found.decided}
                )
                print(rows[-1], flush=True)
    powers = [
        {"metric": metric, "sequences": sequences, "images": images, "icc": icc}
        | power(metric, sequences, images, icc, options.studies)
        for metric in METRICS
        for sequences, images, icc in ((48, 1, 0.0), (40, 5, 0.5))
    ]
    save("coverage", options.tiny, rows, studies=options.studies, power=powers, seeds=_seeds(options.studies))


def _seeds(studies: int) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    for sequences, images, icc in ((48, 1, 0.0), (40, 5, 0.5)):
        for spread in SPREADS:
            for seeds in SEEDS:
                design = (METRICS[0], sequences, images, icc, spread, seeds, studies)
                found = seeds_outcome(*design)
                rows.append(
                    {"metric": METRICS[0], "sequences": sequences, "images": images, "icc": icc, "spread": spread}
                    | {"seeds": seeds, "studies": studies, "false_verdicts": found.decided}
                    | (seeds_power(*design) if seeds > 2 else {})
                )
                print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()

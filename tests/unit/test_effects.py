"""Effects of factors on simulated runs whose effects are known: intervals cover, and nothing is invented."""

import itertools

import numpy as np
import pytest

from retrace.statistics.effects import Layout, costliest, effect, interactions, main_effects, together
from retrace.statistics.estimate import Interval
from retrace.sweeps.design import cells, training_seed

DRAWS = 100


def layout(design="full", factors=2, seeds=2):
    combinations = cells(design, factors)
    return Layout(np.repeat(np.arange(len(combinations)), seeds), np.repeat(np.array(combinations), seeds, axis=0))


class World:
    """Scores per image [N, R]: known effects, and spread by seed, by image, by both, and of the effect over images.

    What a training seed brings is drawn once for each seed: `by_seed` the same whatever is on, `by_seed_and_factor`
    another for every factor that is on (seed x factor interaction). Where the first factor is on, the spread by seed is
    `uneven` times as wide.
    """

    def __init__(
        self, runs, images, by_seed=0.3, by_image=5.0, both=3.0, varying=0.0, by_seed_and_factor=0.0, uneven=1.0
    ):
        self.runs, self.images = runs, images
        self.by_seed, self.by_image, self.both, self.varying = by_seed, by_image, both, varying
        self.by_seed_and_factor, self.uneven = by_seed_and_factor, uneven
        labels = np.tile(np.arange(runs.seeds), len(runs.cells) // runs.seeds)
        names = [[f"f{index}" for index in np.flatnonzero(row)] for row in runs.levels]
        numbers = [training_seed(int(label), on) for label, on in zip(labels, names, strict=True)]
        self.seed_of = np.unique(numbers, return_inverse=True)[1]

    def draw(self, random, truth):
        """(scores [R], scores on resamples [DRAWS, R]) of one ablation; truth [R] is what is expected of each run."""
        levels, (size, factors) = self.runs.levels, self.runs.levels.shape
        seeds = self.seed_of.max() + 1
        noise = random.normal(0, self.by_seed, seeds)[self.seed_of]
        noise = noise + (levels * random.normal(0, self.by_seed_and_factor, (seeds, factors))[self.seed_of]).sum(1)
        scores = truth + noise * np.where(levels[:, 0], self.uneven, 1.0)
        scores = scores + random.normal(0, self.by_image, self.images)[:, None]
        scores = scores + (levels @ random.normal(0, self.varying, (factors, self.images))).T
        scores = scores + random.normal(0, self.both, (self.images, size))
        weights = random.multinomial(self.images, np.full(self.images, 1 / self.images), DRAWS) / self.images
        return scores.mean(0), weights @ scores


def coverage(design, factors, seeds, times, images, **spread):
    """Share of the intervals that hold the known effect, by kind: main effects, then interactions, all together."""
    runs = layout(design, factors, seeds)
    world, random = World(runs, images, **spread), np.random.default_rng(5)
    effects = np.arange(factors) - 1.0
    truth, joint = runs.levels @ effects, 0.0
    contrasts = [(row, effects[index]) for index, row in enumerate(main_effects(runs, design))]
    if design == "full" and factors > 1:
        joint = 1.5
        truth = truth + joint * runs.levels[:, 0] * runs.levels[:, 1]
        contrasts = [(row, known + joint / 2 * (index < 2)) for index, (row, known) in enumerate(contrasts)]
        contrasts += [(row, joint / 2 * (pair == (0, 1))) for pair, row in interactions(runs).items()]
        contrasts.append((together(runs), effects.sum() + joint))
    kinds = np.array([0] * factors + [1] * (len(contrasts) - factors - bool(joint)) + [2] * bool(joint))
    hits = np.zeros(len(contrasts))
    for _ in range(times):
        scores, draws = world.draw(random, truth)
        for index, (contrast, known) in enumerate(contrasts):
            found = effect(runs, contrast, scores, draws, images)
            hits[index] += found.low <= known <= found.high
    return [hits[kinds == kind].mean() / times for kind in np.unique(kinds)]


NO_IMAGES = {"images": 30, "by_image": 0.1, "both": 0.1, "varying": 0.0}  # all that counts is what seeds do
WORLDS = [
    ("full", 2, 2, {"images": 30}),
    ("full", 4, 2, {"images": 40, "by_seed": 1.0}),
    ("full", 3, 2, {"images": 40, "by_seed": 0.05, "both": 6.0}),
    ("full", 2, 3, {"images": 40, "varying": 4.0}),
    ("one-at-a-time", 4, 2, {"images": 40, "varying": 2.0}),
    ("leave-one-out", 3, 3, {"images": 25}),
    ("full", 1, 2, {"images": 30, "by_seed": 1.0, "by_image": 1.0, "both": 1.0, "varying": 1.0}),
]
SEED_WORLDS = [  # a seed acts on one change otherwise than on another; where a change is made, a seed does more
    ("full", 4, 2, {**NO_IMAGES, "by_seed": 1.0, "by_seed_and_factor": 1.0}),
    ("full", 2, 3, {**NO_IMAGES, "by_seed": 1.0, "by_seed_and_factor": 1.0}),
    ("one-at-a-time", 3, 3, {**NO_IMAGES, "by_seed": 1.0, "by_seed_and_factor": 1.0}),
    ("leave-one-out", 3, 2, {**NO_IMAGES, "by_seed": 1.0, "by_seed_and_factor": 1.0}),
    ("full", 3, 2, {**NO_IMAGES, "by_seed": 1.0, "uneven": 3.0}),
    ("full", 2, 2, {**NO_IMAGES, "by_seed": 1.0, "uneven": 3.0}),
    ("one-at-a-time", 4, 3, {**NO_IMAGES, "by_seed": 1.0, "uneven": 3.0}),
    ("leave-one-out", 3, 2, {**NO_IMAGES, "by_seed": 1.0, "uneven": 3.0}),
]


@pytest.mark.parametrize("design, factors, seeds, spread", [WORLDS[0], WORLDS[2], WORLDS[3]])
def test_intervals_hold_known_effects_at_their_rate(design, factors, seeds, spread):
    assert all(0.92 <= share <= 0.99 for share in coverage(design, factors, seeds, times=200, **spread))


@pytest.mark.parametrize("design, factors, seeds, spread", SEED_WORLDS[:6:2])
def test_intervals_hold_where_a_seed_acts_on_some_changes_only_or_more_on_some(design, factors, seeds, spread):
    shares = coverage(design, factors, seeds, times=600, **spread)
    assert all(0.92 <= share <= 0.99 for share in shares)  # one share of 95 % has a standard error of 0.9 %


@pytest.mark.slow
@pytest.mark.parametrize("design, factors, seeds, spread", WORLDS + SEED_WORLDS)
def test_intervals_hold_known_effects_at_their_rate_in_every_world(design, factors, seeds, spread):
    shares = coverage(design, factors, seeds, times=800, **spread)
    assert all(0.92 <= share <= 0.99 for share in shares)  # standard error 0.8 %


def test_no_effect_is_invented_and_large_ones_are_found():
    runs = layout(factors=3)
    world, random = World(runs, images=40), np.random.default_rng(11)
    contrast = main_effects(runs, "full")[0]
    excluded = {0.0: 0, 3.0: 0}
    for size in excluded:
        for _ in range(300):
            scores, draws = world.draw(random, size * runs.levels[:, 0])
            found = effect(runs, contrast, scores, draws, 40)
            excluded[size] += not found.low <= 0 <= found.high
    assert excluded[0.0] / 300 < 0.08
    assert excluded[3.0] / 300 > 0.9


def test_no_class_is_blamed_without_cause_and_the_right_one_with():
    runs = layout(factors=3)
    world, random = World(runs, images=40), np.random.default_rng(3)
    contrast, names = main_effects(runs, "full")[0], [f"IoU/{letter}" for letter in "abcdefgh"]
    blamed, right = 0, 0
    for _ in range(150):
        both = {name: world.draw(random, np.full(len(runs.cells), 50.0)) for name in names}
        scores, draws = ({name: pair[index] for name, pair in both.items()} for index in (0, 1))
        blamed += bool(costliest(runs, contrast, scores, draws, names, 40))
        scores["IoU/c"] = scores["IoU/c"] - 6.0 * runs.levels[:, 0]
        draws["IoU/c"] = draws["IoU/c"] - 6.0 * runs.levels[:, 0]
        right += costliest(runs, contrast, scores, draws, names, 40).get("costs", ("",))[0] == "IoU/c"
        if named := costliest(runs, contrast, scores, draws, names, 40).get("costs"):
            name, found = named
            assert found == effect(runs, contrast, scores[name], draws[name], 40)
    assert blamed / 150 < 0.1
    assert right / 150 > 0.95


def test_contrasts_are_the_textbook_differences_of_means():
    runs = layout(factors=3, seeds=2)
    scores = np.random.default_rng(0).normal(size=16)
    for factor in range(3):
        on = runs.levels[:, factor] == 1
        assert main_effects(runs, "full")[factor] @ scores == pytest.approx(scores[on].mean() - scores[~on].mean())
    for (f, g), contrast in interactions(runs).items():

        def of_f(level, f=f, g=g):
            chosen = runs.levels[:, g] == level
            on = runs.levels[:, f] == 1
            return scores[chosen & on].mean() - scores[chosen & ~on].mean()

        assert contrast @ scores == pytest.approx((of_f(1) - of_f(0)) / 2)
    assert together(runs) @ scores == pytest.approx(scores[-2:].mean() - scores[:2].mean())


@pytest.mark.parametrize("design, base", [("one-at-a-time", 0), ("leave-one-out", 1)])
def test_small_designs_compare_with_their_base(design, base):
    runs = layout(design, factors=3, seeds=2)
    scores = runs.levels @ np.array([1.0, 10.0, 100.0]) + np.tile([0.0, 7.0], 4)
    assert main_effects(runs, design) @ scores == pytest.approx([1, 10, 100])
    assert len(cells(design, 3)) == 4 and cells(design, 3)[0] == (base,) * 3


def test_undefined_scores_make_no_numbers():
    runs = layout()
    contrast, scores = main_effects(runs, "full")[0], np.arange(8.0)
    draws = np.random.default_rng(0).normal(size=(50, 8)) + scores
    assert effect(runs, contrast, np.where(np.arange(8) == 3, np.nan, scores), draws, 9).value is None
    some = draws.copy()
    some[:10, 2] = np.nan
    assert effect(runs, contrast, scores, some, 9) == effect(runs, contrast, scores, some[10:], 9)
    assert effect(runs, contrast, scores, draws, 1).low is None


def test_runs_that_all_score_the_same_have_no_interval():
    runs = layout("one-at-a-time", factors=2)
    scores = np.array([0.0, 0.0, 0.0, 0.0, 0.5, 0.6])
    draws = np.tile(scores, (50, 1))
    first, second = main_effects(runs, "one-at-a-time")
    assert effect(runs, first, scores, draws, 9) == Interval(0.0)
    assert effect(runs, second, scores, draws, 9).low is not None


def test_a_class_that_nearly_no_run_finds_is_not_named():
    runs = layout(factors=3)
    random = np.random.default_rng(0)
    contrast = main_effects(runs, "full")[0]
    only = (runs.levels == 0).all(1) * 0.5 + random.normal(0, 1e-4, 16)  # found without any change alone
    often = 0.4 - 0.05 * runs.levels[:, 0] + random.normal(0, 1e-3, 16)
    scores = {"IoU/rare": only, "IoU/road": often}
    draws = {name: row + random.normal(0, 1e-4, (50, 1)) for name, row in scores.items()}
    assert effect(runs, contrast, only, draws["IoU/rare"], 40).high < -0.1
    assert costliest(runs, contrast, scores, draws, list(scores), 40)["costs"][0] == "IoU/road"
    half = {"IoU/rare": 0.5 * (runs.levels[:, 0] == 0) + random.normal(0, 1e-4, 16)}  # the change itself loses it
    assert costliest(runs, contrast, half, draws, list(half), 40)["costs"][0] == "IoU/rare"


def test_a_layout_without_replicates_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        layout(seeds=1)
    with pytest.raises(ValueError, match="every cell"):
        Layout(np.array([0, 0, 1]), np.array([[0], [0], [1]]))


def test_every_design_names_each_cell_once():
    for design, factors in itertools.product(("full", "one-at-a-time", "leave-one-out"), (1, 2, 4)):
        found = cells(design, factors)
        assert len(set(found)) == len(found) == (2**factors if design == "full" else factors + 1)

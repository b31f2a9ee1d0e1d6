"""The integer program against every possible assignment of small cases."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrace.data.rebalancing import Infeasible, Problem, assign

TRAIN, VAL, TEST = range(3)


@st.composite
def problems(draw):
    images = draw(st.integers(2, 9))
    classes = draw(st.integers(1, 3))
    amounts = st.lists(st.integers(0, 3), min_size=classes, max_size=classes)
    given_split = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=images, max_size=images))
    given_split[0] = TRAIN
    unit = draw(st.lists(st.integers(0, images - 1), min_size=images, max_size=images))
    _, unit = np.unique(unit, return_inverse=True)
    needs = st.lists(st.integers(0, 4), min_size=classes, max_size=classes)
    return Problem(
        given=np.array(given_split),
        unit=unit,
        instances=np.array(draw(st.lists(amounts, min_size=images, max_size=images))),
        minimum=np.array([draw(needs), draw(needs)]),
    )


def allowed_targets(problem):
    """Every assignment of units to splits that the rules allow, as splits per image."""
    choices = []
    for unit in range(problem.unit.max() + 1):
        present = set(problem.given[problem.unit == unit].tolist())
        choices.append(sorted(present | ({VAL, TEST} if TRAIN in present else set())))
    for combination in itertools.product(*choices):
        yield np.array(combination)[problem.unit]


def totals(problem, target, split):
    return problem.instances[target == split].sum(axis=0)


def keeps_train_and_splits(problem, target, but=()):
    had = totals(problem, problem.given, TRAIN) > 0
    filled = all((target == s).any() for s in set(problem.given.tolist()) - set(but))
    return filled and (totals(problem, target, TRAIN)[had] > 0).all()


def feasible(problem, target):
    enough = all((totals(problem, target, s) >= problem.minimum[s - 1]).all() for s in (VAL, TEST))
    return enough and keeps_train_and_splits(problem, target)


def cost(problem, target):
    moved = target != problem.given
    return int(moved.sum()), int((moved & (problem.given != TRAIN)).sum())


@settings(max_examples=60, deadline=None)
@given(problems())
def test_moves_as_few_images_as_the_best_of_all_assignments(problem):
    best = min((cost(problem, t) for t in allowed_targets(problem) if feasible(problem, t)), default=None)
    order = np.arange(problem.unit.max() + 1)
    if best is None:
        with pytest.raises(Infeasible):
            assign(problem, order)
        return
    target = assign(problem, order)
    assert feasible(problem, target)
    assert any(np.array_equal(target, other) for other in allowed_targets(problem))
    assert cost(problem, target) == best


@settings(max_examples=50, deadline=None)
@given(problems())
def test_shortfalls_add_up_to_the_least_that_any_assignment_misses(problem):
    try:
        assign(problem, np.arange(problem.unit.max() + 1))
    except Infeasible as error:
        shortfalls = error.shortfalls
    else:
        return
    options = [t for t in allowed_targets(problem) if keeps_train_and_splits(problem, t, but=(VAL, TEST))]

    def missed(target):
        short = sum(np.maximum(problem.minimum[s - 1] - totals(problem, target, s), 0).sum() for s in (VAL, TEST))
        return int(short) + sum(not (target == s).any() for s in set(problem.given.tolist()) - {TRAIN})

    assert sum(s.needed - s.reached for s in shortfalls) == min(map(missed, options)) > 0
    for s in shortfalls:
        split = ("train", "val", "test").index(s.split)
        reach = [(t == split).any() if s.index is None else totals(problem, t, split)[s.index] for t in options]
        assert s.alone == min(max(reach), s.needed)
        assert s.reached <= s.alone


@st.composite
def spared(draw):
    problem = draw(problems())
    units = int(problem.unit.max()) + 1
    whole = [set(problem.given[problem.unit == unit].tolist()) == {TRAIN} for unit in range(units)]
    fixed = np.array(whole) & np.array(draw(st.lists(st.booleans(), min_size=units, max_size=units)))
    classes = problem.instances.shape[1]
    least = draw(st.lists(st.integers(0, 3), min_size=classes, max_size=classes))
    return dataclasses.replace(problem, spare_train=True, fixed=fixed, least_in_train=np.array(least))


def held(problem, chosen):
    """Units that hold each class among the chosen images, by a loop."""
    counts = []
    for column in range(problem.instances.shape[1]):
        counts.append(len({u for u, a, c in zip(problem.unit, problem.instances[:, column], chosen, strict=True)
                           if a and c}))  # fmt: skip
    return np.array(counts)


def whole_units(problem, target):
    """Units that hold each class and end in train, val and test."""
    return [held(problem, np.isin(problem.unit, problem.unit[target == split])) for split in (TRAIN, VAL, TEST)]


def spared_feasible(problem, target):
    train, val, test = whole_units(problem, target)
    stays = all((target[problem.unit == unit] == TRAIN).all() for unit in np.flatnonzero(problem.fixed))
    enough = (val >= problem.minimum[0]).all() and (test >= problem.minimum[1]).all()
    return bool(
        stays and enough and (train >= problem.least_in_train).all() and keeps_train_and_splits(problem, target)
    )


def spared_cost(problem, target):
    """Thousandths of an image: those that move, and for units taken from train the share that each class loses."""
    total = 1000 * int((target != problem.given).sum())
    in_train = problem.given == TRAIN
    before = np.maximum(held(problem, in_train), 1)
    for unit in range(problem.unit.max() + 1):
        mine = problem.unit == unit
        if target[mine][0] != TRAIN:
            share = (held(problem, mine & in_train) / before).mean()
            total += round(1000 * int(in_train.sum()) * share)
    return total


@settings(max_examples=60, deadline=None)
@given(spared())
def test_spared_train_loses_as_little_as_in_the_best_of_all_assignments(problem):
    costs = [spared_cost(problem, t) for t in allowed_targets(problem) if spared_feasible(problem, t)]
    order = np.arange(problem.unit.max() + 1)
    if not costs:
        with pytest.raises(Infeasible):
            assign(problem, order)
        return
    target = assign(problem, order)
    assert spared_feasible(problem, target)
    assert spared_cost(problem, target) == min(costs)


def test_alike_images_move_in_the_order_given():
    alike = Problem(
        given=np.array([0, 0, 0, 0, 1]), unit=np.arange(5), instances=np.ones((5, 1), int), minimum=np.array([[3], [0]])
    )
    assert assign(alike, np.array([2, 0, 3, 1, 4])).tolist() == [0, 1, 0, 1, 1]


def test_of_two_equal_ways_val_keeps_its_images():
    straddling = Problem(
        given=np.array([0, 1, 0, 1]),
        unit=np.array([0, 0, 1, 2]),
        instances=np.ones((4, 1), int),
        minimum=np.array([[0], [0]]),
    )
    assert assign(straddling, np.arange(3)).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(("classes", "detection"), [(4, True), (19, False), (19, True)])
def test_ten_thousand_images_take_seconds(classes, detection):
    rng = np.random.default_rng(classes)
    n = 10_000
    rate = np.geomspace(2.0, 0.004, classes)
    instances = rng.poisson(rate, (n, classes)) if detection else rng.random((n, classes)) < rate
    problem = Problem(
        given=rng.choice(3, n, p=[0.8, 0.15, 0.05]),
        unit=np.unique(rng.integers(0, n, n), return_inverse=True)[1],
        instances=instances.astype(np.int64),
        minimum=np.array([[18] * classes, [12] * classes]),
    )
    started = time.process_time()
    target = assign(problem, np.arange(problem.unit.max() + 1))
    assert time.process_time() - started < 30
    assert feasible(problem, target)

"""The split with its minimums met and its leaks closed by moving as few images as possible: an exact integer program.

A *unit* is a set of images that must stay in one split (near-duplicates, groups). It may go to any split in which one
of its images already lies, and from train to val or test; val and test give nothing away unless a unit straddles them.
Minimised: the images that leave the split they were given; among equals, the images that leave val or test. With
`spare_train`, a unit counts once however many of its images show a class, units of copies stay in train, and an image
that leaves train costs more the larger the share of train's units is that it takes from a class. Solved by HiGHS
(`scipy.optimize.milp`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack

Indices = NDArray[np.int64]
SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
SCALE = 1000  # costs are whole numbers: thousandths of an image where train is spared


@dataclass(frozen=True)
class Problem:
    """What is given. Every class that is in train as given stays in train, every split that is given stays filled."""

    given: Indices  # [n] index into SPLITS
    unit: Indices  # [n] unit of each image, labels 0..u-1
    instances: Indices  # [n, C] instances per class
    minimum: Indices  # [2, C] instances that val and test must have
    least_in_train: Indices | None = None  # [C] instances that train must keep
    spare_train: bool = False  # count units instead of instances, weigh what train loses
    fixed: NDArray[np.bool_] | None = None  # [u] units that stay in train


@dataclass(frozen=True)
class Shortfall:
    """One demand that cannot be met together with the others."""

    split: str
    index: int | None  # class; None: the split itself would be left without an image
    needed: int
    reached: int  # in the solution that misses as little as possible in all
    alone: int  # at most, if this were the only demand


class Infeasible(Exception):
    """No assignment meets all demands; `shortfalls` says which are missed and by how much."""

    def __init__(self, shortfalls: list[Shortfall]):
        super().__init__(f"{len(shortfalls)} demands cannot be met")
        self.shortfalls = shortfalls


@dataclass(frozen=True)
class _Demand:
    split: int
    column: int  # of _Units.amounts
    need: int


@dataclass(frozen=True)
class _Units:
    """The problem per unit: images by given split [u, 3] and amounts [u, C + 1] (instances per class, then images).

    extra: [u, 0] or [u, 2]: whether the unit stays in train, and what train loses with it in thousandths of an image.
    """

    images: Indices
    amounts: Indices
    extra: Indices

    @property
    def spared(self) -> bool:
        """Whether what train loses is weighed."""
        return self.extra.shape[1] > 0

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Splits a unit may end in: [u, 3]."""
        present = self.images > 0
        free = present | present[:, [TRAIN]]
        if self.spared:
            free[self.extra[:, 0] > 0] = np.arange(len(SPLITS)) == TRAIN
        return free


def assign(problem: Problem, order: Indices) -> Indices:
    """The split of every image, int64 [n].

    order: int [u], distinct; where it does not matter which of several alike units moves, the smallest goes first.
    Raises `Infeasible`. A demand is added only once an optimum without it breaks it, so that units differ in few
    columns and many are interchangeable; the last optimum meets every demand and is thus one of the whole program.
    """
    units = _units(problem)
    demands = _demands(problem, units)
    active: list[_Demand] = []
    fewest = None  # cost; known once an optimum meets every demand, then the images leaving val or test count
    while True:
        target = _solve(units, active, order, fewest)
        if target is None:
            raise Infeasible(_shortfalls(units, demands))
        broken = [d for d in demands if units.amounts[target == d.split, d.column].sum() < d.need]
        if set(broken) & set(active):
            raise RuntimeError(f"HiGHS: its optimum breaks {set(broken) & set(active)}")
        active += broken
        splits = target[problem.unit]
        if not broken:
            moved = splits != problem.given
            if fewest is not None or not (moved & (problem.given != TRAIN)).any():
                return splits
            fewest = int(_costs(units)[0][np.arange(len(target)), target].sum())


def _units(problem: Problem) -> _Units:
    count = int(problem.unit.max(initial=-1)) + 1
    images = np.zeros((count, len(SPLITS)), dtype=np.int64)
    np.add.at(images, (problem.unit, problem.given), 1)
    amounts = np.zeros((count, problem.instances.shape[1] + 1), dtype=np.int64)
    np.add.at(amounts, problem.unit, np.column_stack([problem.instances, np.ones_like(problem.given)]))
    if not problem.spare_train:
        return _Units(images, amounts, np.empty((count, 0), dtype=np.int64))
    amounts[:, :-1] = amounts[:, :-1] > 0
    fixed = np.zeros(count, dtype=np.int64) if problem.fixed is None else problem.fixed.astype(np.int64)
    return _Units(images, amounts, np.column_stack([fixed, _loss(problem, images)]))


def _loss(problem: Problem, images: Indices) -> Indices:
    """What train loses with each unit, in thousandths of an image: int64 [u].

    The mean over the classes of the share of train's units that hold the class, times the number of train's images.
    """
    held = np.zeros((len(images), problem.instances.shape[1]), dtype=np.int64)
    in_train = problem.given == TRAIN
    np.add.at(held, problem.unit[in_train], problem.instances[in_train])
    share = (held > 0) / np.maximum((held > 0).sum(axis=0), 1)
    return np.rint(SCALE * int(in_train.sum()) * share.mean(axis=1)).astype(np.int64)


def _demands(problem: Problem, units: _Units) -> list[_Demand]:
    """Each class of train stays in train, each split stays filled, each class has its minimum."""
    classes = problem.instances.shape[1]
    in_train = problem.instances[problem.given == TRAIN].sum(axis=0)
    demands = [_Demand(TRAIN, c, 1) for c in range(classes) if in_train[c]]
    if problem.least_in_train is not None:
        demands += [_Demand(TRAIN, c, int(need)) for c, need in enumerate(problem.least_in_train) if need > 0]
    demands += [_Demand(s, classes, 1) for s in range(len(SPLITS)) if units.images[:, s].any()]
    for split, row in zip((VAL, TEST), problem.minimum, strict=True):
        demands += [_Demand(split, c, int(need)) for c, need in enumerate(row) if need > 0]
    return demands


def _solve(units: _Units, demands: list[_Demand], order: Indices, fewest: int | None) -> Indices | None:
    """Split of every unit, int64 [u], with the fewest moved images; None if the demands cannot be met.

    fewest: if given, that number of moved images is kept and the fewest of them leave val or test.
    """
    columns = sorted({d.column for d in demands})
    most = {c: max(d.need for d in demands if d.column == c) for c in columns}
    # more than a demand needs is as good as exactly what it needs, and makes more units alike
    amounts = [np.minimum(units.amounts[:, c], most[c]) for c in columns]
    rows = np.column_stack([units.images, *amounts, units.extra])
    kinds, kind, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    last = 3 + len(columns)
    inner = _Units(kinds[:, :3], kinds[:, 3:last], kinds[:, last:])
    inner_demands = [_Demand(d.split, columns.index(d.column), d.need) for d in demands]
    moved, leaving = _costs(inner)
    cost = moved if fewest is None else leaving
    constraints = [LinearConstraint(_dealt(len(kinds)), count, count)]
    if demands:
        constraints.append(LinearConstraint(*_rows(inner, inner_demands)))
    if fewest is not None:
        constraints.append(LinearConstraint(moved.reshape(1, -1), ub=fewest))
    result = milp(
        cost.ravel(),
        integrality=np.ones(cost.size),
        bounds=Bounds(0, (inner.allowed * count[:, None]).ravel()),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if result.status == 2:
        return None
    if result.x is None:
        raise RuntimeError(f"HiGHS: {result.message}")
    share = np.rint(result.x).astype(np.int64).reshape(cost.shape)
    if (share.sum(axis=1) != count).any():
        raise RuntimeError("HiGHS: the rounded solution does not deal out every unit")
    return _deal(kind, share, inner, order)


def _costs(units: _Units) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cost of a move, and images moved out of val or test, if a unit goes to a split: [u, 3] each.

    The cost is the number of images moved; where train is spared, thousandths of it and what train loses.
    """
    moved = units.images.sum(axis=1, keepdims=True) - units.images
    elsewhere = np.arange(len(SPLITS)) != TRAIN
    leaving = moved - np.where(elsewhere, units.images[:, [TRAIN]], 0)
    cost = SCALE * moved + np.where(elsewhere, units.extra[:, [1]], 0) if units.spared else moved
    return cost.astype(np.float64), leaving.astype(np.float64)


def _rows(units: _Units, demands: list[_Demand]) -> tuple[csr_array, Indices]:
    """Demands as `rows @ x >= lower` over x = units x splits, flat."""
    size = len(units.images) * len(SPLITS)
    rows, columns, values = [], [], []
    for number, demand in enumerate(demands):
        amounts = np.minimum(units.amounts[:, demand.column], demand.need)
        (holders,) = np.nonzero(amounts)
        rows.append(np.full(len(holders), number))
        columns.append(holders * len(SPLITS) + demand.split)
        values.append(amounts[holders])
    lower = np.array([demand.need for demand in demands], dtype=np.int64)
    if not demands:
        return csr_array((0, size)), lower
    parts = (np.concatenate(values).astype(float), (np.concatenate(rows), np.concatenate(columns)))
    return coo_array(parts, shape=(len(demands), size)).tocsr(), lower


def _dealt(units: int) -> csr_array:
    """Sum over the splits of each unit: [u, u * 3]."""
    columns = np.arange(units * len(SPLITS))
    parts = (np.ones(len(columns)), (columns // len(SPLITS), columns))
    return coo_array(parts, shape=(units, len(columns))).tocsr()


def _deal(kind: Indices, share: Indices, kinds: _Units, order: Indices) -> Indices:
    """Alike units in `order`: first those that move most, the cheapest split takes the rest."""
    target = np.empty(len(kind), dtype=np.int64)
    by_kind = np.lexsort((order, kind))
    start = np.searchsorted(kind[by_kind], np.arange(len(share)))
    for index, (row, home) in enumerate(zip(share, kinds.images, strict=True)):
        dearest_first = sorted(range(len(SPLITS)), key=lambda split: (home[split], split))
        dealt = np.repeat(dearest_first, row[dearest_first])
        target[by_kind[start[index] : start[index] + len(dealt)]] = dealt
    return target


def _shortfalls(units: _Units, demands: list[_Demand]) -> list[Shortfall]:
    """The demands that the least violating assignment misses (elastic program: one slack per soft demand)."""
    for_train = units.amounts[units.allowed[:, TRAIN]]
    hard = [d for d in demands if d.split == TRAIN and d.need == 1 and for_train[:, d.column].any()]
    soft = [d for d in demands if d not in hard]
    slack = _elastic(units, hard, soft)
    found = []
    for demand, missing in zip(soft, slack, strict=True):
        if missing:
            (alone,) = _elastic(units, hard, [demand])
            column = demand.column if demand.column < units.amounts.shape[1] - 1 else None
            reached, most = demand.need - int(missing), demand.need - int(alone)
            found.append(Shortfall(SPLITS[demand.split], column, demand.need, reached, most))
    return found


def _elastic(units: _Units, hard: list[_Demand], soft: list[_Demand]) -> Indices:
    """Least total slack of the soft demands under the hard ones: int64 [number of soft demands]."""
    size, slacks = units.images.size, len(soft)
    rows, lower = _rows(units, [*hard, *soft])
    eye = coo_array((np.ones(slacks), (len(hard) + np.arange(slacks), np.arange(slacks))), shape=(len(lower), slacks))
    dealt = hstack([_dealt(len(units.images)), csr_array((len(units.images), slacks))])
    upper = np.concatenate([units.allowed.ravel().astype(float), [d.need for d in soft]])
    result = milp(
        np.concatenate([np.zeros(size), np.ones(slacks)]),
        integrality=np.ones(size + slacks),
        bounds=Bounds(0, upper),
        constraints=[LinearConstraint(dealt, 1, 1), LinearConstraint(hstack([rows, eye]), lower)],
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise RuntimeError(f"HiGHS: {result.message}")
    return np.rint(result.x[size:]).astype(np.int64)

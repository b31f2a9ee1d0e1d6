"""Which images belong together, and the integer program that a study's parameters ask for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrace.config.schema import Params
from retrace.data.audit import instances
from retrace.data.duplicates import Indices, by_first_appearance, hash_array, join, near_duplicate_sets
from retrace.data.names import photographs
from retrace.data.rebalancing import SPLITS, TRAIN, Problem
from retrace.documents.manifest import Record
from retrace.documents.splits import ClassLoss
from retrace.seeds import derive

LARGEST_LOSS = 1 / 3  # of train's groups that hold a class; more is a warning


def partitions(records: list[Record], distance: int) -> dict[str, Indices]:
    """Labels int64 [n] of byte-identical copies (`exact`), of near-duplicates (`near`) and of `groups`."""
    groups = [f"group {r.group}" if r.group else f"image {r.id}" for r in records]
    return {
        "exact": labels([r.sha256 for r in records]),
        "near": near_duplicate_sets(hash_array([r.phash for r in records]), distance),
        "groups": labels(groups),
    }


def labels(keys: list[str]) -> Indices:
    """Equal keys -> equal labels 0, 1, ...: int64 [n]."""
    return by_first_appearance(np.unique(keys, return_inverse=True)[1])


def units_of(parts: dict[str, Indices], keep_groups: bool) -> Indices:
    """What must stay in one split: int64 [n]."""
    return join(parts["exact"], parts["near"], *([parts["groups"]] if keep_groups else []))


def copies_of(records: list[Record]) -> Indices:
    """Labels int64 [n] of the copies of one photograph, by their names."""
    return labels(photographs([record.source for record in records]))


def problem_of(records: list[Record], params: Params) -> Problem:
    """The program for the labeled images; with `spare_train`, copies of one photograph stay together too."""
    options = params.rebalance
    units = units_of(partitions(records, options.duplicate_distance), options.keep_groups)
    given = np.array([SPLITS.index(str(record.split)) for record in records])
    least = options.min_pixels if params.task == "segmentation" else None
    amounts = [instances(record, params.classes, least) for record in records]
    asked = np.array([options.classes is None or name in options.classes for name in params.classes])
    minimum = np.outer([options.min_val_instances, options.min_test_instances], asked).astype(np.int64)
    copies = copies_of(records)
    if options.spare_train:
        units = join(units, copies)
    return Problem(
        given=given,
        unit=units,
        instances=np.array(amounts, dtype=np.int64).reshape(len(records), len(params.classes)),
        minimum=minimum,
        least_in_train=options.min_train_instances * asked if options.min_train_instances else None,
        spare_train=options.spare_train,
        fixed=_of_copies(given, units, copies) if options.spare_train else None,
    )


def _of_copies(given: Indices, units: Indices, copies: Indices) -> NDArray[np.bool_]:
    """Units that lie in train as a whole and hold several copies of one photograph: bool [u]."""
    count = int(units.max(initial=-1)) + 1
    elsewhere = np.bincount(units[given != TRAIN], minlength=count) > 0
    copied = np.bincount(copies)[copies] > 1
    return ~elsewhere & (np.bincount(units[copied], minlength=count) > 0)


def order_of(records: list[Record], units: Indices, seed: int) -> Indices:
    """Rank of each unit where any of several alike ones may move: shuffled, so that not one end of a drive is taken."""
    first = np.unique(units, return_index=True)[1]
    keys = np.array([derive(seed, "rebalance", records[index].id) for index in first])
    return np.argsort(np.argsort(keys, kind="stable"))


def train_losses(problem: Problem, target: Indices, groups: Indices, classes: Sequence[str]) -> list[ClassLoss]:
    """Classes that lose more than a third of the groups that hold them in train, sorted by class.

    target: int64 [n], index into SPLITS; groups: int64 [n], images that are one scene whatever `keep_groups` says.
    """
    losses = []
    for index, name in enumerate(classes):
        holds = problem.instances[:, index] > 0
        before = len(set(groups[holds & (problem.given == TRAIN)].tolist()))
        after = len(set(groups[holds & (target == TRAIN)].tolist()))
        if before - after > LARGEST_LOSS * before:
            losses.append(ClassLoss(name=name, before=before, after=after))
    return losses

"""Which images belong together, and the program that deals them out."""

import numpy as np

from retrace.config.schema import Params
from retrace.data.duplicates import Indices, by_first_appearance, hash_array, join, near_duplicate_sets
from retrace.documents.manifest import Record
from retrace.seeds import derive


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


def minimum(params: Params) -> Indices:
    """Instances that val and test need: int64 [2, C]."""
    options = params.rebalance
    asked = np.array([options.classes is None or name in options.classes for name in params.classes])
    return np.outer([options.min_val_instances, options.min_test_instances], asked).astype(np.int64)


def order_of(records: list[Record], units: Indices, seed: int) -> Indices:
    """Rank of each unit where any of several alike ones may move: shuffled, so that not one end of a drive is taken."""
    first = np.unique(units, return_index=True)[1]
    keys = np.array([derive(seed, "rebalance", records[index].id) for index in first])
    return np.argsort(np.argsort(keys, kind="stable"))

"""Which images changed their split and why, in words: the rows of `summary.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrace.data.duplicates import Hashes, Indices, hash_array
from retrace.data.rebalancing import SPLITS, TRAIN, Problem, Shortfall
from retrace.documents.manifest import Record
from retrace.documents.splits import Move, SplitCount


@dataclass(frozen=True)
class _Ties:
    """What ties images of one unit together."""

    records: Sequence[Record]
    hashes: Hashes
    distance: int

    def between(self, row: int, others: Indices) -> str:
        """The strongest tie between an image and any of `others`."""
        record = self.records[row]
        bits = np.bitwise_count(self.hashes[others] ^ self.hashes[row]).tolist()
        mates = [self.records[other] for other in others.tolist()]
        fewest, nearest = min(zip(bits, mates, strict=True), key=lambda pair: pair[0])
        copy = next((mate for mate in mates if mate.sha256 == record.sha256), None)
        same = next((mate for mate in mates if record.group and mate.group == record.group), None)
        if copy is not None:
            return f"exact copy of {copy.id}"
        if fewest <= self.distance:
            return f"near-duplicate ({fewest} bits) of {nearest.id}"
        if same is not None:
            return f"same group {record.group!r} as {same.id}"
        return f"linked by near-duplicates or groups to {nearest.id}"


def explain(
    records: Sequence[Record], problem: Problem, target: Indices, classes: Sequence[str], distance: int
) -> list[Move]:
    """One row per moved image, sorted by id.

    target: int64 [n], index into SPLITS. An image moves either to join those it must stay with, or because a class was
    short of instances where it went.
    """
    ties = _Ties(records, hash_array([record.phash for record in records]), distance)
    members = _members(problem.unit)
    joins = np.zeros(len(records), dtype=bool)  # images of a unit that was, at least in part, where it now is
    for mates in members:
        joins[mates] = (problem.given[mates] == target[mates]).any()
    needed = np.vstack([np.zeros_like(problem.minimum[:1]), problem.minimum])  # [3, C]
    had = np.array([_held(problem, joins & (target == split)) for split in range(len(SPLITS))])
    unit = "groups" if problem.spare_train else "instances"
    moves = []
    for row in np.flatnonzero(problem.given != target).tolist():
        split, mates = int(target[row]), members[problem.unit[row]]
        short = had[split] < needed[split]
        useful = mates[(problem.instances[mates][:, short] > 0).any(axis=1)]
        if joins[row]:
            anchors = mates[problem.given[mates] == split]
            reason = f"{ties.between(row, anchors)}, which is in {SPLITS[split]}"
        elif row in useful:
            brought = np.flatnonzero(short & (problem.instances[row] > 0)).tolist()
            wants = [f"{needed[split][c]} {unit} of {classes[c]!r} and had {had[split][c]}" for c in brought]
            reason = f"{SPLITS[split]} needs {', '.join(wants)}"
        elif len(useful):
            reason = f"{ties.between(row, useful)}, which {SPLITS[split]} needs"
        else:
            reason = f"{SPLITS[split]} would be empty otherwise"
        given = SPLITS[problem.given[row]]
        moves.append(Move(id=records[row].id, origin=given, to=SPLITS[split], reason=reason))
    return sorted(moves, key=lambda move: move.id)


def _held(problem: Problem, chosen: NDArray[np.bool_]) -> Indices:
    """Instances of every class among the chosen images, or the units that hold one: int64 [C]."""
    if not problem.spare_train:
        return problem.instances[chosen].sum(axis=0)
    held = [np.unique(problem.unit[chosen & (column > 0)]) for column in problem.instances.T]
    return np.array([len(units) for units in held], dtype=np.int64)


def _members(units: Indices) -> list[Indices]:
    """The images of each unit."""
    by_unit = np.argsort(units, kind="stable")
    return np.split(by_unit, np.cumsum(np.bincount(units))[:-1])


def shortfall_text(
    shortfall: Shortfall, classes: Sequence[str], counts: Mapping[str, SplitCount], tied: bool, unit: str
) -> str:
    """One line: which class cannot be met, by how much and what holds it back.

    counts: the table of the given split; unit: what a minimum counts, `instances` or `groups`.
    """
    split = shortfall.split
    if shortfall.index is None:
        return f"  {split} would be left without an image: all that it has must stay with images of another split"
    name = classes[shortfall.index]
    have = {s: counts[s].classes[name].instances for s in SPLITS}
    where = ", ".join(f"{have[s]} in {s}" for s in SPLITS)
    text = (
        f"  class {name!r}: {split} needs {shortfall.needed} {unit} and can get {shortfall.reached}, "
        f"{shortfall.needed - shortfall.reached} short (given: {where})"
    )
    if split == SPLITS[TRAIN]:
        return f"{text}; train gains images only where leaks are closed"
    if have[split] + have[SPLITS[TRAIN]] < shortfall.needed:
        return f"{text}; train and {split} together hold too few"
    if shortfall.alone >= shortfall.needed:
        return f"{text}; it could be met alone, but not together with the other minimums"
    held = "train must keep one, and near-duplicates" + (" and groups" if tied else "") + " stay together"
    return f"{text}; at most {shortfall.alone} are possible: {held}"

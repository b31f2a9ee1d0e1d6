"""Near-duplicates among 64-bit perceptual hashes: exact answers in about n log n for small distances.

Pigeonhole (Norouzi, Punjani & Fleet 2012, "Fast search in Hamming space with multi-index hashing"): if the 64 bits are
dealt to d + 1 keys, two hashes that differ in at most d bits agree in at least one whole key. So only hashes that share
a key are compared.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]
BITS = 64
LONGEST_SPLIT = 12  # from this distance on the keys have so few bits that comparing all pairs is cheaper


def hash_array(hashes: Sequence[str]) -> Hashes:
    """16-digit hexadecimal hashes -> uint64 [n]."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def near_duplicate_sets(hashes: Hashes, distance: int) -> Indices:
    """Label every hash with its set of near-duplicates.

    hashes: uint64 [n]; distance: 0..64 bits. Two hashes share a label exactly if a chain of hashes, each at most
    `distance` bits from the next, leads from one to the other. Returns int64 [n]: labels 0, 1, ... in order of first
    appearance.
    """
    values, inverse = np.unique(hashes, return_inverse=True)
    labels = np.arange(len(values), dtype=np.int64)
    waiting: list[tuple[Indices, Indices]] = []
    held = 0
    for left, right in _candidates(values, distance):
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
        close = np.bitwise_count(values[left] ^ values[right]) <= distance
        waiting.append((left[close], right[close]))
        held += int(close.sum())
        if held > len(values):  # merging now bounds the memory and spares later comparisons
            labels, waiting, held = _merge(labels, waiting), [], 0
            if not labels.any():
                break
    return by_first_appearance(_merge(labels, waiting)[inverse])


def join(*labellings: Indices) -> Indices:
    """The finest partition that keeps together what any of `labellings` (each int [n]) keeps together: int64 [n]."""
    items = np.arange(len(labellings[0]), dtype=np.int64)
    edges = []
    for labels in labellings:
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        edges.append((items, first[inverse].astype(np.int64)))
    return by_first_appearance(_merge(items, edges))


def nearest(query: Hashes, reference: Hashes, distance: int) -> tuple[Indices, Indices]:
    """For every query hash the nearest reference within `distance` bits, the first on ties.

    query: uint64 [q], reference: uint64 [r]. Returns (index into reference, bits), both int64 [q], -1 where none is
    near enough.
    """
    values, inverse = np.unique(np.concatenate([reference, query]), return_inverse=True)
    count = len(reference)
    far = np.int64((BITS + 1) * (count + 1))
    holder = np.full(len(values), far)  # smallest index of a reference with this value
    np.minimum.at(holder, inverse[:count], np.arange(count, dtype=np.int64))
    best = holder.copy()  # bits * (count + 1) + index: one number to minimise
    for left, right in _candidates(values, distance):
        bits = np.bitwise_count(values[left] ^ values[right]).astype(np.int64)
        close = bits <= distance
        for one, other in ((left[close], right[close]), (right[close], left[close])):
            known = holder[other] < far
            np.minimum.at(best, one[known], bits[close][known] * (count + 1) + holder[other[known]])
    found = best[inverse[count:]]
    near = found < far
    return np.where(near, found % (count + 1), -1), np.where(near, found // (count + 1), -1)


def by_first_appearance(labels: Indices) -> Indices:
    """Renumber labels 0, 1, ... in the order in which they first appear: int64 [n]."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _candidates(values: Hashes, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Index pairs of distinct `values`, at most n at a time; among them every pair within `distance`, some twice."""
    for mask in _key_masks(distance):
        keys = values & mask
        order = np.argsort(keys, kind="stable").astype(np.int64)
        keys = keys[order]
        end = np.searchsorted(keys, keys, side="right")
        position = np.arange(len(keys), dtype=np.int64)
        lag = 0
        while len(position):  # pairs `lag` places apart in one run of equal keys; short runs drop out early
            lag += 1
            position = position[position + lag < end[position]]
            if len(position):
                yield order[position], order[position + lag]


def _key_masks(distance: int) -> list[np.uint64]:
    if distance >= LONGEST_SPLIT:
        return [np.uint64(0)]
    keys = distance + 1  # neighbouring bits of a perceptual hash are alike, so each key takes every keys-th bit
    return [np.uint64(sum(1 << bit for bit in range(start, BITS, keys))) for start in range(keys)]


def _merge(labels: Indices, edges: list[tuple[Indices, Indices]]) -> Indices:
    """Labels after joining the sets at both ends of every edge (pairs of item indices)."""
    if not edges:
        return labels
    left = labels[np.concatenate([pair[0] for pair in edges])]
    right = labels[np.concatenate([pair[1] for pair in edges])]
    size = int(labels.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(size, size)).tocsr()
    return connected_components(graph, directed=False)[1].astype(np.int64)[labels]

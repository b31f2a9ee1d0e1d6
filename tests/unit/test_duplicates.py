"""Near-duplicate sets and nearest references against plain quadratic implementations."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrace.data.duplicates import hash_array, join, near_duplicate_sets, nearest

# bits flipped one after another, so that chains of every length and distance turn up among few hashes
chains = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 63), max_size=14)), min_size=1, max_size=14)


def hashes_of(chain):
    values, last = [], 0x5A5A_0FF0_1234_ABCD
    for onward, bits in chain:
        value = last ^ sum(1 << bit for bit in bits)
        values.append(value)
        last = value if onward else last
    return values


def plain_sets(values, distance):
    """Flood fill over all pairs, in Python's own integers."""
    labels: list[int | None] = [None] * len(values)
    label = 0
    for start in range(len(values)):
        if labels[start] is None:
            stack = [start]
            while stack:
                item = stack.pop()
                if labels[item] is None:
                    labels[item] = label
                    stack += [o for o in range(len(values)) if (values[item] ^ values[o]).bit_count() <= distance]
            label += 1
    return labels


@settings(max_examples=100, deadline=None)
@given(chains, st.integers(0, 32))
def test_sets_equal_a_flood_fill_over_all_pairs(chain, distance):
    values = hashes_of(chain)
    assert near_duplicate_sets(np.array(values, dtype=np.uint64), distance).tolist() == plain_sets(values, distance)


@settings(max_examples=80, deadline=None)
@given(chains, chains, st.integers(0, 32))
def test_nearest_is_the_first_of_the_closest_references(queries, references, distance):
    queries, references = hashes_of(queries), hashes_of(references)
    index, bits = nearest(np.array(queries, dtype=np.uint64), np.array(references, dtype=np.uint64), distance)
    for query, found, apart in zip(queries, index.tolist(), bits.tolist(), strict=True):
        best = min(range(len(references)), key=lambda r: ((query ^ references[r]).bit_count(), r))
        close = (query ^ references[best]).bit_count()
        assert (found, apart) == ((best, close) if close <= distance else (-1, -1))


@given(st.integers(0, 16), st.lists(st.integers(0, 63), min_size=17, max_size=17, unique=True))
def test_distance_is_a_limit_that_counts_as_near(distance, bits):
    at = sum(1 << bit for bit in bits[:distance])
    beyond = sum(1 << bit for bit in bits[: distance + 1])
    assert near_duplicate_sets(np.array([0, at], dtype=np.uint64), distance).tolist() == [0, 0]
    assert near_duplicate_sets(np.array([0, beyond], dtype=np.uint64), distance).tolist() == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_join_is_transitive_over_both_partitions(pairs):
    one, two = (np.array(labels) for labels in zip(*pairs, strict=True))
    joined = join(one, two)
    reach = np.logical_or(one[:, None] == one, two[:, None] == two)
    for _ in pairs:
        reach = reach @ reach
    np.testing.assert_array_equal(joined[:, None] == joined, reach)
    assert list(dict.fromkeys(joined.tolist())) == list(range(joined.max() + 1))


def test_no_hashes_and_hexadecimal_text():
    assert near_duplicate_sets(hash_array([]), 3).tolist() == []
    assert [array.tolist() for array in nearest(hash_array([]), hash_array(["ff"]), 3)] == [[], []]
    assert [array.tolist() for array in nearest(hash_array(["0" * 16]), hash_array([]), 3)] == [[-1], [-1]]
    assert hash_array(["ffffffffffffffff", "000000000000000a"]).tolist() == [2**64 - 1, 10]


def planted(count, seed):
    """Random hashes, a tenth of them one to three bits away from another; each such pair is its own set."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    tenth = count // 10
    hashes[:tenth] = hashes[tenth : 2 * tenth]
    for _ in range(3):
        hashes[:tenth] ^= np.uint64(1) << rng.integers(0, 64, tenth, dtype=np.uint64)
    return hashes, tenth


@pytest.mark.parametrize("distance", [3, 12, 32])
def test_ten_thousand_images_take_seconds(distance):
    hashes, tenth = planted(10_000, seed=1)
    started = time.process_time()
    labels = near_duplicate_sets(hashes, distance)
    assert time.process_time() - started < 10
    np.testing.assert_array_equal(labels[:tenth], labels[tenth : 2 * tenth])
    if distance == 3:
        assert labels.max() + 1 == len(hashes) - tenth


def test_growth_is_far_from_quadratic():
    seconds = []
    for count in (20_000, 100_000):
        hashes, tenth = planted(count, seed=2)
        started = time.process_time()
        assert near_duplicate_sets(hashes, 3).max() + 1 == count - tenth
        seconds.append(time.process_time() - started)
    assert seconds[1] < 12 * seconds[0] + 0.2  # five times as many; all pairs would cost 25 times


def test_many_copies_of_one_picture_cost_nothing():
    hashes = np.concatenate([np.zeros(50_000, dtype=np.uint64), np.full(50_000, 7, dtype=np.uint64)])
    started = time.process_time()
    assert near_duplicate_sets(hashes, 3).max() == 0
    assert time.process_time() - started < 5

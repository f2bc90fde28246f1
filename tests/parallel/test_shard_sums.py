"""Sums over shards: the same tree on any number of ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdl.core.errors import ArgumentError
from distdl.core.shards import check_shards, rows_of, shards_of
from distdl.data import GlobalBatchSampler
from distdl.parallel.shard_sums import ShardSums, nodes_of
from tests.parallel.thread_ranks import on_ranks


def by_the_definition(leaves):
    """Add neighbours, then pairs of neighbours, and so on."""
    while len(leaves) > 1:
        leaves = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    return leaves[0]


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 16])
def test_any_number_of_ranks_adds_up_in_one_tree(shards):
    """Every rank gets the bits of the definition, whatever it holds of the tree."""
    leaves = np.random.default_rng(shards).normal(size=(shards, 1000)).astype(np.float32)
    expected = by_the_definition(list(leaves)) * np.float32(0.25)

    def reduce(comm):
        sums = ShardSums(shards, comm)
        flat = np.zeros(1000, np.float32)
        for shard in sums.mine:
            flat[...] = leaves[shard]
            sums.add(shard, flat)
        sums.reduce(flat, 0.25)
        return flat

    for size in range(1, shards + 1):
        for flat in on_ranks(size, reduce):
            np.testing.assert_array_equal(flat, expected, err_msg=f"{size} ranks")


def test_the_definition_is_not_any_other_order():
    """The reference above tells orders apart: adding from left to right gives other bits."""
    leaves = np.random.default_rng(8).normal(size=(8, 1000)).astype(np.float32)
    assert (by_the_definition(list(leaves)) != leaves.sum(axis=0)).any()


@pytest.mark.parametrize("shards", [1, 2, 8, 32])
def test_ranks_share_all_shards(shards):
    """Each shard has one rank, and the greatest nodes of a rank are the whole of its shards."""
    for size in range(1, shards + 1):
        mine = [shards_of(shards, rank, size) for rank in range(size)]
        assert [shard for part in mine for shard in part] == list(range(shards))
        for part in mine:
            nodes = nodes_of(part)
            assert [s for level, i in nodes for s in range(i << level, (i + 1) << level)] == list(part)
            assert len(nodes) == 1 or size & (size - 1)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100), st.integers(0, 4), st.integers(1, 16), st.integers(0, 9))
def test_a_shard_holds_the_same_rows_on_any_number_of_ranks(more, power, size, epoch):
    """The sampler and the cut of a rank's rows agree: every shard has the rows that it has on one rank."""
    shards = 1 << power
    size = min(size, shards)
    length, batch_size = shards + 3 * more, shards + more // 2

    def rows_of_shards(size):
        found = {}
        for rank in range(size):
            sampler = GlobalBatchSampler(length, batch_size, rank, size, shards=shards)
            for step, rows in enumerate(sampler.items(epoch)):
                mine = shards_of(shards, rank, size)
                ends = np.cumsum(rows_of(len(rows), len(mine)))
                for shard, part in zip(mine, np.split(rows, ends)[:-1], strict=True):
                    found[step, shard] = part.tolist()
        return found

    alone = rows_of_shards(1)
    assert rows_of_shards(size) == alone
    assert sorted(row for rows in alone.values() for row in rows) == list(range(length))


@pytest.mark.parametrize(("shards", "size"), [(0, 1), (3, 1), (12, 2), (4, 5)])
def test_impossible_cuts_are_refused(shards, size):
    """Shards are a power of two, and no rank is without one."""
    with pytest.raises(ArgumentError, match="`shards`"):
        check_shards(shards, size)

"""The plan of an epoch over ranks."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.data import DistributedSampler, GlobalBatchSampler
from distdl.data.sampler import EpochSampler

SIZES = st.integers(1, 7)
LENGTHS = st.integers(7, 60)
BATCHES = st.integers(1, 70)


@given(LENGTHS, SIZES, st.booleans(), st.integers(0, 3))
def test_ranks_together_read_each_sample_once(length, size, shuffle, epoch):
    """The union over ranks is the data set, every epoch, and `len` is what each rank gets."""
    samplers = [DistributedSampler(range(length), rank, size, shuffle) for rank in range(size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert sorted(chain(*shares)) == list(range(length))
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert {samplers[0].shortest, samplers[0].longest} == {min(map(len, shares)), max(map(len, shares))}


@given(LENGTHS, SIZES)
def test_drop_last_gives_all_ranks_equally_many(length, size):
    """Only the samples of the remainder are left out, none doubled."""
    shares = [list(DistributedSampler(range(length), rank, size, drop_last=True)) for rank in range(size)]
    assert {len(share) for share in shares} == {length // size}
    assert len(set(chain(*shares))) == length - length % size


@given(LENGTHS, BATCHES, SIZES, st.booleans(), st.booleans())
def test_global_batches_are_the_same_on_any_number_of_ranks(length, batch_size, size, shuffle, drop_last):
    """As many steps on every rank, and the ranks' rows interleaved are the batch of one rank."""
    alone = list(GlobalBatchSampler(length, batch_size, shuffle=shuffle, drop_last=drop_last))
    samplers = [GlobalBatchSampler(length, batch_size, r, size, shuffle, drop_last=drop_last) for r in range(size)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(alone)} == {len(sampler) for sampler in samplers}
    for step, batch in enumerate(alone):
        rows = np.empty_like(batch)
        for rank in range(size):
            rows[rank::size] = shares[rank][step]
        assert (rows == batch).all()
        assert rows.dtype == np.int64
    if not drop_last:
        assert sorted(np.concatenate(alone)) == list(range(length))


@given(LENGTHS, st.integers(1, 10), SIZES)
def test_a_rank_reads_the_same_by_sample_and_by_batch(length, rows, size):
    """DistributedSampler is the plan of global batches of `rows * size`."""
    for rank in range(size):
        batches = list(GlobalBatchSampler(length, rows * size, rank, size, seed=4))
        assert np.concatenate(batches).tolist() == list(DistributedSampler(range(length), rank, size, seed=4))


def test_every_epoch_has_its_own_order():
    """Each `iter()` is the next epoch, `set_epoch` chooses one, the seed counts."""
    sampler = DistributedSampler(range(50), seed=1)
    epochs = [list(sampler) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert sampler.epoch == 3
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
    assert list(DistributedSampler(range(50), seed=2)) != epochs[0]
    assert list(DistributedSampler(range(5), shuffle=False)) == [0, 1, 2, 3, 4]


def test_an_abandoned_epoch_is_over():
    """`iter()` after a break is the next epoch, and the old iterator no longer moves the position."""
    sampler = DistributedSampler(range(10))
    old = iter(sampler)
    next(old)
    new = iter(sampler)
    next(new)
    assert len(list(old)) == 9
    assert sampler.state_dict() == {"seed": 0, "epoch": 1, "position": 1}


@given(st.integers(7, 30), st.integers(0, 70), st.sampled_from([DistributedSampler, GlobalBatchSampler]))
def test_a_resumed_sampler_goes_on_as_the_unbroken_one(length, count, kind):
    """After any number of items, in any epoch."""

    def make(seed):
        return (
            DistributedSampler(range(length), 1, 2, seed=seed)
            if kind is DistributedSampler
            else (GlobalBatchSampler(length, 3, 1, 2, seed=seed))
        )

    def items(sampler):
        while True:
            yield from (np.asarray(item).tolist() for item in sampler)

    whole, broken, resumed = make(5), make(5), make(0)
    unbroken = items(whole)
    expected = [next(unbroken) for _ in range(count + 40)]
    start = items(broken)
    assert [next(start) for _ in range(count)] == expected[:count]
    resumed.load_state_dict(broken.state_dict())
    resumed.set_epoch(resumed.epoch)
    rest = items(resumed)
    assert [next(rest) for _ in range(40)] == expected[count:]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"rank": 2, "size": 2}, r"`rank` \(=2\) must be < `size` \(=2\)"),
        ({"rank": -1}, "`rank` .* >= 0"),
        ({"size": 0}, "`size` .* >= 1"),
        ({"size": 4}, "3 samples.* a sample for each of 4 ranks"),
        ({"seed": -1}, "`seed`"),
        ({"rank": 0.5}, "`rank` .*integer"),
    ],
)
def test_samplers_refuse_wrong_ranks(arguments, rule):
    """Ranks out of range, and fewer samples than ranks."""
    for make in (lambda: DistributedSampler(range(3), **arguments), lambda: GlobalBatchSampler(3, 2, **arguments)):
        with pytest.raises((ValueError, TypeError), match=rule):
            make()


def test_batch_sizes_are_checked():
    """A global batch has at least a row."""
    with pytest.raises(ValueError, match="`batch_size`"):
        GlobalBatchSampler(3, 0)


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        (None, "a dict from"),
        ({"epoch": 1}, "exactly seed, epoch, position"),
        ({"seed": 0, "epoch": -1, "position": 0}, "epoch.*>= 0"),
        ({"seed": 0, "epoch": "1", "position": 0}, "epoch.*integer"),
    ],
)
def test_a_wrong_state_is_refused(state, rule):
    """Another type, other keys, wrong numbers."""
    with pytest.raises((ValueError, TypeError), match=rule):
        DistributedSampler(range(3)).load_state_dict(state)


def test_epochs_are_counted_from_zero():
    """A negative epoch is refused."""
    with pytest.raises(ValueError, match="`epoch`"):
        EpochSampler(3, 0, 1, True, 0, False).set_epoch(-1)

"""Keyed random numbers."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.core import random
from distdl.core.errors import ArgumentError

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "block", "epoch", "sample", "words"),
    [
        ((0, 0), 0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xA4093822, 0x299F31D0), 0x243F6A88, 0x85A308D3, 0x0370734413198A2E, "d16cfe09 94fdcceb 5001e420 24126ea1"),
        ((ONES, ONES), ONES, ONES, -1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_philox_gives_the_published_words(key, block, epoch, sample, words, monkeypatch):
    """Philox4x32-10 agrees with the known answers of Random123 (kat_vectors)."""
    # Blocks are counted from 0: the published block numbers are out of a caller's reach.
    monkeypatch.setattr(np, "arange", lambda n, dtype=None: np.array([block], dtype))
    drawn = random.philox(np.array(key, np.uint32), epoch, np.array([sample]), 4)
    assert " ".join(f"{word:08x}" for word in drawn[0]) == words


@given(st.integers(0, 2**62), st.integers(0, 2**31), st.integers(1, 20))
def test_a_sample_draws_the_same_alone_and_among_others(sample, epoch, count):
    """A draw depends on its key only, not on the batch; and fewer words are a prefix of more."""
    key = random.key("test", seed=1)
    alone = random.philox(key, epoch, np.array([sample]), count)
    among = random.philox(key, epoch, np.array([5, sample, 7]), count + 3)
    assert (alone[0] == among[1, :count]).all()


def test_keys_differ_by_seed_purpose_and_numbers():
    """No two of them share a key."""
    keys = {
        tuple(random.key(purpose, *numbers, seed=seed))
        for purpose in ("a", "b")
        for numbers in ((), (1,), (1, 1), (11,))
        for seed in (0, 1)
    }
    assert len(keys) == 16


def test_uniform_draws_are_uniform():
    """In [0, 1), mean 1/2, variance 1/12, epochs apart."""
    draws = random.uniform("u", 0, np.arange(10000), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(draws.var() - 1 / 12) < 0.002
    assert not (draws == random.uniform("u", 1, np.arange(10000), 4)).any(axis=0).all()


@given(st.integers(0, 300), st.integers(0, 5))
def test_a_permutation_holds_every_number_once(length, epoch):
    """And is the same when asked again."""
    order = random.permutation("p", epoch, length, seed=3)
    assert sorted(order) == list(range(length))
    assert (order == random.permutation("p", epoch, length, seed=3)).all()


def test_manual_seed_restarts_everything():
    """The same seed gives the same streams and initial weights; `share_seed` does not restart them."""
    first, second = [], []
    for draws in (first, second):
        random.manual_seed(5)
        draws += [random.get_seed(), random.next_stream(), random.next_stream(), random.initial_generator().random()]
    assert first == second
    assert first[:3] == [5, 1, 2]
    random.share_seed(6)
    assert random.get_seed() == 6
    assert random.next_stream() == 3
    with pytest.raises(ArgumentError, match="`seed`"):
        random.manual_seed(-1)


def test_the_current_batch_is_the_one_that_was_named():
    """In this thread only, and only where it fits the rows."""
    batch = random.Batch(3, np.array([7, 9]))
    random.set_batch(batch)
    try:
        assert random.current_batch() is batch
        assert random.current_batch(2) is batch
        assert random.current_batch(3).samples.tolist() == [0, 1, 2]
        seen = []
        thread = threading.Thread(target=lambda: seen.append(random.current_batch(1)))
        thread.start()
        thread.join()
        assert (seen[0].epoch, seen[0].samples.tolist()) == (0, [0])
    finally:
        random.set_batch(None)


def test_time_steps_share_their_sample():
    """Twice as many rows as samples draw by (sample, step), all different."""
    with random.batch_of(1, np.array([4, 2])):
        batch = random.current_batch(4)
        assert (batch.epoch, batch.samples.tolist()) == (1, [8, 9, 4, 5])


def test_batch_of_restores_what_was_before():
    """Blocks nest."""
    with random.batch_of(1, np.array([4])) as outer:
        with random.batch_of(2, np.array([5])) as inner:
            assert random.current_batch() is inner
            assert inner.uniform("x", 3).shape == (1, 3)
        assert random.current_batch() is outer
    assert random.current_batch(1).epoch == 0

"""Counter-based random numbers: a draw depends on its key, never on what was drawn before.

Every draw is keyed by (seed, purpose, epoch, sample), so that augmentation and dropout give a
sample the same numbers whichever rank works on it, and a resumed run those of an unbroken one.

The generator is Philox4x32-10 of J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import checks

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class _State:
    """The seed of the process, and how many keyed streams were named since it was set."""

    seed = 0
    streams = 0
    initial: np.random.Generator


def manual_seed(seed: int) -> None:
    """Set the seed of every draw of distdl: initial weights, dropout, shuffling, augmentation.

    A sampler that you make yourself has a seed of its own, which all ranks must give alike.
    """
    _State.seed = checks.integer("seed", seed, 0)
    _State.streams = 0
    _State.initial = generator("initial weights")


def get_seed() -> int:
    """Return the seed that `manual_seed` set (0 at start)."""
    return _State.seed


def share_seed(seed: int) -> None:
    """Take over rank 0's seed for keyed draws, without restarting the stream of initial weights."""
    _State.seed = seed


def next_stream() -> int:
    """Return a number that tells this user of random draws (a dropout layer, say) from the others."""
    _State.streams += 1
    return _State.streams


def key(purpose: str, *numbers: int, seed: int | None = None) -> np.ndarray:
    """Hash (seed, purpose, numbers) to a Philox key: two uint32 words, shape (2,)."""
    text = "\0".join([str(_State.seed if seed is None else seed), purpose, *map(str, numbers)])
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.dtype("<u4"))


def philox(key: np.ndarray, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """Draw `count` random words for each sample.

    The counter of block i (words 4i .. 4i+3) of a sample is (i, epoch, sample low, sample high).

    Args:
        key: two uint32 words, from `key`.
        epoch: the second word of the counter.
        samples: integers of shape (n,).
        count: words per sample.

    Returns:
        uint32 array of shape (n, count).
    """
    blocks = -(-count // 4)
    ids = np.asarray(samples, np.int64).astype(np.uint64)[:, None]
    shape = (len(ids), blocks)
    c0 = np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape)
    c1 = np.full(shape, np.uint64(epoch & 0xFFFFFFFF))
    c2 = np.broadcast_to(ids & _LOW, shape)
    c3 = np.broadcast_to(ids >> _HALF, shape)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    words = np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)
    return words.reshape(len(ids), 4 * blocks)[:, :count]


def uniform(purpose: str, epoch: int, samples: np.ndarray, count: int, *, seed: int | None = None) -> np.ndarray:
    """Draw `count` numbers in [0, 1) for each sample: float64 of shape (len(samples), count)."""
    return philox(key(purpose, seed=seed), epoch, samples, count) * 2.0**-32


def permutation(purpose: str, epoch: int, length: int, *, seed: int | None = None) -> np.ndarray:
    """Return a random permutation of range(length), int64, the same under every NumPy version."""
    words = philox(key(purpose, seed=seed), epoch, np.arange(length), 2).astype(np.uint64)
    return np.argsort((words[:, 0] << _HALF) | words[:, 1], kind="stable")


def generator(purpose: str, *numbers: int, seed: int | None = None) -> np.random.Generator:
    """Return a NumPy generator keyed by (seed, purpose, numbers)."""
    k = key(purpose, *numbers, seed=seed)
    return np.random.Generator(np.random.Philox(key=int(k[0]) | int(k[1]) << 32))


def initial_generator() -> np.random.Generator:
    """Return the generator that initial weights are drawn from, in the order in which layers are made."""
    return _State.initial


_State.initial = generator("initial weights")


@dataclass(frozen=True, eq=False)
class Batch:
    """Which samples the rows of the current batch are: what draws are keyed by.

    Attributes:
        epoch: the epoch in which they are seen.
        samples: their indices in the data set, int64 of shape (rows,).
        shards: into how many the global batch is cut, of which these rows are some; 0 if it is not.
    """

    epoch: int
    samples: np.ndarray
    shards: int = 0

    def uniform(self, purpose: str, count: int) -> np.ndarray:
        """Draw `count` numbers in [0, 1) for each row: float64 of shape (rows, count)."""
        return uniform(purpose, self.epoch, self.samples, count)


_current = threading.local()


def set_batch(batch: Batch | None) -> None:
    """Say which samples this thread works on from now on; the data loader does it for each batch."""
    _current.batch = batch


def named_batch() -> Batch | None:
    """Return the batch that a loader has named for this thread, or None."""
    batch: Batch | None = getattr(_current, "batch", None)
    return batch


def current_batch(rows: int | None = None) -> Batch:
    """Return the batch that this thread works on.

    Where no loader has named one, or where it does not fit `rows`, the rows count as the samples
    0, 1, 2, ... of epoch 0. A multiple of the batch's rows (time steps, say) shares its samples.
    """
    batch = named_batch()
    if batch is not None and (rows is None or rows == len(batch.samples)):
        return batch
    if batch is not None and rows and len(batch.samples) and rows % len(batch.samples) == 0:
        times = rows // len(batch.samples)
        return Batch(
            batch.epoch, np.repeat(batch.samples, times) * times + np.tile(np.arange(times), len(batch.samples))
        )
    return Batch(0, np.arange(rows or 0))


class Calls:
    """Counts the draws of one purpose: within a batch that a loader has named, else without end."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._count = 0

    def next(self) -> int:
        """Return the number of this call."""
        batch = named_batch()
        # What is used twice on a batch draws anew; without a batch every call counts.
        self._count = 0 if batch is not None and batch is not self._batch else self._count + 1
        self._batch = batch
        return self._count


@contextlib.contextmanager
def batch_of(epoch: int, samples: np.ndarray) -> Iterator[Batch]:
    """Within the block, draws of this thread are keyed by `epoch` and `samples`."""
    before = named_batch()
    batch = Batch(epoch, np.asarray(samples, np.int64))
    set_batch(batch)
    try:
        yield batch
    finally:
        set_batch(before)

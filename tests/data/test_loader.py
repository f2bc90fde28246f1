"""DataLoader against plain loops."""

import gc
import threading
import traceback

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distdl
from distdl.core import random
from distdl.data import ArrayDataset, DataLoader, DistributedSampler, GlobalBatchSampler, RandomHorizontalFlip, Subset
from distdl.data.prefetch import Prefetcher

X = np.random.default_rng(0).random((23, 4, 4, 1), dtype=np.float32)
Y = np.arange(23)


class Rows:
    """A data set in the way of PyTorch, without `take`."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], Y[index]


class Draws(Rows):
    """Draws a number for each sample while the batch is read."""

    def __getitem__(self, index):
        batch = random.current_batch()
        at = batch.samples.tolist().index(index)
        return X[index], batch.uniform("test", 1)[at, 0]


def threads():
    """List the threads of loaders that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "distdl-prefetch"]


@pytest.mark.parametrize("dataset", [ArrayDataset(X, Y), Rows(), Subset(ArrayDataset(X, Y), np.arange(23))])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_loader_is_a_loop_over_slices(dataset, prefetch, drop_last):
    """The batches are those of a plain loop, as many as `len` says."""
    loader = DataLoader(dataset, 5, prefetch=prefetch, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader) == (4 if drop_last else 5)
    for step, (x, y) in enumerate(batches):
        assert (x == X[step * 5 : step * 5 + 5]).all()
        assert y.tolist() == list(range(step * 5, min(step * 5 + 5, 23)))


def test_a_shuffled_loader_reads_each_sample_once_in_a_new_order_each_epoch():
    """And the seed decides the order."""
    loader = DataLoader(Rows(), 5, shuffle=True, seed=1)
    epochs = [np.concatenate([y for _, y in loader]) for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(23))
    assert (epochs[0] != epochs[1]).any()
    loader.set_epoch(0)
    assert np.concatenate([y for _, y in loader]).tolist() == epochs[0].tolist()
    assert np.concatenate([y for _, y in DataLoader(Rows(), 5, shuffle=True)]).tolist() != epochs[0].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 23), st.integers(1, 5), st.integers(1, 8), st.booleans(), st.booleans())
def test_all_ranks_take_the_same_steps(length, size, rows, by_batch, drop_last):
    """Unequal shards give batches of 0 rows at the end, with the right trailing shape and type; no sample is lost."""
    size = min(size, length)
    dataset = Subset(Rows(), np.arange(length))
    seen, steps = [], set()
    for rank in range(size):
        if by_batch:
            loader = DataLoader(
                dataset, batch_sampler=GlobalBatchSampler(length, rows, rank, size, drop_last=drop_last)
            )
        else:
            sampler = DistributedSampler(dataset, rank, size)
            loader = DataLoader(dataset, rows, sampler=sampler, drop_last=drop_last)
        batches = list(loader)
        steps.add(len(batches))
        assert len(loader) == len(batches)
        assert all(x.shape[1:] == (4, 4, 1) and x.dtype == np.float32 and y.dtype == np.int64 for x, y in batches)
        seen += [int(label) for _, y in batches for label in y]
    assert len(steps) == 1
    assert len(set(seen)) == len(seen)
    if not drop_last:
        assert len(seen) == length


def test_an_empty_batch_has_the_shape_that_the_transforms_give():
    """Also where they change shape and type."""
    sampler = GlobalBatchSampler(3, 2, 1, 2)
    loader = DataLoader(
        ArrayDataset(X[:3], Y[:3]),
        batch_sampler=sampler,
        transform=lambda x: x[:, 1:].astype(np.float64),
        batch_transform=lambda x, y: {"x": x, "y": y},
    )
    last = list(loader)[-1]
    assert last["x"].shape == (0, 3, 4, 1)
    assert last["x"].dtype == np.float64
    assert last["y"].shape == (0,)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 14),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(["shuffle", "sampler", "batch_sampler", "plain", "stream"]),
)
def test_a_resumed_loader_goes_on_as_the_unbroken_one(count, prefetch, kind):
    """After any number of batches in any epoch; what was only read ahead is not lost."""

    def make():
        dataset, options = Rows(), {"prefetch": prefetch}
        if kind == "batch_sampler":
            return DataLoader(dataset, batch_sampler=GlobalBatchSampler(23, 8, 1, 2), **options)
        if kind == "sampler":
            options["sampler"] = DistributedSampler(dataset, 2, 3)
        if kind == "plain":
            options["sampler"] = list(range(22, -1, -1))
        if kind == "stream":
            dataset = Stream()
        return DataLoader(dataset, 4, shuffle=kind == "shuffle", **options)

    def labels(loader):
        while True:
            for _, y in loader:
                yield y.tolist()

    unbroken, broken, resumed = make(), make(), make()
    whole = labels(unbroken)
    expected = [next(whole) for _ in range(count + 10)]
    start = labels(broken)
    assert [next(start) for _ in range(count)] == expected[:count]
    resumed.load_state_dict(broken.state_dict())
    rest = labels(resumed)
    assert [next(rest) for _ in range(10)] == expected[count:]


class Stream:
    """Can be read from front to back only."""

    def __iter__(self):
        yield from zip(X, Y, strict=True)


def test_a_stream_is_read_front_to_back():
    """Batches as they come, no length; the short last one can be left out."""
    loader = DataLoader(Stream(), 5)
    assert [len(y) for _, y in loader] == [5, 5, 5, 5, 3]
    assert [len(y) for _, y in DataLoader(Stream(), 5, drop_last=True)] == [5, 5, 5, 5]
    with pytest.raises(TypeError, match="no length"):
        len(loader)


def test_the_consumer_draws_by_the_samples_of_its_batch():
    """`current_batch` names epoch and samples while a batch is in hand, and nothing after the epoch or a break."""
    loader = DataLoader(Rows(), 5, shuffle=True)
    for epoch in range(2):
        for _, y in loader:
            batch = random.current_batch(len(y))
            assert (batch.epoch, batch.samples.tolist()) == (epoch, y.tolist())
        assert random.current_batch().samples.tolist() == []
    for _ in loader:
        break
    gc.collect()
    assert random.current_batch().samples.tolist() == []


def test_an_evaluation_inside_an_epoch_leaves_the_next_batch_named():
    """Two loaders can be read in turns."""
    inner = DataLoader(Rows(), 23)
    for _, y in DataLoader(Rows(), 5):
        assert random.current_batch().samples.tolist() == y.tolist()
        for _, labels in inner:
            assert random.current_batch().samples.tolist() == labels.tolist()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_draws_in_transforms_and_data_sets_are_keyed_by_sample(prefetch):
    """On two ranks a sample is augmented as on one, in whichever thread."""

    def draws(size, dataset, **options):
        found = {}
        for rank in range(size):
            sampler = DistributedSampler(dataset, rank, size)
            loader = DataLoader(dataset, 4, sampler=sampler, prefetch=prefetch, **options)
            for x, y in loader:
                samples = random.current_batch().samples
                found |= {int(s): (a.tolist(), float(b)) for s, a, b in zip(samples, x, y, strict=True)}
        return found

    augmented = draws(1, ArrayDataset(X, Y), transform=RandomHorizontalFlip())
    assert augmented == draws(2, ArrayDataset(X, Y), transform=RandomHorizontalFlip())
    assert augmented != draws(1, ArrayDataset(X, Y))
    assert draws(1, Draws()) == draws(3, Draws())


def test_transforms_act_on_inputs_then_on_the_batch():
    """`transform` sees the first part, `batch_transform` all; single arrays and dicts too."""
    loader = DataLoader(Rows(), 23, transform=lambda x: x + 1, batch_transform=lambda x, y: (x * 2, y + 1))
    ((x, y),) = loader
    assert np.allclose(x, (X + 1) * 2)
    assert (y == Y + 1).all()
    assert next(iter(DataLoader(Y, 23, transform=lambda y: -y))).tolist() == (-Y).tolist()
    dicts = [{"a": i} for i in range(3)]
    (batch,) = DataLoader(dicts, 3, batch_transform=lambda batch: batch["a"])
    assert batch.tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match=r"`transform`.*`batch_transform` for dicts"):
        list(DataLoader(dicts, 3, transform=lambda x: x))
    with pytest.raises(TypeError, match="`transform`"):
        list(DataLoader(dicts, 3, transform=lambda x: x, prefetch=0))


def test_a_plain_array_is_a_data_set_of_its_rows():
    """Although `ndarray.take` exists, and means something else."""
    (batch,) = DataLoader(X, 23)
    assert (batch == X).all()


def test_collate_fn_makes_the_batch():
    """It gets the list of samples."""
    loader = DataLoader(Rows(), 10, collate_fn=lambda rows: len(rows))
    assert list(loader) == [10, 10, 3]


def test_a_pytorch_data_set_is_accepted():
    """TensorDataset, a map-style Dataset and PyTorch's samplers work; batches are NumPy arrays."""
    torch = pytest.importorskip("torch")
    from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, TensorDataset

    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    (batch,) = DataLoader(dataset, 23)
    assert type(batch[0]) is np.ndarray
    assert (batch[0] == X).all()
    assert batch[1].dtype == np.int64
    loader = DataLoader(dataset, 4, sampler=RandomSampler(dataset), drop_last=True)
    assert len({int(label) for _, y in loader for label in y}) == 20
    loader = DataLoader(dataset, batch_sampler=BatchSampler(RandomSampler(dataset), 4, drop_last=False))
    assert [len(y) for _, y in loader] == [4, 4, 4, 4, 4, 3]
    assert len(loader) == 6

    class Numbers(IterableDataset):
        def __iter__(self):
            return iter(torch.arange(7))

    assert [batch.tolist() for batch in DataLoader(Numbers(), 4)] == [[0, 1, 2, 3], [4, 5, 6]]


class Broken(Rows):
    """Sample 11 cannot be read."""

    def __getitem__(self, index):
        if index == 11:
            raise KeyError("sample 11 is broken")
        return super().__getitem__(index)


def test_an_exception_in_the_thread_reaches_the_consumer_at_its_place():
    """After the batches before it, with the traceback of the data set, and no thread is left."""
    labels = []
    with pytest.raises(KeyError, match="sample 11") as caught:
        labels.extend(y.tolist() for _, y in DataLoader(Broken(), 5))
    assert labels == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert "__getitem__" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not threads()


def test_no_thread_outlives_its_iterator():
    """Finished, broken off, or dropped."""
    loader = DataLoader(Rows(), 1, prefetch=3)
    list(loader)
    for _ in loader:
        assert len(threads()) == 1
        break
    assert not threads()
    iterator = iter(loader)
    next(iterator)
    del iterator
    assert not threads()


def test_plain_arrays_need_no_thread():
    """A gather in memory is cheaper than handing it over."""
    for _ in DataLoader(ArrayDataset(X, Y), 5):
        assert not threads()


def test_a_prefetcher_reads_no_further_ahead_than_its_depth():
    """With depth 2 at most: two in the queue, one in the thread's hands."""
    made = []
    room = threading.Semaphore(0)

    def source():
        for i in range(10):
            made.append(i)
            room.release()
            yield i

    prefetcher = Prefetcher(source(), 2)
    for _ in range(3):
        assert room.acquire(timeout=10)
    assert not room.acquire(timeout=0.1)
    assert next(prefetcher) == 0
    assert iter(prefetcher) is prefetcher
    prefetcher.close()
    with pytest.raises(StopIteration):
        next(prefetcher)
    assert len(made) < 10
    assert not threads()


def test_a_prefetcher_dropped_in_its_own_thread_ends():
    """The garbage collector may run in the thread that is to be ended."""
    holder, dropped_here = {}, threading.Event()

    def source():
        yield 0
        dropped_here.wait(10)
        holder.clear()
        while True:
            yield 1

    holder["prefetcher"] = Prefetcher(source(), 1)
    (thread,) = threads()
    dropped_here.set()
    thread.join(10)
    assert not thread.is_alive()


def test_lists_of_arrays_are_batches():
    """As PyTorch's collate functions return them: parted, transformed, and empty where a rank has no rows."""
    loader = DataLoader(
        ArrayDataset(X, Y),
        batch_sampler=[[0, 1], []],
        collate_fn=lambda rows: [np.stack(part) for part in zip(*rows, strict=True)],
        transform=np.negative,
    )
    (x, y), (no_x, no_y) = loader
    assert (x == -X[:2]).all()
    assert (y == Y[:2]).all()
    assert no_x.shape == (0, *X.shape[1:])
    assert no_y.shape == (0,)


def test_the_order_follows_the_seed_of_all_draws():
    """Unless the loader has one of its own."""
    orders = []
    for seed, own in ((1, None), (2, None), (1, None), (1, 5), (2, 5)):
        distdl.manual_seed(seed)
        orders.append(
            np.concatenate([y for _, y in DataLoader(ArrayDataset(X, Y), 4, shuffle=True, seed=own)]).tolist()
        )
    assert orders[0] == orders[2] != orders[1]
    assert orders[3] == orders[4]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"batch_size": 0}, "`batch_size`"),
        ({"batch_size": 2.0}, "`batch_size`"),
        ({"num_workers": -1}, "`num_workers`"),
        ({"prefetch": -1}, "`prefetch`"),
        ({"shuffle": True, "sampler": [0]}, "`shuffle`.*sampler decides"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "`batch_sampler`.*excludes"),
        ({"batch_sampler": [[0]], "drop_last": True}, "`batch_sampler`.*excludes"),
        ({"batch_sampler": [[0]], "sampler": []}, "`batch_sampler`.*excludes"),
        ({"sampler": DistributedSampler(range(7))}, "of 7 samples.*of the 23"),
        ({"batch_sampler": GlobalBatchSampler(7, 2)}, "of 7 samples.*of the 23"),
        ({"dataset": 3}, "`dataset`.*iter"),
        ({"dataset": []}, "0 samples"),
        ({"dataset": Stream(), "shuffle": True}, "excludes"),
        ({"dataset": Stream(), "sampler": [0]}, "excludes"),
        ({"dataset": Stream(), "num_workers": 1}, "`num_workers`.*front to back"),
    ],
)
def test_wrong_arguments_are_refused(arguments, rule):
    """Each names the argument and the rule."""
    with pytest.raises((ValueError, TypeError), match=rule):
        DataLoader(**{"dataset": Rows(), **arguments})


def test_a_wrong_state_is_refused():
    """A sampler's state is no loader's."""
    with pytest.raises(ValueError, match="exactly epoch, batches"):
        DataLoader(Rows()).load_state_dict({"seed": 0, "epoch": 0, "position": 0})

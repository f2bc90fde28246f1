"""Data sets and batches of samples."""

import pickle

import numpy as np
import pytest

from distdl.data import ArrayDataset, Dataset, IterableDataset, Subset, default_collate
from distdl.data.dataset import can_take


def test_array_dataset_gives_rows_and_batches():
    """`[i]` is a row of each array, `take` a gather; nothing is copied at the start."""
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    dataset = ArrayDataset(x, y)
    assert len(dataset) == 4
    assert dataset.arrays[0] is x
    assert dataset[2][1] == 2
    batch = dataset.take(np.array([3, 0]))
    assert (batch[0] == x[[3, 0]]).all()
    assert batch[1].tolist() == [3, 0]
    assert repr(dataset) == "ArrayDataset(float64 (4, 3), int64 (4,))"
    assert isinstance(dataset, Dataset)
    assert isinstance((i for i in ()), IterableDataset)


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ((), "at least one array"),
        (([1, 2], [1]), "equal lengths"),
        ((np.empty((0, 3)), np.empty(0)), "at least one sample"),
        ((np.float32(1),), "first axis of samples"),
        ((np.array([None, {}]),), "must be numbers"),
    ],
)
def test_array_dataset_refuses_wrong_arrays(arrays, rule):
    """None, unequal, empty, without axes, of objects."""
    with pytest.raises(ValueError, match=rule):
        ArrayDataset(*arrays)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_array_stays_mapped_also_in_a_pickle(tmp_path, order):
    """A worker process gets the file's name, not its content."""
    x = np.asarray(np.random.default_rng(0).random((1000, 50)), order=order)
    np.save(tmp_path / "x.npy", x)
    dataset = ArrayDataset(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(1000))
    assert not dataset.in_memory
    text = pickle.dumps(dataset)
    assert len(text) < 20_000
    copy = pickle.loads(text)
    assert isinstance(copy.arrays[0], np.memmap)
    assert (copy.arrays[0] == x).all()
    batch = dataset.take(np.array([1, 2]))
    assert type(batch[0]) is np.ndarray


def test_a_view_of_a_mapped_array_is_pickled_by_value(tmp_path):
    """A view does not know where in the file it begins."""
    np.save(tmp_path / "x.npy", np.arange(10))
    view = np.load(tmp_path / "x.npy", mmap_mode="r")[3:]
    assert pickle.loads(pickle.dumps(ArrayDataset(view))).arrays[0].tolist() == list(range(3, 10))


def test_subset_gives_the_chosen_samples():
    """By index and by batch, where the data set has batches."""
    dataset = ArrayDataset(np.arange(10) * 10)
    subset = Subset(dataset, [7, 3, 3])
    assert len(subset) == 3
    assert subset[0] == (70,)
    assert subset.take(np.array([2, 0]))[0].tolist() == [30, 70]
    assert pickle.loads(pickle.dumps(subset))[1] == (30,)
    assert can_take(Subset(subset, [0]))
    assert not can_take(Subset(np.ones((3, 2)), [0]))


@pytest.mark.parametrize(
    ("indices", "rule"),
    [([], "at least one"), ([[1]], "list of"), ([0.5], "integers"), ([-1], r"in \[0, 3\)"), ([3], r"in \[0, 3\)")],
)
def test_subset_refuses_wrong_indices(indices, rule):
    """None, nested, fractions, negative, too large."""
    with pytest.raises((ValueError, TypeError), match=rule):
        Subset([1, 2, 3], indices)


def test_collate_stacks_part_by_part():
    """Tuples, dicts, arrays, numbers and text."""
    samples = [(np.full(2, i), {"a": i, "t": str(i)}, [i, 0.5]) for i in range(3)]
    x, parts, pair = default_collate(samples)
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert parts["a"].tolist() == [0, 1, 2]
    assert parts["t"] == ["0", "1", "2"]
    assert pair[0].dtype == np.int64
    assert pair[1].dtype == np.float64
    assert default_collate([np.float32(1)]).dtype == np.float32


@pytest.mark.parametrize(
    ("samples", "rule"),
    [
        ([np.zeros(2), np.zeros(3)], "one shape"),
        ([(1, 2), (1,)], "2 parts"),
        ([{"a": 1}, {"b": 1}], "the keys"),
        ([None, None], "must be arrays"),
    ],
)
def test_collate_refuses_unlike_samples(samples, rule):
    """Other shapes, other structures, objects."""
    with pytest.raises((ValueError, TypeError), match=rule):
        default_collate(samples)

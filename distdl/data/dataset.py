"""Data sets in memory and on disk: arrays whose first axis is the sample."""

import mmap
from collections.abc import Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ..core import checks


@runtime_checkable
class Dataset(Protocol):
    """What a data loader reads: `len(dataset)` samples, `dataset[i]` one of them, as in PyTorch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class IterableDataset(Protocol):
    """Data that can only be read from front to back: `iter(dataset)` starts an epoch."""

    def __iter__(self) -> Iterator[Any]: ...


class Takes:
    """Marks data sets whose `take(indices)` returns a batch: a tuple of arrays."""


class Ordered:
    """Marks data sets whose attribute `order` is that of shuffled epochs, see `plan.Order`."""

    order: Any


def order_of(dataset: Any) -> Any:
    """Return the order that a data set gives to shuffled epochs; None: it leaves that to others."""
    return dataset.order if isinstance(dataset, Ordered) else None


class ArrayDataset(Takes):
    """Samples that are rows of arrays, in memory or memory-mapped."""

    def __init__(self, *arrays: Any) -> None:
        """Hold `arrays` without copying them.

        Args:
            arrays: arrays of equal length along the first axis, such as inputs and labels.

        Raises:
            ValueError: no arrays, no rows, unequal lengths, an array without axes, or one of objects.
        """
        if not arrays:
            raise checks.bad_value("arrays", arrays, "must hold at least one array")
        self.arrays = tuple(array if isinstance(array, np.memmap) else np.asarray(array) for array in arrays)
        for i, array in enumerate(self.arrays):
            if array.ndim == 0 or array.dtype.hasobject:
                raise checks.bad_value(
                    f"arrays[{i}]", f"{array.dtype} {array.shape}", "must be numbers with a first axis of samples"
                )
        lengths = [len(array) for array in self.arrays]
        if min(lengths) != max(lengths):
            raise checks.bad_value("arrays", lengths, "must have equal lengths along the first axis")
        if not lengths[0]:
            raise checks.bad_value("arrays", [array.shape for array in self.arrays], "must hold at least one sample")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return one sample: a row of each array."""
        return tuple(array[index] for array in self.arrays)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return a batch: the rows `indices` of each array, copied in one gather each, in this machine's byte order."""
        rows = (np.asarray(np.take(array, indices, axis=0)) for array in self.arrays)
        return tuple(part.astype(part.dtype.newbyteorder("="), copy=False) for part in rows)

    @property
    def in_memory(self) -> bool:
        """Whether no array is backed by a file."""
        return not any(isinstance(array, np.memmap) for array in self.arrays)

    def __getstate__(self) -> dict[str, Any]:
        """Describe mapped arrays by their file, so that a worker process maps it too and copies nothing."""
        return {"arrays": [_Mapped.of(array) or array for array in self.arrays]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the described files again."""
        self.arrays = tuple(entry.open() if isinstance(entry, _Mapped) else entry for entry in state["arrays"])

    def __repr__(self) -> str:
        """Return a line that tells shapes and types."""
        return f"ArrayDataset({', '.join(f'{array.dtype} {array.shape}' for array in self.arrays)})"


class _Mapped:
    """Where a memory-mapped array lies on disk."""

    def __init__(self, array: np.memmap) -> None:
        self.path, self.dtype, self.offset, self.shape = array.filename, array.dtype, array.offset, array.shape
        self.order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"

    @classmethod
    def of(cls, array: np.ndarray) -> "_Mapped | None":
        """Describe `array` if it is a whole mapping; views do not know their own offset."""
        whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename is not None
        return cls(array) if whole else None  # type: ignore[arg-type]

    def open(self) -> np.memmap:
        assert self.path is not None
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


class Subset:
    """Some samples of a data set, in a given order."""

    def __init__(self, dataset: Dataset, indices: Any) -> None:
        """Select `indices` of `dataset`.

        Args:
            dataset: the data set to read from.
            indices: integers of shape (n,), each in [0, len(dataset)).

        Raises:
            ValueError: an index out of range, or none at all.
            TypeError: the indices are no integers.
        """
        self.dataset = dataset
        self.indices = np.asarray(indices)
        if self.indices.ndim != 1 or not self.indices.size:
            raise checks.bad_value("indices", self.indices.shape, "must be a list of at least one index")
        if self.indices.dtype.kind not in "iu":
            raise checks.bad_type("indices", self.indices.dtype.name, "must be integers")
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < 0 or high >= len(dataset):
            raise checks.bad_value("indices", (low, high), f"must lie in [0, {len(dataset)})")

    def __len__(self) -> int:
        """Return the number of selected samples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """Return one of the selected samples."""
        return self.dataset[int(self.indices[index])]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return a batch of the selected samples, if `can_take(self)`."""
        batch: tuple[np.ndarray, ...] = self.dataset.take(self.indices[indices])  # type: ignore[attr-defined]
        return batch


def can_take(dataset: Any) -> bool:
    """Say whether `dataset.take(indices)` is a batch; methods of this name elsewhere mean other things."""
    return can_take(dataset.dataset) if isinstance(dataset, Subset) else isinstance(dataset, Takes)

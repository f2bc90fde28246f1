"""`Segments`: the arrays of many parameters for one kernel call on each thread.

A call for each parameter costs more than the update of a small one. So the kernels take addresses.
Finding an address costs as much as a call; arrays that are where they were at the last step cost
nothing.
"""

import ctypes
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np

from ..kernels.team import MEMORY_BOUND, each_part


class Segments:
    """Where gradient, values and state arrays of some parameters lie.

    Attributes:
        members: which rows a kernel can take: C-contiguous, aligned, writable, of one type of float, and in memory
            of their own.
        others: the other rows.
        addresses: for each member its row's addresses, values before gradient, as int64.
        edges: where each member begins among the values of all, and where the last one ends.
        like: an empty array of their type.
    """

    def __init__(self) -> None:
        self.members: list[int] = []
        self.others: list[int] = []
        self.addresses = np.zeros((0, 2), np.int64)
        self.edges = np.zeros(1, np.int64)
        self.like = np.zeros(0, np.float32)
        self._fixed: list[Any] = []
        # Weak, as no gradient should live longer than its parameter's `.grad`.
        self._gradients: list[weakref.ref[np.ndarray]] = []

    def follow(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Find the arrays of `rows`: gradient, values, and what of the state there is, else None."""
        gradients = [row[0] for row in rows]
        fixed = [array for row in rows for array in row[1:]]
        if len(fixed) != len(self._fixed) or not all(map(is_, fixed, self._fixed)):
            self._lay_out(rows)
        elif not all(map(is_, gradients, [reference() for reference in self._gradients])):
            if any(not _is_plain(gradients[i], self.like.dtype) for i in self.members):
                self._lay_out(rows)
            self.addresses[:, 1] = [_address(gradients[i]) for i in self.members]
        else:
            return
        self._fixed = fixed
        self._gradients = [weakref.ref(gradient) for gradient in gradients]

    def share(self, kernel: Callable[..., None], *options: Any) -> None:
        """Call a kernel for the values of all members, which threads share: none depends on another.

        Args:
            kernel: called with addresses, edges, like, the part of all values (start, stop), and the options.
        """
        each_part(
            lambda part: part.call(
                kernel, self.addresses, self.edges, self.like, (part.slice.start, part.slice.stop), *options
            ),
            int(self.edges[-1]),
            MEMORY_BOUND,
        )

    def _lay_out(self, rows: Sequence[tuple[Any, ...]]) -> None:
        dtype = rows[0][1].dtype
        plain = [i for i, row in enumerate(rows) if all(_is_plain(array, dtype) for array in row)]
        tied = _tied(rows, plain)
        self.members = [i for i in plain if i not in tied]
        self.others = sorted(set(range(len(rows))) - set(self.members))
        chosen = [rows[i] for i in self.members]
        table = [[_address(array) for array in (values, gradient, *state)] for gradient, values, *state in chosen]
        self.addresses = np.array(table, np.int64).reshape(len(chosen), len(rows[0]))
        self.edges = np.cumsum([0, *(row[1].size for row in chosen)], dtype=np.int64)
        self.like = np.zeros(0, dtype)


def _tied(rows: Sequence[tuple[Any, ...]], plain: Sequence[int]) -> set[int]:
    """Return those rows whose values or state lie where another's do: threads would change them at the same time."""
    found: set[int] = set()
    end, owner = 0, -1
    for start, nbytes, row in sorted((_address(array), array.nbytes, i) for i in plain for array in rows[i][1:]):
        if start < end and row != owner:
            found |= {row, owner}
        if start + nbytes > end:
            end, owner = start + nbytes, row
    return found


def _is_plain(array: Any, dtype: np.dtype) -> bool:
    return array is not None and array.flags.carray and array.dtype is dtype and array.size > 0


def _address(array: np.ndarray) -> int:
    # Three times as fast as array.ctypes.data.
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]

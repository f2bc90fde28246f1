"""Ranks over MPI; the only file that imports mpi4py."""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import memory
from ..core.errors import PeerError
from ..core.places import users_place
from .base import MAX_TAG, Communicator
from .contract import Call, difference
from .litter import remove_names
from .node_barrier import EAGER, PATIENT
from .node_tree import SharedArray, shared_bytes
from .nodes import Nodes
from .patience import Patient
from .shared import share
from .tree import Tree, rescale

_WHOLE_BYTES = 1 << 13, 1 << 18
"""Between two ranks MPI's own allreduce is faster within these sizes, the comparison of signatures included."""

_TOLD_BYTES = 1200
"""Room for what a rank says of a call that does not fit the others': two texts of letters of up to four bytes."""

_COMBINE = {"sum": np.add, "max": np.maximum, "min": np.minimum}
"""What these do with NaN, unlike MPI's operations, does not depend on the order."""


class MPICommunicator(Communicator):
    """A group of MPI ranks.

    Attributes:
        handle: the mpi4py communicator.
        family: all communicators split off from one world, itself first. None is ever freed:
            how far each rank went in them tells whether a rank that has left is still needed.

    Args:
        parent: of which this is a part; None for all ranks.
        handle: the part's mpi4py communicator.
        name: see `Communicator`.
    """

    def __init__(self, parent: MPICommunicator | None = None, handle: Any = None, name: str = "world"):
        super().__init__(name)
        from mpi4py import MPI

        self._mpi = MPI
        # A duplicate of the world: apart from the messages of others.
        self.handle = MPI.COMM_WORLD.Dup() if parent is None else handle
        self.rank = self.handle.Get_rank()
        self.size = self.handle.Get_size()
        self.local_rank, self.local_size = self._geography(parent is None)
        self.members = self._numbers_in_world()
        self.family: list[MPICommunicator] = parent.family if parent else []
        self.family.append(self)
        self._talker: Callable[[Any], Any] = lambda handle: handle
        self._waiting = EAGER
        self._tree = Tree(self.handle)
        self._nodes: Nodes | None = None
        self._shared: dict[int, SharedArray] = {}
        self._whole_from, self._whole_to = _WHOLE_BYTES if self.size == 2 else (0, -1)
        self._in_place = MPI.IN_PLACE
        self._mpi_allreduce = self.handle.Allreduce
        self._most = MPI.MAX
        self._signatures = np.zeros(2, np.int64)
        self._tags = int(self.handle.Get_attr(MPI.TAG_UB) or 2 * MAX_TAG + 1) - MAX_TAG

    def describe(self) -> str:
        return f"{self.size} rank{'s' if self.size > 1 else ''}, {library_version(self._mpi)}"

    def has_threads(self) -> bool:
        return bool(self._mpi.Query_thread() == self._mpi.THREAD_MULTIPLE)

    def abort(self, code: int) -> None:
        """End all processes of the job at once."""
        self._mpi.COMM_WORLD.Abort(code)

    def _geography(self, is_world: bool) -> tuple[int, int]:
        node = self.handle.Split_type(self._mpi.COMM_TYPE_SHARED)
        geography = node.Get_rank(), node.Get_size()
        if is_world:
            remove_names(node)
        node.Free()
        return geography

    def _numbers_in_world(self) -> tuple[int, ...]:
        group, world = self.handle.Get_group(), self._mpi.COMM_WORLD.Get_group()
        return tuple(group.Translate_ranks(range(self.size), world))

    def _agree(self) -> None:
        """Compare the signatures of what the ranks call before they meet in a collective of MPI.

        Raises:
            PeerError: they differ, on all ranks alike.
        """
        call = self.call
        if self.size == 1 or call is None:
            return
        signatures = self._signatures
        signatures[0] = call.signature
        signatures[1] = -call.signature
        self._mpi_allreduce(self._in_place, signatures, self._most)
        if signatures[0] != -signatures[1]:
            self._disagree(call)

    def _disagree(self, call: Call) -> None:
        words = str(call), str(users_place(sys._getframe()))
        mine = json.dumps([text[: _TOLD_BYTES // 10] for text in words], ensure_ascii=False).encode()
        told = np.zeros(_TOLD_BYTES, np.uint8)
        told[: len(mine)] = np.frombuffer(mine, np.uint8)
        everything = np.empty((self.size, _TOLD_BYTES), np.uint8)
        self.handle.Allgather(told, everything)
        calls = [json.loads(row.tobytes().rstrip(b"\0")) for row in everything]
        raise PeerError(
            f"the ranks call different collectives (number {call.number} of {self.name!r}): "
            + difference([(self.members[rank], what, where) for rank, (what, where) in enumerate(calls)])
        )

    def _split(self, color: int | None, key: int, name: str) -> MPICommunicator | None:
        self._agree()
        part = self.handle.Split(self._mpi.UNDEFINED if color is None else color, key)
        return None if part == self._mpi.COMM_NULL else MPICommunicator(self, part, name)

    def beside(self) -> MPICommunicator:
        part = super().beside()
        assert isinstance(part, MPICommunicator)
        part._be_patient()
        return part

    def _be_patient(self) -> None:
        self._talker = lambda handle: Patient(handle, self._mpi)
        self._waiting = PATIENT
        self._tree = Tree(self._talker(self.handle))
        self._whole_to = -1

    def _zeros(self, size: int, dtype: np.dtype, in_tree_order: bool) -> np.ndarray:
        self._agree()
        if self._nodes is None:
            self._nodes = Nodes(self.handle, self._talker)
        nodes = self._nodes
        if not size or not nodes.is_shared or (in_tree_order and not nodes.keeps_order):
            return memory.zeros(size, dtype)
        parts = share(nodes.local, shared_bytes(nodes, size, dtype))
        agreed = np.array([parts is not None], np.int8)
        self._mpi_allreduce(self._in_place, agreed, self._mpi.MIN)
        if parts is None or not agreed[0]:
            return memory.zeros(size, dtype)
        shared = SharedArray(nodes, parts, size, dtype, self.collectives, self._waiting)
        array: np.ndarray = shared.mine[:]
        self._shared[id(array)] = shared
        weakref.finalize(array, self._shared.pop, id(array)).atexit = False
        return array

    def _number_of(self, array: np.ndarray) -> int:
        shared = self._shared.get(id(array))
        return -1 if shared is None else shared.number

    def _allreduce(self, array: np.ndarray, op: str, scale: float) -> None:
        shared = self._shared.get(id(array))
        if shared is not None:
            shared.allreduce(_COMBINE[op], scale, self._tag())
            return
        # MPI does not promise that an allreduce gives all ranks the same bits, and one of MPICH's does
        # not. But two ranks can only compute a + b.
        if op == "sum" and self._whole_from < array.nbytes <= self._whole_to:
            self._agree()
            self._mpi_allreduce(self._in_place, array)
            if scale != 1.0:
                rescale(array, scale)
        elif self.size > 1:
            self._tree.allreduce(array.reshape(-1), _COMBINE[op], scale, self._tag())
        else:
            rescale(array, scale)

    def library_allreduce(self, array: np.ndarray) -> None:
        """Add up an array by MPI's own allreduce, which does not promise all ranks the same bits: to compare with."""
        self._mpi_allreduce(self._in_place, array)

    def _tag(self) -> int:
        """Return a tag for messages and barriers of the collective that has begun."""
        assert self.call is not None
        return MAX_TAG + 1 + self.call.signature % self._tags

    def _broadcast(self, array: np.ndarray, root: int) -> None:
        self._agree()
        self.handle.Bcast(array, root)

    def _allgather(self, array: np.ndarray, out: np.ndarray) -> None:
        self._agree()
        self.handle.Allgather(array, out)

    def _gather(self, array: np.ndarray, out: np.ndarray | None, root: int) -> None:
        self._agree()
        self.handle.Gather(array, out, root)

    def _alltoall(self, array: np.ndarray, out: np.ndarray) -> None:
        self._agree()
        self.handle.Alltoall(array, out)

    def _send(self, array: np.ndarray, dest: int, tag: int) -> None:
        self.handle.Send(array, dest, tag)

    def _recv(self, array: np.ndarray, source: int, tag: int) -> int:
        status = self._mpi.Status()
        try:
            self.handle.Recv(array, source, tag, status)
        except self._mpi.Exception as error:
            if error.Get_error_class() != self._mpi.ERR_TRUNCATE:
                raise
            return -1
        return int(status.Get_count(self._mpi.BYTE))

    def _barrier(self) -> None:
        self._agree()
        self.handle.Barrier()


def library_version(mpi: Any) -> str:
    """Return name and version of the MPI library, such as "MPICH 5.0.2"."""
    text = mpi.Get_library_version().replace("\0", "").strip()
    words = text.replace(",", " ").split()
    if text.startswith("MPICH"):
        return "MPICH " + next((word for word in words if word[0].isdigit()), "")
    if text.startswith("Open MPI"):
        return "Open MPI " + next((word.lstrip("v") for word in words[2:] if word.lstrip("v")[0].isdigit()), "")
    return str(text.splitlines()[0][:60])

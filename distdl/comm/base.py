"""`Communicator`: what ranks can say to each other."""

from __future__ import annotations

import contextlib
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import checks, memory, spans
from ..core.errors import ArgumentError, PeerError
from . import objects
from .contract import Call, make_call
from .nodes import node_number
from .values import as_array, as_contiguous, pack, unpack

OPERATIONS = ("sum", "max", "min")

MAX_TAG = (1 << 14) - 1
"""Tags of messages; MPI has at least twice as many, and the upper ones are our own."""

_CALL, _SUMS = "call of guests", "common sums"

_SIZES = 1 << 32
"""Above the sizes of arrays that are added up with guests."""

_FLOAT32 = np.dtype(np.float32)


class Meetings:
    """Layers that meet in their passes (synchronized batch norm), and how often they have.

    Attributes:
        layers: communicators by layer, for as long as the layer is there.
        made: how many there were so far.
        count: sums that layers have made together.
        refusal: why they cannot now; "" if they can.
    """

    def __init__(self) -> None:
        self.layers: weakref.WeakKeyDictionary[Any, Communicator] = weakref.WeakKeyDictionary()
        self.made = 0
        self.count = 0
        self.refusal = ""


class Communicator(ABC):
    """A group of ranks. Collective calls must be made by all of them, in the same order.

    Attributes:
        rank, size: this rank's number, and how many there are.
        local_rank, local_size: the same among the ranks on this node.
        members: the numbers of these ranks in the world.
        name: the same on all ranks: "world", or for a part when and by which color it was split off.
        collectives: how many collectives this rank has begun.
        call: the last one; see `contract`.
        since: when it began, by `time.monotonic`; 0 if none is under way.
        seconds: how long this rank was in collectives so far.
        clock: how many steps the ranks have taken; whoever takes them counts.
        meetings: of layers that meet in their passes, over this and all communicators split off.
        has_guests: whether ranks without work of their own take part in what needs all, see `call_guests`.
        peer: the rank in the world that a message is just being sent to or received from, else -1.
        peer_call, peer_since: what is done, and when it began.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    members: tuple[int, ...]

    def __init__(self, name: str = "world") -> None:
        self.name = name
        self.collectives = 0
        self.call: Call | None = None
        self.since = self.seconds = 0.0
        self._span_start = 0
        self.clock = 0
        self.meetings = Meetings()
        self.has_guests = False
        self.peer = -1
        self.peer_call = ""
        self.peer_since = 0.0
        self._own_mail: dict[int, list[np.ndarray]] = {}

    # --- arrays ---

    def allreduce(self, array: Any, op: str = "sum", scale: float = 1.0, label: str = "") -> Any:
        """Combine an array over all ranks, element by element; every rank gets the same bits.

        The order in which ranks are combined is the same for every element of every array.

        Args:
            array: a contiguous, writable array, which is overwritten; or a number or list, which is not.
            op: "sum", "max" or "min".
            scale: by which the result is multiplied on the way, for arrays of floats.
            label: what is combined. Ranks must give the same; without one they must call from the same line.

        Returns:
            The array itself; for a number a number, for a list a new array.

        Raises:
            PeerError: another rank calls something else.
        """
        if op not in OPERATIONS:
            checks.one_of("op", op, OPERATIONS)
        # An allreduce of few bytes takes no longer than a handful of questions.
        if type(array) is np.ndarray and array.dtype is _FLOAT32 and array.flags.carray:
            self._begin("allreduce", _FLOAT32, array.shape, op, self._number_of(array), label)
            try:
                self._allreduce(array, op, scale)
            finally:
                self._end()
            return array
        values, plain = as_array(array)
        if scale != 1.0 and values.dtype.kind != "f":
            raise checks.bad_value("scale", scale, f"must be 1 for an array of {values.dtype}")
        is_packed = plain and values.dtype.kind in "iuf"
        sent = pack(values, -1.0 if op == "min" else 1.0) if is_packed else values
        kind, number = None if is_packed else values.dtype, self._number_of(values)
        with self._collective("allreduce", kind, values.shape, op, number, label):
            if sent.dtype == bool:
                self._allreduce(sent.view(np.uint8), "min" if op == "min" else "max", scale)
            else:
                self._allreduce(sent, op, scale)
        if is_packed:
            return unpack(sent, values.shape)
        return values.item() if plain and values.ndim == 0 else values

    def zeros(self, size: int, dtype: Any = np.float32, in_tree_order: bool = False) -> np.ndarray:
        """Return a flat array of zeros that `allreduce` combines fastest; all ranks call this together.

        Ranks of a node share its memory where the system lets them, and combine it there, without messages; nodes are
        combined after the ranks of each.

        Args:
            size: how many elements, the same on all ranks.
            dtype: of what `allreduce` takes.
            in_tree_order: combine in the order of other arrays, even where that is slower.

        Returns:
            An array that begins on a cache line. What `allreduce` gets must be this array itself, not a view of it.
        """
        checks.integer("size", size, 0)
        kind = np.dtype(dtype)
        with self._collective("zeros", kind, (size,)):
            return self._zeros(size, kind, in_tree_order)

    def allreduce_with_guests(self, array: np.ndarray, number: int) -> np.ndarray:
        """Add up an array of float64 over all ranks, in place; guests add zeros.

        Args:
            array: any shape.
            number: what is added up, the same on all ranks: below 2 ** 20.
        """
        if self.meetings.refusal:
            raise ArgumentError(self.meetings.refusal)
        self.meetings.count += 1
        if self.has_guests:
            self.call_guests(array.size + number * _SIZES)
        self.allreduce(array.reshape(-1), label=f"{_SUMS} {number}")
        return array

    def call_guests(self, what: float) -> None:
        """Tell guests what comes: a sum (number * _SIZES + size), or what a number within (0, 1) means to both."""
        self.allreduce(float(what), "max", label=_CALL)

    def be_guest(self, what: float = 0.0) -> float:
        """Take part in the allreduces that are called, and return what else is.

        Args:
            what: is called if all ranks are guests, by the greatest.
        """
        while (called := float(self.allreduce(what, "max", label=_CALL))) >= 1:
            number, size = divmod(int(called), _SIZES)
            self.allreduce(np.zeros(size), label=f"{_SUMS} {number}")
        return called

    def broadcast(self, array: Any, root: int = 0) -> Any:
        """Overwrite an array with the root's, and return it; a number or list gives a new value."""
        self._check_rank("root", root)
        values, plain = as_array(array)
        is_packed = plain and values.dtype.kind in "iuf"
        # What others give only says how many numbers to make room for.
        sent = pack(values if self.rank == root else np.zeros_like(values), 1.0) if is_packed else values
        with self._collective("broadcast", None if is_packed else values.dtype, values.shape, root=root):
            self._broadcast(sent, root)
        if is_packed:
            return unpack(sent, values.shape)
        return values.item() if plain and values.ndim == 0 else values

    def allgather(self, array: Any) -> np.ndarray:
        """Return the arrays of all ranks, which must have one shape: (size, *shape)."""
        values = as_contiguous(array)
        out = np.empty((self.size, *values.shape), values.dtype)
        with self._collective("allgather", values.dtype, values.shape):
            self._allgather(values, out)
        return out

    def gather(self, array: Any, root: int = 0) -> np.ndarray | None:
        """Return the arrays of all ranks, which must have one shape, on the root: (size, *shape); None elsewhere."""
        self._check_rank("root", root)
        values = as_contiguous(array)
        out = np.empty((self.size, *values.shape), values.dtype) if self.rank == root else None
        with self._collective("gather", values.dtype, values.shape, root=root):
            self._gather(values, out, root)
        return out

    def alltoall(self, array: Any) -> np.ndarray:
        """Send `array[r]` to rank r, and return what the ranks sent here, in rank order."""
        values = as_contiguous(array)
        if values.ndim == 0 or len(values) != self.size:
            raise checks.bad_value(
                "array", f"shape {values.shape}", f"must have a first axis of {self.size}, one a rank"
            )
        out = np.empty_like(values)
        with self._collective("alltoall", values.dtype, values.shape):
            self._alltoall(values, out)
        return out

    def send(self, array: Any, dest: int, tag: int = 0) -> None:
        """Send an array to a rank, which must receive it with the same shape and dtype."""
        self._check_rank("dest", dest)
        values = as_contiguous(array)
        _check_tag(tag)
        if dest == self.rank:
            # MPI may block for ever in a message to oneself.
            self._own_mail.setdefault(tag, []).append(values.copy())
        else:
            with self._talking_to(dest, "send to"):
                self._send(values, dest, tag)

    def recv(self, array: np.ndarray, source: int, tag: int = 0) -> np.ndarray:
        """Receive into a contiguous, writable array, and return it.

        Raises:
            PeerError: what came does not fill the array.
        """
        self._check_rank("source", source)
        values, plain = as_array(array)
        if plain:
            raise checks.bad_type("array", array, "must be a NumPy array to receive into")
        _check_tag(tag)
        if source == self.rank:
            self._receive_own(values, tag)
        else:
            with self._talking_to(source, "receive from"):
                received = self._recv(values, source, tag)
            if received != values.nbytes:
                came = "more bytes" if received < 0 else f"{received} bytes"
                raise PeerError(f"rank {source} sent {came} where `array` has room for {values.nbytes}")
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        with self._collective("barrier"):
            self._barrier()

    # --- objects ---

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """Return the root's JSON-like object (None, bool, number, str, list, dict with str keys)."""
        self._check_rank("root", root)
        return objects.broadcast(self, value, root)

    def allgather_object(self, value: Any) -> list[Any]:
        """Return the JSON-like objects of all ranks, in rank order."""
        return objects.allgather(self, value)

    def gather_object(self, value: Any, root: int = 0) -> list[Any] | None:
        """Return the JSON-like objects of all ranks on the root, None elsewhere."""
        return objects.gather(self, value, root)

    def all_equal(self, value: Any) -> bool:
        """Say, on all ranks alike, whether all gave the same JSON-like object; costs no more on many ranks."""
        return objects.all_equal(self, value)

    # --- order ---

    @contextlib.contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """Let rank 0 run the block before the others: to fetch or compile what all need."""
        if self.rank != 0:
            self.barrier()
        try:
            yield
        finally:
            if self.rank == 0:
                self.barrier()

    def print(self, *values: Any, **options: Any) -> None:
        """Print on rank 0 only."""
        if self.rank == 0:
            print(*values, **{"flush": True, **options})

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """Return the communicator of the ranks with the same color, ordered by key, then rank; None for color None."""
        if color is not None:
            checks.integer("color", color, 0)
        checks.integer("key", key)
        with self._collective("split"):
            part = self._split(color, key, f"{self.name}/{self.collectives}.{color}")
        if part is not None:
            part.meetings = self.meetings
        return part

    def beside(self) -> Communicator:
        """Return these ranks once more, for a thread that reduces while another computes.

        Where it can, it sleeps while messages are on their way, instead of taking the core to look for them.
        """
        part = self.split(0, self.rank)
        assert part is not None
        return part

    def split_by_node(self) -> tuple[Communicator, Communicator | None]:
        """Return the communicator of this node's ranks, and that of the first ranks of all nodes; None for others."""
        numbers = self.allgather(np.array(self._node_number()))
        node = self.split(int(np.flatnonzero(numbers == numbers[self.rank])[0]), self.rank)
        assert node is not None
        return node, self.split(0 if node.rank == 0 else None, self.rank)

    @abstractmethod
    def describe(self) -> str:
        """Say in a few words how many ranks there are, and over what they talk."""

    def __deepcopy__(self, memo: Any) -> Communicator:
        """Return this one: a copy of a model talks to the same ranks."""
        return self

    def has_threads(self) -> bool:
        """Say whether several threads may talk at a time."""
        return True

    # --- what a kind of communicator provides: contiguous arrays come in ---

    def _zeros(self, size: int, dtype: np.dtype, in_tree_order: bool) -> np.ndarray:
        return memory.zeros(size, dtype)

    def _number_of(self, array: np.ndarray) -> int:
        """Return the number of an array that ranks share, else -1."""
        return -1

    def _node_number(self) -> int:
        """Return a number that the ranks of one node have in common."""
        return node_number()

    @abstractmethod
    def _split(self, color: int | None, key: int, name: str) -> Communicator | None: ...

    @abstractmethod
    def _allreduce(self, array: np.ndarray, op: str, scale: float) -> None: ...

    @abstractmethod
    def _broadcast(self, array: np.ndarray, root: int) -> None: ...

    @abstractmethod
    def _allgather(self, array: np.ndarray, out: np.ndarray) -> None: ...

    def _gather(self, array: np.ndarray, out: np.ndarray | None, root: int) -> None:
        """Bring the arrays of all ranks into the root's `out`."""
        everything = np.empty((self.size, *array.shape), array.dtype)
        self._allgather(array, everything)
        if out is not None:
            out[...] = everything

    @abstractmethod
    def _alltoall(self, array: np.ndarray, out: np.ndarray) -> None: ...

    @abstractmethod
    def _send(self, array: np.ndarray, dest: int, tag: int) -> None: ...

    @abstractmethod
    def _recv(self, array: np.ndarray, source: int, tag: int) -> int:
        """Return how many bytes came, -1 for more than the array holds."""

    @abstractmethod
    def _barrier(self) -> None: ...

    def _begin(
        self,
        kind: str,
        dtype: np.dtype | None = None,
        shape: tuple[int, ...] | None = None,
        op: str = "",
        root: int = -1,
        label: str = "",
    ) -> None:
        """Count a collective; every one passes here before it starts."""
        self.collectives += 1
        self.call = make_call(self.collectives, kind, op, dtype, shape, root, self.clock, label)
        self.since = time.monotonic()
        if spans.recorder is not None:
            self._span_start = spans.clock()

    def _end(self) -> None:
        """Take note that the collective is over."""
        self.seconds += time.monotonic() - self.since
        self.since = 0.0
        if spans.recorder is not None and self.call is not None:
            # Of a label its first words: what follows tells steps apart.
            name = self.call.label.partition(",")[0] or self.call.kind
            spans.recorder.add(name, "reduce", self._span_start or spans.clock(), "", f"{self.name} {self.collectives}")
        self._span_start = 0

    @contextlib.contextmanager
    def _collective(self, *args: Any, **options: Any) -> Iterator[None]:
        """Begin a collective, see `_begin`, and end it with the block."""
        self._begin(*args, **options)
        try:
            yield
        finally:
            self._end()

    @contextlib.contextmanager
    def _talking_to(self, rank: int, how: str) -> Iterator[None]:
        self.peer_call = f"{how} rank {self.members[rank]}"
        self.peer_since = time.monotonic()
        self.peer = self.members[rank]
        try:
            yield
        finally:
            self.peer = -1

    def _receive_own(self, array: np.ndarray, tag: int) -> None:
        mail = self._own_mail.get(tag)
        if not mail:
            raise checks.bad_value("tag", tag, "must be one that this rank has sent to itself before")
        if mail[0].nbytes != array.nbytes:
            raise PeerError(f"rank {self.rank} sent {mail[0].nbytes} bytes where `array` has room for {array.nbytes}")
        array.reshape(-1).view(np.uint8)[:] = mail.pop(0).reshape(-1).view(np.uint8)

    def _check_rank(self, name: str, rank: int) -> None:
        if checks.integer(name, rank, 0) >= self.size:
            raise checks.bad_value(name, rank, f"must be < {self.size}, the number of ranks")


def _check_tag(tag: int) -> None:
    if checks.integer("tag", tag, 0) > MAX_TAG:
        raise checks.bad_value("tag", tag, f"must be <= {MAX_TAG}")

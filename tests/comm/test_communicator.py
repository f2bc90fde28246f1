"""The communicator: serial and MPI sides are held to the same results, on any number of ranks."""

import contextlib

import numpy as np
import pytest

from distdl.comm import SerialCommunicator
from distdl.core.errors import ArgumentError, ArgumentTypeError, PeerError


@pytest.fixture(params=["world", pytest.param("serial")])
def comm(request, comm):
    """The ranks of this job, and a group of one."""
    return comm if request.param == "world" else SerialCommunicator()


pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (5000,), (2, 3001), (0,)])
@pytest.mark.parametrize(("op", "combine"), [("sum", np.sum), ("max", np.max), ("min", np.min)])
def test_allreduce_combines_in_place(comm, op, combine, shape, dtype):
    """Every rank holds the combination of all ranks' arrays, in the array that it gave."""
    ramp = np.arange(np.prod(shape)).reshape(shape)
    arrays = [np.asarray(ramp * (rank + 1) - rank, dtype) for rank in range(comm.size)]
    mine = arrays[comm.rank].copy()
    result = comm.allreduce(mine, op)
    assert result is mine
    np.testing.assert_allclose(mine, combine(arrays, axis=0), rtol=1e-6)


def test_allreduce_gives_all_ranks_the_same_bits(comm):
    """Sums whose rounding depends on their order agree to the bit on all ranks."""
    for size in (3, 1000, 100_003):
        array = np.random.default_rng(comm.rank).normal(size=size).astype(np.float32) * 10.0 ** (comm.rank % 5)
        comm.allreduce(array)
        assert (comm.allgather(array) == array).all()


def test_numbers_and_lists_give_new_values(comm):
    """A number comes back as a number, a list as an array; booleans are or-ed."""
    assert comm.allreduce(1.5) == 1.5 * comm.size
    assert isinstance(comm.allreduce(1), int)
    assert comm.allreduce([1, comm.rank], "max").tolist() == [1, comm.size - 1]
    assert comm.allreduce(np.array([comm.rank == 0, False])).tolist() == [True, False]


def test_broadcast_takes_the_roots(comm):
    """Arrays and objects of the root arrive everywhere, whichever rank it is."""
    for root in range(comm.size):
        array = np.full((2, 3), float(comm.rank))
        assert comm.broadcast(array, root) is array
        assert (array == root).all()
        assert comm.broadcast_object({"rank": comm.rank, "list": [1, None, "é"]}, root) == {
            "rank": root,
            "list": [1, None, "é"],
        }


def test_gathers_are_in_rank_order(comm):
    """allgather stacks arrays, allgather_object lists objects of any length; gather does on the root alone."""
    rows = [[rank, 7] for rank in range(comm.size)]
    assert comm.allgather(np.array([comm.rank, 7])).tolist() == rows
    for at in range(comm.size):
        found = comm.gather(np.array([comm.rank, 7]), at)
        assert found is None if comm.rank != at else found.tolist() == rows
    expected = ["x" * rank for rank in range(comm.size)]
    assert comm.allgather_object("x" * comm.rank) == expected
    root = comm.size - 1
    assert comm.gather_object("x" * comm.rank, root) == (expected if comm.rank == root else None)


def test_all_know_whether_all_are_equal(comm):
    """Of JSON-like objects, one rank's difference shows on all."""
    assert comm.all_equal({"a": [1, "é"]})
    assert comm.all_equal(comm.rank == 0) == (comm.size == 1)
    assert comm.all_equal(["x" * (comm.rank == comm.size - 1)]) == (comm.size == 1)


def test_alltoall_transposes(comm):
    """Row r of this rank's array goes to rank r."""
    mine = np.array([[10 * comm.rank + rank] for rank in range(comm.size)])
    assert comm.alltoall(mine).ravel().tolist() == [10 * rank + comm.rank for rank in range(comm.size)]


def test_send_and_receive(comm):
    """A message goes round the ring; messages are told apart by tag."""
    if comm.size == 1:
        comm.send(np.array([1.0]), 0, 5)
        comm.send(np.array([2.0]), 0, 6)
        assert comm.recv(np.zeros(1), 0, 6) == 2.0
        assert comm.recv(np.zeros(1), 0, 5) == 1.0
        return
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    if comm.rank % 2 == 0:
        comm.send(np.array([comm.rank]), after, 3)
    got = comm.recv(np.zeros(1, np.int64), before, 3) if comm.rank != 0 or comm.size % 2 == 0 else None
    if comm.rank % 2 == 1:
        comm.send(np.array([comm.rank]), after, 3)
    if got is None:
        got = comm.recv(np.zeros(1, np.int64), before, 3)
    assert got[0] == before


def test_split_makes_groups(comm):
    """Ranks of a color form a communicator, ordered by key; without a color a rank has none."""
    part = comm.split(comm.rank % 2, key=-comm.rank)
    members = [rank for rank in range(comm.size) if rank % 2 == comm.rank % 2]
    assert part.size == len(members)
    assert part.rank == members[::-1].index(comm.rank)
    assert part.allreduce(comm.rank) == sum(members)
    nothing = comm.split(None if comm.rank == 0 else 1)
    assert (nothing is None) == (comm.rank == 0)


def test_rank_zero_goes_first(comm, tmp_path):
    """What rank 0 does in rank_zero_first() is done when the others enter."""
    directory = comm.broadcast_object(str(tmp_path))
    with comm.rank_zero_first():
        if comm.rank == 0:
            with open(f"{directory}/made", "w") as made:
                made.write("by rank 0")
        with open(f"{directory}/made") as made:
            assert made.read() == "by rank 0"


def test_only_rank_0_prints(comm, capsys):
    """print() writes on rank 0 alone."""
    comm.print("hello", 1)
    assert capsys.readouterr().out == ("hello 1\n" if comm.rank == 0 else "")


def test_geography(comm):
    """Local ranks count the ranks of this node: all of them here."""
    assert (comm.local_rank, comm.local_size) == (comm.rank, comm.size)
    assert str(comm.size) in comm.describe()
    comm.barrier()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.allreduce(np.zeros((4, 4))[:, ::2]), ArgumentError, "C-contiguous"),
        (lambda c: c.allreduce(np.zeros(3), "mean"), ArgumentError, "`op`"),
        (lambda c: c.allreduce(np.array(["a"])), ArgumentTypeError, "`array`"),
        (lambda c: c.allreduce("abc"), ArgumentTypeError, "`array`"),
        (lambda c: c.allreduce(np.zeros(3, np.float16)), ArgumentTypeError, "float32 or float64"),
        (lambda c: c.allreduce(np.zeros(3, ">f4")), ArgumentTypeError, "native byte order"),
        (lambda c: c.allreduce(np.zeros(3, np.complex64)), ArgumentTypeError, "complex64"),
        (lambda c: c.allgather([None]), ArgumentTypeError, "`array`"),
        (lambda c: c.send(np.array([{}]), 0), ArgumentTypeError, "`array`"),
        (lambda c: c.send(np.zeros(3), 0, tag=-1), ArgumentError, "`tag`"),
        (lambda c: c.split(-1), ArgumentError, "`color`"),
        (lambda c: c.split(0, key=0.5), ArgumentTypeError, "`key`"),
        (lambda c: c.broadcast(np.zeros(3), root=99), ArgumentError, "`root`"),
        (lambda c: c.send(np.zeros(3), dest=-1), ArgumentError, "`dest`"),
        (lambda c: c.recv([1.0], 0), ArgumentTypeError, "`array`"),
        (lambda c: c.alltoall(np.zeros(99)), ArgumentError, "first axis"),
        (lambda c: c.allgather_object({1, 2}), ArgumentTypeError, "JSON-like"),
        (lambda c: c.allgather_object([{"a": {1: 2}}]), ArgumentTypeError, "the key 1 is not a str"),
    ],
)
def test_bad_arguments_are_named(comm, call, error, message):
    """A call that cannot work raises before anything is sent."""
    before = comm.collectives
    with pytest.raises(error, match=message):
        call(comm)
    assert comm.collectives == before


def test_a_read_only_array_is_refused(comm):
    """What cannot be overwritten is refused."""
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(ArgumentError, match="writable"):
        comm.allreduce(array)


@pytest.mark.parametrize("length", [1, 3])
def test_messages_of_another_size_are_refused(comm, length):
    """A message that is shorter or longer than the array to receive into is an error, not half an array."""
    peer = comm.rank ^ 1
    if peer >= comm.size:
        peer = comm.rank
    if comm.rank <= peer:
        comm.send(np.zeros(length), peer)
    if comm.rank >= peer:
        with pytest.raises(PeerError, match="`array` has room for 16"):
            comm.recv(np.zeros(2), peer)
    assert comm.peer == -1


def test_collectives_are_counted(comm):
    """Every collective counts one, in the communicator that it is made in; messages do not."""
    before = comm.collectives
    comm.allreduce(1)
    comm.barrier()
    comm.allgather([1])
    part = comm.split(0)
    assert (part.collectives, part.call) == (0, None)
    part.broadcast(1)
    assert (part.collectives, part.call.kind) == (1, "broadcast")
    assert (comm.collectives - before, comm.call.kind) == (4, "split")
    comm.send([1], comm.rank)
    comm.recv(np.zeros(1, np.int64), comm.rank)
    assert comm.collectives - before == 4


def test_parts_know_their_members(comm):
    """All members of a part call it by one name, and know each other's numbers in the world."""
    part = comm.split(comm.rank % 2, key=-comm.rank)
    again = part.split(0)
    members = [rank for rank in range(comm.size) if rank % 2 == comm.rank % 2][::-1]
    assert list(part.members) == list(again.members) == members
    assert len(set(part.allgather_object(part.name))) == 1
    assert len({comm.name, part.name, again.name}) == 3


def test_an_error_of_rank_0_lets_the_others_go(comm):
    """rank_zero_first() does not hold the others when rank 0 fails and handles it."""
    with contextlib.suppress(ValueError), comm.rank_zero_first():
        if comm.rank == 0:
            raise ValueError
    comm.barrier()


def test_receiving_what_was_never_sent_is_refused_alone():
    """A rank alone would wait for ever for itself."""
    with pytest.raises(ArgumentError, match="`tag`"):
        SerialCommunicator().recv(np.zeros(1), 0)


def test_sums_do_not_depend_on_where_an_element_lies(comm):
    """Any part of an array, alone or within a longer one, sums to the same bits: ranks form one tree."""
    for dtype in (np.float32, np.float64):
        whole = np.random.default_rng(comm.rank).normal(size=300_001).astype(dtype) * 10.0 ** (comm.rank % 3)
        whole = whole.astype(dtype)
        arrays = list(comm.allgather(whole))
        width = 1 << (comm.size.bit_length() - 1)
        extra = comm.size - width
        leaves = [arrays[2 * i] + arrays[2 * i + 1] for i in range(extra)] + arrays[2 * extra :]
        while len(leaves) > 1:
            leaves = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
        for start, stop in [(0, 300_001), (5, 6), (17, 9000), (250_000, 300_001), (3, 40_000)]:
            part = whole[start:stop].copy()
            comm.allreduce(part)
            assert (part == leaves[0][start:stop]).all()


@pytest.mark.parametrize("size", [(), 3, 9000, 300_001])
def test_scale_multiplies_the_result(comm, size):
    """A power of two loses no bits, so that the scaled sum is the sum, scaled; integers cannot be scaled."""
    array = np.asarray(np.random.default_rng(comm.rank).normal(size=size), np.float32)
    plain, scaled = array.copy(), array.copy()
    comm.allreduce(plain)
    assert comm.allreduce(scaled, scale=0.25) is scaled
    assert (scaled == plain * np.float32(0.25)).all()
    with pytest.raises(ArgumentError, match="`scale`"):
        comm.allreduce(np.zeros(3, int), scale=0.5)


@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_nan_on_one_rank_is_nan_on_all(comm, op):
    """No operation passes over NaN, wherever it comes from."""
    for rank in range(comm.size):
        for size in (1, 50_000):
            array = np.full(size, np.nan if comm.rank == rank else 1.0, np.float32)
            assert np.isnan(comm.allreduce(array, op)).all()


@pytest.mark.mpi
def test_plain_numbers_may_be_integers_on_some_ranks(comm):
    """A running sum that is still 0 on a rank without rows joins floats; integers alone stay integers."""
    number = 0 if comm.rank else 0.5
    assert comm.allreduce(number) == 0.5
    assert comm.allreduce(number, op="max") == 0.5
    assert comm.allreduce(1.5 if comm.rank == 0 else 2, op="min") == 1.5
    assert comm.broadcast(number) == 0.5
    total = comm.allreduce([comm.rank, 1])
    assert total.dtype == np.int64
    np.testing.assert_array_equal(total, [sum(range(comm.size)), comm.size])
    assert type(comm.allreduce(3)) is int
    assert type(comm.broadcast(3)) is int
    with pytest.raises(ValueError, match=r"must be an array of integers, from 2 \*\* 53 on"):
        comm.allreduce(1 << 60)


@pytest.mark.mpi
def test_plain_integers_are_exact_or_refused(comm):
    """A sum that would be rounded is an error on every rank; what a broadcast overwrites may be anything."""
    big = (1 << 53) - comm.size
    assert comm.allreduce(big if comm.rank == 0 else 1) == big + comm.size - 1
    with pytest.raises(ArgumentError, match=r"2 \*\* 53"):
        comm.allreduce((1 << 53) + 1 if comm.size == 1 else 1 << 53)
    root = comm.size - 1
    assert comm.broadcast(7 if comm.rank == root else 1 << 60, root) == 7

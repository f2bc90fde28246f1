"""One rank of a training job does something else than the others: the job ends, and names rank and place."""

import re

import pytest

from tests.jobs.launching import ALL, mpis, run_job, strays

pytestmark = pytest.mark.job

SCRIPT = """
import os, signal, time
import numpy as np
import distdl
from distdl import nn, optim, parallel
comm = distdl.world()
distdl.manual_seed(1)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1, momentum=0.9), comm, check_every=4)
part = comm.split(0)
x = distdl.tensor(np.ones((2, 4), np.float32))
large = np.ones(400_000, np.float32)
first, second = (nn.SyncBatchNorm(4, comm=comm) for _ in range(2))

def train():
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()

def usual():
    {usual}

def odd():
    {odd}

for step in range(12):
    train()
    if step == 5 and comm.rank == 1:
        odd()
    else:
        usual()
comm.barrier()
print("went on to the end", comm.rank)
"""

MEASURE = "comm.allreduce([1.0, 2.0])"
DIFFERENT = "the ranks call different collectives"
CROSSED = "ranks wait for each other"

# name: (what ranks do between steps, what rank 1 does once instead, what is said)
MISMATCHES = {
    "skips a reduction": (MEASURE, "pass", DIFFERENT),
    "reduces twice": (MEASURE, f"{MEASURE}\n    {MEASURE}", DIFFERENT),
    "reduces in another order": (
        "comm.allreduce([1.0])\n    comm.allreduce([2.0])",
        "b = [2.0]; a = [1.0]\n    comm.allreduce(b)\n    comm.allreduce(a)",
        DIFFERENT,
    ),
    "reduces another shape": ("comm.allreduce(np.ones(3))", "comm.allreduce(np.ones(4))", "(4,)"),
    "reduces another dtype": ("comm.allreduce(np.ones(4))", "comm.allreduce(np.ones(8, np.float32))", "float32"),
    "takes the maximum": ("comm.allreduce([1.0], label='m')", "comm.allreduce([1.0], 'max', label='m')", "(max)"),
    "skips a large reduction": ("comm.allreduce(large)", "pass", DIFFERENT),
    "reduces another large shape": (
        "comm.allreduce(large, label='l')",
        "comm.allreduce(large[:-1], label='l')",
        "(399999,)",
    ),
    "waits at a barrier": (MEASURE, "comm.barrier()", "barrier"),
    "broadcasts": ("comm.allgather([1.0])", "comm.broadcast([1.0])", "broadcast"),
    "broadcasts from another root": ("comm.broadcast([1.0])", "comm.broadcast([1.0], root=1)", "from rank 1"),
    "gathers": ("comm.alltoall(np.ones((comm.size, 2)))", "comm.allgather(np.ones((comm.size, 2)))", "allgather"),
    "sends truth values": ("comm.allreduce(True, label='t')", "comm.allreduce(1.0, label='t')", DIFFERENT),
    "runs backward() twice": ("pass", "model(x).sum().backward()", "bucket 0, reduction 1 of step 6"),
    "takes a step more": ("comm.allreduce(1.0)", "train()\n    comm.allreduce(1.0)", DIFFERENT),
    "reduces lists of another shape": (
        "comm.allreduce([[1, 2, 3], [4, 5, 6]], label='l')",
        "comm.allreduce([[1, 2], [3, 4], [5, 6]], label='l')",
        "numbers (3, 2)",
    ),
    "reduces a number": ("comm.allreduce(np.ones(2), label='n')", "comm.allreduce(1.0, label='n')", "numbers ()"),
    "runs its layers in another order": (
        "first(x); second(x)",
        "second(x); first(x)",
        "common sums",
    ),
    "uses another communicator first": (
        "comm.barrier()\n    part.barrier()",
        "part.barrier()\n    comm.barrier()",
        CROSSED,
    ),
    "does not send": ("comm.rank == 0 and comm.recv(np.ones(1), 1)\n    comm.barrier()", "comm.barrier()", CROSSED),
}

# name: (what rank 1 does once, what is said)
DRIFTS = {
    "flips a bit": (
        "model[2].weight.data.view(np.uint32)[3, 1] ^= 1 << 20",
        ["'2.weight' on rank 1 is not that on rank 0: element (3, 1)", "before step 8"],
    ),
    "changes its rate": (
        "optimizer.param_groups[0]['lr'] = 0.05",
        ["'lr of group 0' on rank 1 is not that on rank 0", "0.1 on rank 0, 0.05 on rank 1", "before step 8"],
    ),
    "changes its momentum": ("optimizer.state[0]['velocity'][0] += 1", ["on rank 1", "before step 8"]),
    "changes its seed": ("distdl.manual_seed(2)", ["'seed' on rank 1", "before step 8"]),
}


# On two ranks small arrays go by MPI's own allreduce; where time is short, under the first MPI only.
WHERE = [(path, ranks) for path in mpis() for ranks in (2, 3) if ALL or ranks == 3 or path == mpis()[0]]


@pytest.fixture(params=mpis(), ids=lambda path: path.parent.name)
def run(request, tmp_path):
    """Run a job with something odd on rank 1, under each MPI."""

    def run(usual, odd, ranks=2, **environment):
        script = SCRIPT.format(usual=usual, odd=odd)
        mark = f"{tmp_path}"
        ended = run_job(script, ranks, directory=request.param, environment={"DISTDL_TEST_MARK": mark, **environment})
        assert ended.code != 0, ended.output
        assert "went on to the end" not in ended.output
        assert strays(mark) == []
        return ended.output

    return run


@pytest.mark.parametrize(("run", "ranks"), WHERE, indirect=["run"])
@pytest.mark.parametrize("name", MISMATCHES)
def test_a_rank_that_calls_something_else_is_named(run, name, ranks):
    """Nobody hangs, no sum is wrong: both ranks and both lines are told, once."""
    usual, odd, said = MISMATCHES[name]
    output = run(usual, odd, ranks, DISTDL_STALL_WARNING="2")
    assert output.count(DIFFERENT) + output.count(CROSSED) == 1, output
    assert said in output
    assert "rank 1" in output
    assert "rank 0" in output or "ranks 0" in output
    assert output.count("<string>:") >= 2, output


@pytest.mark.parametrize("name", DRIFTS)
def test_a_replica_that_drifts_is_named(run, name):
    """What differs is found at the next comparison, with rank, array, element and step."""
    odd, said = DRIFTS[name]
    output = run("pass", odd)
    assert all(text in output for text in said), output


QUICK = {"DISTDL_STALL_WARNING": "1.5", "DISTDL_STALL_TIMEOUT": "4"}
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_is_named_and_ends_the_job(run, rank):
    """Be it rank 0, where the hub is."""
    stop = f"comm.rank == {rank} and step == 5 and {STOP}"
    output = run(stop, stop, 3, DISTDL_STALL_WARNING="2", DISTDL_STALL_TIMEOUT="4")
    assert f"rank {rank} (" in output
    assert "does not answer" in output
    assert "the job ends" in output or "ends the job" in output


def test_a_rank_that_is_stopped_is_named_within_ten_seconds(run):
    """So it is with the settings that everybody has."""
    output = run("pass", STOP, 2, DISTDL_STALL_TIMEOUT="9.5")
    assert re.search(r"rank 1 keeps rank 0 waiting for [67] s in .* rank 1 \(.*\) does not answer", output), output


def test_several_ranks_that_are_stopped_are_named(run):
    """Rank 0, where the hub is, and another: as on a node that hangs."""
    stop = f"comm.rank < 2 and step == 5 and {STOP}"
    output = run(stop, stop, 3, DISTDL_STALL_WARNING="1.5", DISTDL_STALL_TIMEOUT="6")
    assert "rank 2" in output
    assert "rank 0 (" in output
    assert "does not answer" in output


def test_a_rank_that_is_stopped_where_it_waits_is_named(run):
    """It has told that it waits there; those that come later do not wait for ever."""
    stop = f"import threading; threading.Timer(2, lambda: {STOP}).start(); comm.barrier()"
    usual = "time.sleep(3) if step == 5 else None\n    comm.barrier()"
    output = run(usual, stop, 3, DISTDL_STALL_WARNING="1.5", DISTDL_STALL_TIMEOUT="6")
    assert "rank 1 (" in output
    assert "does not answer" in output
    assert "time-out of 6 s" in output


def test_a_rank_that_is_stopped_at_the_end_is_named(run):
    """Others have finished, and wait for it."""
    stop = f"comm.rank == 1 and step == 11 and (comm.barrier(), {STOP})"
    body = f"step == 11 and comm.rank != 1 and (comm.barrier(), os.sys.exit(0))\n    {stop}"
    output = run(body, body, 3, **QUICK)
    assert "rank 1 (" in output
    assert "does not answer" in output


def test_messages_that_cross_end_the_job(run):
    """Two ranks send to each other, at the same moment, more than MPI takes without the other's receiving."""
    send = "comm.barrier(); step == 5 and comm.rank < 2 and comm.send(np.ones(1 << 22), 1 - comm.rank)"
    output = run(send, send, 2, **QUICK)
    assert "ranks wait for each other: rank" in output
    assert "in send to rank" in output


def test_a_slow_program_that_is_right_is_left_alone(tmp_path):
    """Ranks that are late, hold Python's lock, or compute beside a reduction, are at most told."""
    script = """
import time, numpy as np, distdl, random
comm = distdl.world()
for turn in range(3):
    if comm.rank == 0:
        time.sleep(2.5)
    comm.barrier()
    if comm.rank == 1:
        numbers = [random.random() for _ in range(1_500_000)]
        numbers.sort(); numbers.sort(key=lambda v: -v)
    comm.allreduce(np.ones(300_000))
print("went on to the end", comm.rank)
"""
    ended = run_job(script, 3, environment={"DISTDL_STALL_WARNING": "1"})
    assert ended.code == 0, ended.output
    assert ended.output.count("went on to the end") == 3


def test_a_bad_setting_is_told_at_the_start():
    """On all ranks, before anybody waits for another."""
    ended = run_job("import distdl; distdl.world()", 3, environment={"DISTDL_STALL_WARNING": "ten"})
    assert ended.code != 0
    assert "`DISTDL_STALL_WARNING` (='ten') must be a number of seconds" in ended.output


def test_a_rank_that_sleeps_is_told_from_one_that_is_stopped(run):
    """Its line is named, with how it came there if that is asked for."""
    environment = {"DISTDL_STALL_WARNING": "1.5", "DISTDL_STALL_TIMEOUT": "3", "DISTDL_STALL_TRACES": "1"}
    output = run("pass", "time.sleep(60)", 3, **environment)
    assert "keeps ranks 0, 2 waiting" in output
    assert "in odd" in output
    assert "time-out of 3 s" in output
    assert "in <module>" in output


def test_compiling_is_no_stall(run):
    """A rank that compiles its kernels keeps others waiting, and nobody is warned."""
    compile = (
        "from distdl.core import activity; c = activity.during('compiling kernels, once'); c.__enter__(); "
        "time.sleep(3); c.__exit__(None, None, None); 1 / 0"
    )
    output = run("pass", compile, 2, DISTDL_STALL_WARNING="1.2")
    assert "waiting" not in output

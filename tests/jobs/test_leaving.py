"""Whatever happens to one of three ranks, the job ends, says why once, and leaves nothing behind."""

import uuid

import pytest

from tests.jobs.launching import run_job, strays

pytestmark = pytest.mark.job

TRAIN = """
import os, signal, sys, time
import numpy as np
import distdl
from distdl import nn, optim, parallel
comm = distdl.world()
model = nn.Linear(4, 2)
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
for step in range(1000):
    optimizer.zero_grad()
    loss = model(distdl.tensor(np.ones((2, 4), np.float32))).sum()
    if step == 5:
        if "{when}" == "all" or comm.rank == 1:
            {event}
    loss.backward()
    optimizer.step()
print("trained to the end", comm.rank)
"""

END_SECONDS = 10
"""How long a job may live on after a rank has failed, start-up included here."""


def fail(event, when="one", **options):
    mark = f"DISTDL_TEST_MARK={uuid.uuid4()}"
    name, value = mark.split("=")
    ended = run_job(TRAIN.format(event=event, when=when), environment={name: value}, **options)
    assert ended.code != 0
    assert ended.seconds < END_SECONDS, ended.output
    assert strays(mark) == []
    assert "trained to the end" not in ended.output
    return ended


def test_an_exception_on_one_rank_ends_the_job():
    """The traceback of the rank is shown once, with its number; nothing is left running."""
    ended = fail("raise ValueError('something broke')")
    assert ended.output.count("Traceback") == 1
    assert ended.output.count("ValueError: something broke") == 1
    assert "rank 1 of 3" in ended.output


def test_an_exception_on_all_ranks_is_shown_once():
    """Ranks that fail alike do not all print."""
    ended = fail("raise ValueError('something broke')", when="all")
    assert ended.output.count("ValueError: something broke") == 1


def test_sys_exit_ends_the_job_with_its_code():
    """sys.exit(5) on one rank is the exit code of the job."""
    ended = fail("sys.exit(5)")
    assert ended.code == 5
    assert "rank 1 of 3" in ended.output
    assert "sys.exit(5)" in ended.output


def test_sys_exit_with_a_message():
    """A message given to sys.exit is shown, and the code is 1."""
    ended = fail("sys.exit('no more paper')")
    assert ended.code == 1
    assert ended.output.count("no more paper") == 1


@pytest.mark.parametrize(
    "event",
    ["raise SystemExit(5)", "sys.exit(0)"],
)
def test_a_rank_that_finishes_early_is_named(event):
    """Others that wait for a rank that has ended say which it is, instead of waiting for ever."""
    ended = fail(event)
    assert ended.output.count("rank 1 has finished") == 1


@pytest.mark.parametrize("event", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_death_without_a_word_ends_the_job(event):
    """A rank that is killed takes the job with it."""
    fail(event)


def test_a_rank_may_take_longer_to_end():
    """A rank that works on after its last collective is waited for."""
    ended = run_job(
        "import time, distdl\ncomm = distdl.world()\ncomm.barrier()\n"
        "if comm.rank == 0:\n    time.sleep(3)\n    print('rank 0 is done')\n"
    )
    assert ended.code == 0
    assert "rank 0 is done" in ended.output
    assert "distdl:" not in ended.output


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("optim.SGD(model, lr=-1.0)", "`lr` (=-1.0) must be >= 0"),
        ("nn.functional.cross_entropy(model(distdl.tensor(np.ones((1, 4), np.float32))), [7])", "must be"),
        ("model(distdl.tensor(np.ones((1, 5), np.float32)))", "shape (1, 5)"),
    ],
)
def test_bad_input_on_one_rank_ends_the_job_everywhere(event, message):
    """A wrong value on one rank is named, with the rank, and nobody hangs."""
    ended = fail(event)
    assert message in ended.output
    assert "rank 1 of 3" in ended.output
    assert ended.output.count("Traceback") == 1


def test_singletons_are_refused():
    """Processes whose launcher does not belong to their MPI library do not train as if each were alone."""
    import sys

    from tests.jobs.launching import run

    marks = {"PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "3"}
    ended = run([sys.executable, "-c", "import distdl; distdl.world()"], environment=marks)
    assert ended.code != 0
    assert "started 3 processes" in ended.output
    assert "distdl launch" in ended.output

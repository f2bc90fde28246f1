"""Whatever happens to one of three ranks, the job ends, says why once, and leaves nothing behind."""

import os
import uuid

import pytest

from tests.jobs.launching import mpis, run_job, strays

pytestmark = pytest.mark.job

END_SECONDS = 10
"""How long a job may live on after a rank has failed."""

REDUCE = """
import os, signal, sys, time
import distdl
comm = distdl.world()

def event():
    with open(os.environ["DISTDL_TEST_EVENT"], "w") as file:
        file.write(str(time.time()))
    {event}

for step in range(1000):
    if step == 5 and comm.rank in {ranks}:
        event()
    comm.allreduce(1)
    time.sleep(0.001)
print("went on to the end", comm.rank)
"""

TRAIN = """
import os, time
import numpy as np
import distdl
from distdl import nn, optim, parallel
comm = distdl.world()
model = nn.Linear(4, 2)
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
for step in range(1000):
    optimizer.zero_grad()
    loss = model(distdl.tensor(np.ones((2, 4), np.float32))).sum()
    if step == 5 and comm.rank in {ranks}:
        with open(os.environ["DISTDL_TEST_EVENT"], "w") as file:
            file.write(str(time.time()))
        {event}
    loss.backward()
    optimizer.step()
print("went on to the end", comm.rank)
"""


@pytest.fixture(params=mpis(), ids=lambda path: path.parent.name)
def directory(request):
    """The environments whose MPI is tried."""
    return request.param


@pytest.fixture
def fail(tmp_path, directory):
    """Run a job in which something happens on some ranks, and check that it ends as every failure should."""

    def run(event, ranks=(1,), script=REDUCE, interrupt=False):
        mark, when = str(uuid.uuid4()), tmp_path / "event"
        ended = run_job(
            script.format(event=event, ranks=ranks),
            directory=directory,
            environment={"DISTDL_TEST_MARK": mark, "DISTDL_TEST_EVENT": str(when)},
            interrupt_at=when if interrupt else None,
        )
        assert ended.code != 0, ended.output
        assert ended.when - float(when.read_text()) < END_SECONDS, ended.output
        assert "went on to the end" not in ended.output
        assert strays(mark) == []
        return ended

    return run


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_exception_on_one_rank_ends_the_job(fail, rank):
    """The traceback of the rank is shown once, with its number."""
    ended = fail("raise ValueError('something broke')", ranks=(rank,))
    assert ended.output.count("Traceback") == 1
    assert ended.output.count("ValueError: something broke") == 1
    assert f"rank {rank} of 3" in ended.output


def test_an_exception_on_all_ranks_is_shown_once(fail):
    """Ranks that fail alike do not all print."""
    ended = fail("raise ValueError('something broke')", ranks=(0, 1, 2))
    assert ended.output.count("ValueError: something broke") == 1


def test_sys_exit_ends_the_job_with_its_code(fail):
    """sys.exit(5) on one rank is the exit code of the job, and is told."""
    ended = fail("sys.exit(5)")
    assert ended.code == 5
    assert ended.output.count("sys.exit(5)") == 1
    assert "rank 1 of 3" in ended.output


def test_sys_exit_with_a_message(fail):
    """A message given to sys.exit is shown, and the code is 1."""
    ended = fail("sys.exit('no more paper')")
    assert ended.code == 1
    assert ended.output.count("no more paper") == 1


@pytest.mark.parametrize("event", ["raise SystemExit(5)", "sys.exit(0)"])
def test_a_rank_that_finishes_early_is_named(fail, event):
    """Others that wait for a rank that has ended say which it is, instead of waiting for ever."""
    ended = fail(event)
    assert ended.output.count("rank 1 has finished") == 1
    assert "needs it" in ended.output


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("event", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_death_without_a_word_ends_the_job(fail, event, rank):
    """A rank that is killed takes the job with it, be it rank 0, where the hub is."""
    assert "Traceback" not in fail(event, ranks=(rank,)).output


def test_a_job_ends_even_if_nobody_can_abort_it(fail):
    """Ranks that are told that the job ends do so by themselves if the launcher does not end them."""
    ended = fail("raise ValueError('something broke')", script="import distdl\n" + NO_ABORT + REDUCE)
    assert ended.output.count("ValueError: something broke") == 1


NO_ABORT = """
from distdl.comm.mpi import MPICommunicator
MPICommunicator.abort = lambda self, code: None
"""


def test_a_rank_whose_hub_does_not_answer_speaks(fail):
    """A traceback is shown although rank 0 is stopped and cannot say who was first."""
    event = "os.kill(os.getpid(), signal.SIGSTOP) if comm.rank == 0 else time.sleep(0.5); raise ValueError('broke')"
    ended = fail(event, ranks=(0, 1))
    assert ended.output.count("ValueError: broke") == 1
    assert "rank 1 of 3" in ended.output


SLEEP = """
import os, time, distdl
comm = distdl.world()
comm.barrier()
if comm.rank in {ranks}:
    with open(os.environ["DISTDL_TEST_EVENT"], "w") as file:
        file.write(str(time.time()))
    time.sleep({event})
"""


@pytest.mark.parametrize(("event", "script"), [("", REDUCE), ("60", SLEEP)], ids=["at work", "some have finished"])
def test_ctrl_c_is_told_once(fail, event, script):
    """An interrupted job ends without a storm of tracebacks, whether its ranks work or wait for the last."""
    ended = fail(event, script=script, interrupt=True)
    assert "Traceback" not in ended.output
    assert ended.output.count("distdl:") <= 1


def test_training_ends_when_a_rank_fails(fail):
    """So it is in a training loop."""
    ended = fail("raise ValueError('something broke')", script=TRAIN)
    assert ended.output.count("ValueError: something broke") == 1


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("optim.SGD(model, lr=-1.0)", "`lr` (=-1.0) must be >= 0"),
        ("nn.functional.cross_entropy(model(distdl.tensor(np.ones((1, 4), np.float32))), [7])", "must be"),
        ("model(distdl.tensor(np.ones((1, 5), np.float32)))", "shape (1, 5)"),
    ],
)
def test_bad_input_on_one_rank_ends_the_job_everywhere(fail, event, message):
    """A wrong value on one rank is named, with the rank, and nobody hangs."""
    ended = fail(event, script=TRAIN)
    assert message in ended.output
    assert "rank 1 of 3" in ended.output
    assert ended.output.count("Traceback") == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (
            "part = comm.split(0 if comm.rank < 2 else 1)\nif comm.rank != 1:\n    part.barrier()",
            "collective 1 (barrier)",
        ),
        ("import numpy as np\nif comm.rank == 0:\n    comm.recv(np.zeros(1), 1)", "waits for a message"),
    ],
)
def test_parts_and_messages_miss_the_departed_too(directory, body, named):
    """A rank that waits in a part of the world, or for a message, for one that has finished, says so."""
    ended = run_job(f"import distdl\ncomm = distdl.world()\n{body}\n", directory=directory)
    assert ended.code != 0
    assert ended.output.count("rank 1 has finished") == 1
    assert named in ended.output


FINE = {
    "a rank works on after its last collective": "comm.barrier()\nif comm.rank == 0:\n    time.sleep(3)",
    "a rank is not needed in the others' part": "part = comm.split(0 if comm.rank < 2 else None)\n"
    "for _ in range(100):\n    time.sleep(0.01)\n    part and part.barrier()",
    "a message of a rank that has finished": "if comm.rank == 1:\n    comm.send(np.ones(9), 0)\n"
    "if comm.rank == 0:\n    time.sleep(0.5)\n    comm.recv(np.zeros(9), 1)",
    "sys.exit(0) on all": "comm.print('done')\nsys.exit(0)",
    "sys.exit that is caught": "try:\n    sys.exit(5)\nexcept SystemExit as error:\n    assert error.code == 5",
    "sys.exit in a thread": "thread = threading.Thread(target=sys.exit, args=(5,))\nthread.start()\nthread.join()",
    "a forked child that fails": "child = multiprocessing.get_context('fork').Process(target=sys.exit, args=(5,))\n"
    "child.start()\nchild.join()\nassert child.exitcode == 5",
}


@pytest.mark.parametrize("name", FINE)
def test_nothing_is_said_when_nothing_is_wrong(directory, name):
    """Jobs whose ranks end at their own times end well, and silently."""
    ended = run_job(
        "import multiprocessing, os, sys, threading, time, numpy as np, distdl\n"
        f"comm = distdl.world()\ncomm.print('done')\n{FINE[name]}\n",
        directory=directory,
    )
    assert ended.code == 0, ended.output
    assert "done" in ended.output
    assert "distdl:" not in ended.output


def test_without_a_channel_the_job_goes_on_and_says_so(directory):
    """An address where rank 0 cannot listen costs the notice of early ends, not the job; exceptions still end it."""
    script = "import distdl\ncomm = distdl.world()\ncomm.barrier()\ncomm.print('reduced', comm.allreduce(1))\n"
    environment = {"DISTDL_CONTROL_ADDRESS": "192.0.2.1"}
    ended = run_job(script, directory=directory, environment=environment)
    assert ended.code == 0, ended.output
    assert "reduced 3" in ended.output
    assert ended.output.count("no control channel") == 1
    assert "DISTDL_CONTROL_ADDRESS" in ended.output
    broken = script + "if comm.rank == 1:\n    raise ValueError('something broke')\ncomm.barrier()\n"
    ended = run_job(broken, directory=directory, environment=environment)
    assert ended.code != 0
    assert ended.output.count("ValueError: something broke") == 1


def test_a_test_session_tells_all_its_results(tmp_path):
    """A rank whose tests have failed does not silence the others under pytest."""
    (tmp_path / "test_rank.py").write_text("import distdl\ndef test_rank():\n    assert distdl.world().rank != 1\n")
    words = ["-p", "no:cacheprovider", "-c", os.devnull, "--color=no", str(tmp_path)]
    ended = run_job(f"import sys, pytest\nsys.exit(pytest.main({words}))\n")
    assert ended.code == 1
    assert (ended.output.count("1 failed"), ended.output.count("1 passed")) == (1, 2)
    assert "distdl:" not in ended.output


def test_singletons_are_refused(directory):
    """Processes whose launcher does not belong to their MPI library do not train as if each were alone."""
    from tests.jobs.launching import run

    marks = {"PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "3"}
    ended = run([str(directory / "python"), "-c", "import distdl; distdl.world()"], environment=marks)
    assert ended.code != 0
    assert "started 3 processes" in ended.output
    assert "distdl launch" in ended.output


SPREAD = """
import os
import distdl
from distdl.comm import start
# Every rank on a host of its own.
start.network = lambda: str(os.getpid())
start._addresses = lambda: ["192.0.2.1:broken", "127.0.0.1"]
"""


def test_hosts_are_tried_until_one_answers(fail):
    """Ranks on several hosts find rank 0 at the address that leads there; the channel then works as on one host."""
    ended = fail("sys.exit(0)", script=SPREAD + REDUCE)
    assert ended.output.count("rank 1 has finished") == 1
    assert "no control channel" not in ended.output


WALL = """
def refuse(*arguments):
    raise ConnectionError("a wall")
if "2" in (os.environ.get("PMI_RANK"), os.environ.get("OMPI_COMM_WORLD_RANK")):
    start.Link = refuse
comm = distdl.world()
comm.print("reduced", comm.allreduce(1))
"""


def test_a_rank_that_cannot_reach_rank_0_is_told_of(directory):
    """One rank without a link makes all go on without, and rank 0 says which rank and why."""
    ended = run_job(SPREAD + WALL, directory=directory)
    assert ended.code == 0, ended.output
    assert "reduced 3" in ended.output
    assert ended.output.count("no control channel (rank 2: a wall)") == 1
    assert "has died" not in ended.output

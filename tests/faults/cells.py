"""The table of faults: what happens to a job, and what is promised then. `docs/faults.md` is made of it."""

from dataclasses import dataclass, field

ENDS = "the job ends within 10 s, and says why"
STALLS = "named within 10 s; the job ends at the time-out"
REFUSED = "refused before the first step"
GOES_ON = "the training goes on"
SAME_BITS = "started again, it ends with the same bits"


@dataclass(frozen=True)
class Cell:
    """A fault, and what is promised.

    Attributes:
        kind: the group that it belongs to.
        fault: what happens.
        promise: one of the above.
        said: what the job says, in parts.
        code: what ranks do then, as `job.py` takes it; "" for a fault that has a test of its own.
        place: where in a step.
        ranks: which ranks.
        settings: environment of the job.
        tests: of a fault that has tests of its own, their names.
        is_small: whether scripts/test tries it; scripts/soak tries all.
    """

    kind: str
    fault: str
    promise: str
    said: tuple[str, ...] = ()
    code: str = ""
    place: str = "before"
    ranks: str = "1"
    settings: dict[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = ()
    is_small: bool = False


_BROKE = "raise ValueError('something broke')"
_TRACEBACK = ("rank 1 of 3", "Traceback", "ValueError: something broke", "job.py")
_DIED = ("rank 1 ", "died")
_CRASH = "ctypes.string_at(1)"
_KILL = "os.kill(os.getpid(), signal.SIGKILL)"
_STOP = "os.kill(os.getpid(), signal.SIGSTOP)"
_STALL = {"DISTDL_STALL_TIMEOUT": "9"}
_ENDED = ("keeps", "the time-out of 9 s")
_STOPPED = ("rank 1", "does not answer", *_ENDED)
_DIFFERENT = ("the ranks call different collectives", "rank 1", "job.py:")

_INJECTIONS = "tests/jobs/test_injections.py"
_STORAGE = "tests/faults/test_storage_faults.py"
_SCHEDULER, _ENVIRONMENT = "tests/faults/test_scheduler.py", "tests/faults/test_environment.py"
_WRITES = "tests/faults/test_storage_writes.py"

CELLS = [
    Cell("process", "an exception before the reduction", ENDS, _TRACEBACK, _BROKE, is_small=True),
    Cell("process", "an exception during the reduction", ENDS, _TRACEBACK, _BROKE, "during", is_small=True),
    Cell("process", "an exception after the reduction", ENDS, _TRACEBACK, _BROKE, "after"),
    Cell("process", "an exception on rank 0", ENDS, ("rank 0 of 3", "something broke"), _BROKE, ranks="0"),
    Cell("process", "an exception on all ranks", ENDS, ("of 3", "something broke"), _BROKE, ranks="0,1,2"),
    Cell("process", "SIGKILL, as the kernel's where memory is out", ENDS, _DIED, _KILL, is_small=True),
    Cell("process", "SIGKILL of rank 0", ENDS, ("rank 0 ", "died"), _KILL, ranks="0"),
    Cell("process", "SIGKILL during the reduction", ENDS, _DIED, _KILL, "during"),
    Cell("process", "a crash in C code", ENDS, (*_DIED, "Segmentation fault", "job.py"), _CRASH, is_small=True),
    Cell("process", "abort() in C code", ENDS, (*_DIED, "Aborted", "job.py"), "os.abort()"),
    Cell("process", "os._exit", ENDS, _DIED, "os._exit(3)"),
    Cell("process", "sys.exit(5) on one rank", ENDS, ("rank 1 of 3", "sys.exit(5)"), "sys.exit(5)"),
    Cell("process", "sys.exit(0) on one rank", ENDS, ("rank 1 has finished", "needs it"), "sys.exit(0)", is_small=True),
    Cell("process", "SIGINT at one rank", ENDS, ("rank 1 of 3", "interrupted"), "os.kill(os.getpid(), signal.SIGINT)"),
    Cell("process", "Ctrl-C at the launcher", ENDS, tests=("tests/jobs/test_leaving.py::test_ctrl_c_is_told_once",)),
    Cell(
        "process", "an array for which there is no memory", ENDS, ("rank 1 of 3", "MemoryError"), "np.ones(1 << 58)"
    ),
    Cell("hang", "one rank asleep", STALLS, ("rank 1", "job.py:", *_ENDED), "time.sleep(60)", settings=_STALL),
    Cell("hang", "one rank stopped", STALLS, _STOPPED, _STOP, settings=_STALL, is_small=True),
    Cell("hang", "rank 0 stopped", STALLS, ("rank 0 (", "does not answer"), _STOP, ranks="0", settings=_STALL),
    Cell("mismatch", "a rank calls one collective more", ENDS, _DIFFERENT, "comm.allreduce(np.ones(3))", is_small=True),
    Cell("mismatch", "another order", ENDS, tests=(f"{_INJECTIONS} -k 'another and order'",)),
    Cell("mismatch", "another shape, another dtype", ENDS, tests=(f"{_INJECTIONS} -k 'shape or dtype'",)),
    Cell(
        "mismatch", "another model on one rank", REFUSED, ("PeerError", "hold different models", "rank 1 has"),
        "model = nn.Sequential(nn.Linear(20, 31), nn.ReLU(), nn.Linear(31, 2))", "start", is_small=True,
    ),
    Cell(
        "numeric", "NaN on one rank", GOES_ON, ("step 6 is left out on all ranks", "NaN or infinite"),
        "loss = loss * float('nan')",
    ),
    Cell(
        "numeric", "an infinity on one rank", GOES_ON, ("step 6 is left out on all ranks", "NaN or infinite"),
        "loss = loss * float('inf')", is_small=True,
    ),
    Cell(
        "numeric", "one flipped bit of a parameter", ENDS,
        ("'2.weight' on rank 1 is not that on rank 0", "element (3, 1)", "step 8"),
        "model[2].weight.data.view(np.uint32)[3, 1] ^= 1 << 20", is_small=True,
    ),
    Cell("storage", "SIGKILL at every system call of a write", SAME_BITS, tests=(f"{_WRITES} -k kill",)),
    Cell("storage", "the machine stops at every call of a write", SAME_BITS, tests=(f"{_WRITES} -k machine",)),
    Cell("storage", "the disk is full", ENDS, tests=(f"{_STORAGE} -k full",)),
    Cell("storage", "the disk is full, on_checkpoint_error=\"warn\"", GOES_ON, tests=(f"{_STORAGE} -k full",)),
    Cell("storage", "the directory is read-only", ENDS, tests=(f"{_STORAGE} -k read_only",)),
    Cell("storage", "the directory vanishes", ENDS, tests=(f"{_STORAGE} -k vanishes",)),
    Cell("storage", "a missing or damaged file of the newest", SAME_BITS, tests=(f"{_STORAGE} -k damaged",)),
    Cell("storage", "a stale manifest", SAME_BITS, tests=(f"{_STORAGE} -k damaged",)),
    Cell("storage", "a slow disk", GOES_ON, tests=(f"{_STORAGE} -k slow",)),
    Cell("scheduler", "SIGUSR1 or SIGTERM in the middle of an epoch", SAME_BITS, tests=(_SCHEDULER,)),
    Cell("scheduler", "started again on another number of ranks", SAME_BITS, tests=(_SCHEDULER,)),
    Cell("scheduler", "ranks are killed under distdl launch", SAME_BITS, tests=("tests/faults/test_restart.py",)),
    Cell("environment", "the launcher of another MPI", REFUSED, tests=("tests/jobs/test_leaving.py -k singletons",)),
    Cell("environment", "no room in /dev/shm", ENDS, tests=(f"{_ENVIRONMENT} -k room",)),
    Cell(
        "environment", "a clock that jumps", GOES_ON, (), "t = time.time; time.time = lambda: t() - 86400 * step",
        ranks="0,1",
    ),
    Cell("environment", "a second job with the same checkpoints", REFUSED, tests=(f"{_ENVIRONMENT} -k second",)),
]  # fmt: skip
"""Of each a test under MPICH and Open MPI."""


def document() -> str:
    """Return the table as a user reads it."""
    lines = [
        "# What happens when something breaks",
        "",
        "Made from `tests/faults/cells.py`; do not edit. Each line is tried under MPICH and Open MPI, in part by",
        "`scripts/test` and whole by `scripts/soak --faults`: the time from the fault to the end of the job, what the",
        "job says, and that neither a process nor shared memory is left.",
        "",
        "| kind | fault | promise | the job says, among others |",
        "| --- | --- | --- | --- |",
    ]
    for cell in CELLS:
        said = ", ".join(f"`{text.strip()}`" for text in cell.said if text != "job.py")
        lines.append(f"| {cell.kind} | {cell.fault} | {cell.promise} | {said} |")
    return "\n".join(lines) + "\n"

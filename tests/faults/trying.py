"""Tries a cell of the table of faults on a real job, and holds it to its promise."""

import contextlib
import os
import re
import time
import uuid
from pathlib import Path

from tests.faults.cells import ENDS, GOES_ON, REFUSED, STALLS
from tests.jobs.launching import ROOT, run, strays, wait_for

END_SECONDS = 10.0
"""From a fault, or a time-out, to the end of the job."""

WARNING_SECONDS = 10
SETTLE_SECONDS = 30
RANKS = 3


def attempt(cell, binaries, directory):
    """Do to a job of three ranks what a cell says, and return the seconds from then to the job's end.

    Raises:
        AssertionError: a promise was not kept; with what the job has printed.
    """
    event, mark, shared = Path(directory) / "event", str(uuid.uuid4()), _shared_memory()
    environment = {
        "DISTDL_TEST_FAULT": cell.code,
        "DISTDL_TEST_PLACE": cell.place,
        "DISTDL_TEST_RANKS": cell.ranks,
        "DISTDL_TEST_EVENT": str(event),
        "DISTDL_TEST_MARK": mark,
        **cell.settings,
    }
    words = [str(binaries / "python"), "-m", "distdl", "launch", "-n", str(RANKS), str(ROOT / "tests/faults/job.py")]
    ended = run(words, timeout=90, environment=environment)
    seconds = time.clock_gettime(time.CLOCK_MONOTONIC) - float(event.read_text())
    text = ended.output
    for part in cell.said:
        assert part in text, f"nobody said {part!r}; the job said:\n{text}"
    assert text.count("Traceback (most") <= 1, text
    assert strays(mark) == [], text
    left = _shared_memory() - shared
    # Names of other jobs, which may run beside this one, go by themselves.
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not left & _shared_memory(), SETTLE_SECONDS)
    assert not left & _shared_memory(), f"left in /dev/shm: {left & _shared_memory()}"
    ranks_through = text.count("went on to the end")
    if cell.promise == GOES_ON:
        assert (ended.code, ranks_through) == (0, RANKS), text
        return seconds
    assert ended.code != 0, text
    assert ranks_through == 0, text
    limit = END_SECONDS
    if cell.promise == STALLS:
        warned = [
            int(found) for found in re.findall(r"waiting for (\d+) s|for (\d+) s", text) for found in found if found
        ]
        assert warned, text
        assert min(warned) <= WARNING_SECONDS, text
        limit += float(cell.settings["DISTDL_STALL_TIMEOUT"])
    assert seconds <= limit, f"{seconds:.1f} s from the fault to the end; the job said:\n{text}"
    if cell.promise == REFUSED:
        assert "step 0" not in text, text
    if "Traceback (most" in text and cell.promise == ENDS:
        after = text.split("Traceback (most")[1]
        assert "distdl: rank" not in after, f"the traceback is not the last of the ranks' news:\n{text}"
    return seconds


def _shared_memory():
    try:
        return set(os.listdir("/dev/shm"))
    except FileNotFoundError:
        return set()

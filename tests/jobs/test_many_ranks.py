"""What grows with the number of ranks: 32 of them, far more than cores, on nodes of four."""

import json
import math
import sys

import pytest

from tests.jobs.launching import BIN, ROOT, run
from tests.jobs.many_ranks import MARK

pytestmark = [pytest.mark.job, pytest.mark.crowd, pytest.mark.timeout(600)]

RANKS, WIDTH = 32, 4


def train(ranks):
    """Run the job, and return what rank 0 printed, and all lines of the job."""
    words = [str(BIN / "mpiexec"), "-n", str(ranks), sys.executable, str(ROOT / "tests" / "jobs" / "many_ranks.py")]
    # So slow a start of so many is no stall.
    told = {"DISTDL_NUM_THREADS": "1", "DISTDL_STALL_WARNING": "300"}
    ended = run([*words, "2", str(WIDTH)], timeout=500, environment=told)
    assert ended.code == 0, ended.output
    lines = ended.output.splitlines()
    assert len(lines) == 1, ended.output
    return json.loads(lines[0].removeprefix(MARK))


def test_thirty_two_ranks_train_as_one_does():
    """The same bits on all; messages grow with the logarithm, what rank 0 holds for each rank is a descriptor."""
    alone, found = train(1), train(RANKS)
    assert found["digests"] == alone["digests"]
    ranks = found["ranks"]
    assert len(ranks) == RANKS
    # Ranks of a node meet in its memory; nodes halve and gather their pieces.
    assert {rank["messages_an_allreduce"] for rank in ranks} == {2 * math.log2(RANKS // WIDTH)}
    # Each rank takes its piece of the node's sum across: less than the array, not a copy for each rank.
    sent = max(rank["bytes_an_allreduce"] for rank in ranks)
    assert 1_000_000 / WIDTH < sent < 2 * 1_000_000 / WIDTH
    assert max(rank["messages_a_step"] for rank in ranks) <= 4 * math.log2(RANKS) + 4
    # Most are MPI's.
    assert ranks[0]["descriptors"] - min(rank["descriptors"] for rank in ranks[1:]) < RANKS + 16
    # A line of the control channel does not name all ranks.
    assert max(rank["control_bytes"] / rank["control_messages"] for rank in ranks) < 300

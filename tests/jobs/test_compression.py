"""A compression hook that fails, or calls what the other ranks do not, ends the job as any other code does."""

import pytest

from tests.jobs.launching import mpis, run_job

pytestmark = pytest.mark.job

SCRIPT = """
import os
import numpy as np
import distdl
from distdl import nn, optim, parallel
from distdl.comm import base
from distdl.parallel.compression import Hook

class Failing(Hook):
    name = "failing"
    steps = 0

    def reduce(self, gradients, comm):
        self.steps += 1
        if self.steps == 4 and comm.rank == 1:
            {event}
        comm.allreduce(gradients.flat)

# Each rank takes itself for a node.
base.node_number = os.getpid
comm = distdl.world()
model = nn.Linear(300, 300)
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=1e-3), comm, compression=Failing(), overlap={overlap},
                                          bucket_bytes=1)
for step in range(1000):
    optimizer.zero_grad()
    model(distdl.tensor(np.ones((2, 300), np.float32))).mean().backward()
    optimizer.step()
print("went on to the end", comm.rank)
"""


@pytest.mark.parametrize("directory", mpis(), ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    ("event", "overlap", "message"),
    [
        ("raise ValueError('something broke')", True, "ValueError: something broke"),
        ("comm.barrier()", False, "the ranks call different collectives"),
    ],
)
def test_a_hook_that_fails_on_one_rank_ends_the_job(directory, event, overlap, message):
    """On all ranks, with one message that names the cause."""
    ended = run_job(SCRIPT.format(event=event, overlap=overlap), directory=directory)
    assert ended.code != 0, ended.output
    assert "went on to the end" not in ended.output
    assert ended.output.count(message) == 1, ended.output

"""A training job to which something happens on some ranks at step 5; what, and where, the environment says.

DISTDL_TEST_FAULT: Python code; DISTDL_TEST_PLACE: start, before, during, after (the reduction of the gradients), or
anywhere else in a step; DISTDL_TEST_RANKS: such as 0,2; DISTDL_TEST_EVENT: a file that gets the time.
"""

import ctypes  # noqa: F401  # for what happens
import os
import signal  # noqa: F401
import sys  # noqa: F401
import time
from pathlib import Path

import numpy as np

import distdl
from distdl import nn, optim, parallel

STEPS, FAULT_STEP = 40, 5

comm = distdl.world()
ranks = [int(rank) for rank in os.environ["DISTDL_TEST_RANKS"].split(",")]
step = 0


def happen(place):
    """Do what is to happen at this place, if this is the rank and the step."""
    if place == os.environ["DISTDL_TEST_PLACE"] and comm.rank in ranks and step == FAULT_STEP:
        Path(os.environ["DISTDL_TEST_EVENT"]).write_text(str(time.clock_gettime(time.CLOCK_MONOTONIC)))
        exec(os.environ["DISTDL_TEST_FAULT"], globals())


distdl.manual_seed(1)
model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 2))
step = FAULT_STEP
happen("start")
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1, momentum=0.9), comm, check_every=4)
x = distdl.tensor(np.ones((4, 20), np.float32))
reduce = comm._allreduce


def reduce_or_fail(array, op, scale):
    happen("during")
    reduce(array, op, scale)


comm._allreduce = reduce_or_fail
for step in range(STEPS):
    optimizer.zero_grad()
    loss = model(x).sum() * 1e-3
    happen("before")
    loss.backward()
    happen("after")
    optimizer.step()
    comm.print("step", step)
    time.sleep(0.02)
print("went on to the end", comm.rank, flush=True)

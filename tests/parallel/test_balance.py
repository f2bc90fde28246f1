"""Slow ranks are told from ranks that wait for them."""

import time

import numpy as np
import pytest

import distdl
from distdl import nn, parallel


@pytest.mark.mpi
def test_the_rank_that_computes_longest_is_named(comm):
    """What is no collective is computing; the median of an even number is the faster one in the middle."""
    model = nn.Linear(8, 4)
    synchronizer = parallel.GradientSynchronizer(model, comm)
    balance = parallel.Balance(synchronizer)
    last = comm.size - 1
    # In ten seconds the last rank waits for two, the others for five.
    waited = 2.0 if comm.rank == last else 5.0
    balance._before, balance._now = (0.0, 0.0), lambda: (10.0, waited)
    shares = balance.measure()
    synchronizer.close()
    assert shares.slowest == last
    assert shares.excess == pytest.approx(0.6 if comm.size > 1 else 0.0)
    assert shares.waiting == pytest.approx((0.5 * last + 0.2) / comm.size)
    assert f"rank {last} computes" in str(shares)


@pytest.mark.mpi(min_size=2)
@pytest.mark.usefixtures("mode")
def test_waiting_is_measured(comm):
    """In collectives, and for reductions beside backward()."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    synchronizer = parallel.GradientSynchronizer(model, comm)
    before = comm.seconds + synchronizer.seconds_waited
    comm.barrier()
    if comm.rank == 1:
        time.sleep(0.3)
    model(distdl.tensor(np.ones((4, 8), np.float32))).sum().backward()
    waited = comm.seconds + synchronizer.seconds_waited - before
    synchronizer.close()
    assert waited > 0
    assert comm.rank != 0 or waited > 0.05

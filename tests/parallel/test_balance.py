"""Slow ranks are told from ranks that wait for them."""

import time

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel

pytestmark = [pytest.mark.mpi(min_size=2), pytest.mark.usefixtures("mode")]


def test_the_slow_rank_is_named(comm):
    """Its time is computation; the others' is waiting."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    x = distdl.tensor(np.ones((4, 8), np.float32))
    last = comm.size - 1
    model(x).sum().backward()
    balance = parallel.Balance(optimizer.synchronizer)
    for slow in (0, last):
        for _ in range(5):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
            if comm.rank == slow:
                time.sleep(0.05)
        shares = balance.measure()
        assert shares.slowest == slow
        assert shares.excess > 0.2
        assert shares.waiting > 0.1
        assert f"rank {slow} computes" in str(shares)
    optimizer.close()

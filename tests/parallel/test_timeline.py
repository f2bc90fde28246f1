"""What ranks do together is on the timeline."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel

pytestmark = pytest.mark.mpi(min_size=2)


def test_reductions_are_spans():
    """Each bucket's reduction is one span of backward(), on every rank."""
    comm = distdl.world()
    model = nn.Linear(4, 2)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model.parameters(), lr=0.1), comm)
    with distdl.timeline() as timeline:
        model(distdl.tensor(np.ones((2, 4), np.float32))).sum().backward()
        optimizer.step()
    buckets = len(optimizer.synchronizer.buckets)
    assert [span.label for span in timeline.spans if span.phase == "reduce"] == [f"bucket {i}" for i in range(buckets)]
    assert "bucket 0" in timeline.summary()
    optimizer.synchronizer.close()

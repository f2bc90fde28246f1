"""What ranks compare and share before the first step."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core.errors import PeerError
from tests.parallel.replicas import (
    dense,
    made,
)

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("mode")]


def test_ranks_start_from_rank_0(comm):
    """Parameters and buffers of all ranks are rank 0's after the constructor, whatever the seeds were."""
    distdl.manual_seed(100 + comm.rank)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[1].running_mean += comm.rank
    parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, model=model)
    assert len(set(parallel.replica_digests(model, comm))) == 1
    assert (model[1].running_mean == 0).all()


@pytest.mark.mpi(min_size=2)
def test_different_options_and_frozen_parameters_are_refused(comm):
    """Ranks that would update differently get an error that names option or parameter, and the ranks."""
    model = nn.Linear(3, 4)
    optimizer = optim.SGD(model, lr=0.1 if comm.rank else 0.2)
    with pytest.raises(PeerError, match=r"group 0 has lr = 0\.2 on rank 0, 0\.1 on rank 1"):
        parallel.DistributedOptimizer(optimizer, comm)
    model = nn.Linear(3, 4)
    named = list(model.named_parameters())
    groups = [{"params": [each]} for each in named] if comm.rank else [{"params": named}]
    with pytest.raises(PeerError, match="rank 0 has 1 groups, rank 1 has 2"):
        parallel.DistributedOptimizer(optim.SGD(groups, lr=0.1), comm)
    model = nn.Linear(3, 4)
    model.bias.requires_grad = comm.rank == 0
    with pytest.raises(PeerError, match="'bias' float32 frozen"):
        parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)


@pytest.mark.mpi(min_size=2)
def test_different_models_are_refused(comm):
    """A rank with another width gets an error that names ranks, parameter and shapes."""
    model = nn.Linear(3, 4 if comm.rank else 5)
    with pytest.raises(PeerError, match=r"ranks \d and \d hold different models.*'weight' float32 \(3, \d\)"):
        parallel.GradientSynchronizer(model, comm)


@pytest.mark.mpi(min_size=2)
def test_an_optimizer_state_that_only_some_ranks_have_is_refused(comm):
    """A state that was loaded on rank 0 alone, or another one elsewhere, is noticed when the optimizer is wrapped."""

    def trained(factor):
        model = made(dense, "float32")
        optimizer = optim.SGD(model, lr=0.1, momentum=0.9)
        if factor:
            (factor * model(distdl.tensor(np.ones((2, 12), np.float32)))).sum().backward()
            optimizer.step()
        return optimizer

    with pytest.raises(PeerError, match="rank 0 has a state of 4 parameters, rank 1 of 0"):
        parallel.DistributedOptimizer(trained(comm.rank == 0), comm)
    with pytest.raises(PeerError, match=r"the state of '0\.weight' on rank 1 is not that on rank 0"):
        parallel.DistributedOptimizer(trained(1.0 + comm.rank), comm)
    parallel.DistributedOptimizer(trained(1.0), comm)

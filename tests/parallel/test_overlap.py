"""Reduction while backward() runs: the same bits, in the same order everywhere, whatever happens meanwhile."""

import time

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core.errors import DistdlError
from distdl.ops import linear
from distdl.parallel.background import Background

pytestmark = pytest.mark.mpi


def deep(width=24, layers=4):
    distdl.manual_seed(3)
    return nn.Sequential(*[part for _ in range(layers) for part in (nn.Linear(width, width), nn.Tanh())])


def rows(comm, step, width=24):
    count = 2 * comm.size + step % 3
    x = np.random.default_rng(step).normal(size=(count, width)).astype(np.float32)
    return x[comm.rank :: comm.size]


def loss_of(model, x):
    out = (model(distdl.tensor(x)) ** 2).mean()
    out.denominator = float(len(x))
    return out


def trained(comm, steps=5, **options):
    model = deep()
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.5, momentum=0.9), comm, **options)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, rows(comm, step)).backward()
        optimizer.step()
    return parallel.digest(model)


def test_neither_overlap_nor_buckets_change_a_bit(comm):
    """Any size of buckets, during or after backward(), trains to the same bits everywhere, unequal shards too."""
    digests = {
        trained(comm, overlap=overlap, bucket_bytes=size)
        for overlap in (False, True)
        for size in (1, 100, 3000, 5000, 10**6)
    }
    assert len(digests) == 1
    assert set(comm.allgather_object(digests.pop())) == {trained(comm)}


@pytest.mark.mpi(min_size=2)
def test_reduction_starts_while_backward_runs(comm):
    """When the gradient of the first layer is due, the last layer's is reduced already."""
    model = deep()
    synchronizer = parallel.GradientSynchronizer(model, comm, bucket_bytes=1, overlap=True)
    seen = []

    def wait(gradient):
        deadline = time.monotonic() + 20
        while not timeline.spans or not any(span.phase == "reduce" for span in timeline.spans):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        seen.append(next(span.name for span in timeline.spans if span.phase == "reduce"))

    with distdl.timeline() as timeline:
        x = distdl.tensor(rows(comm, 0))
        first = model[0](x)
        first.register_hook(wait)
        (nn.Sequential(*model[1:])(first) ** 2).mean().backward(weight=1)
    assert seen == ["bucket 0"]
    assert [span.name for span in timeline.spans if span.phase == "reduce"] == [
        f"bucket {i}" for i in range(len(synchronizer.buckets))
    ]


@pytest.mark.mpi(min_size=2)
def test_reduction_starts_before_the_input_gradient(comm, monkeypatch):
    """While a linear layer computes the gradient of its input, those of its weights and bias are on their way."""
    model = deep(layers=2)
    synchronizer = parallel.GradientSynchronizer(model, comm, bucket_bytes=1, overlap=True)
    started = []
    real = linear.input_gradient

    def watched(dy, w):
        started.append(synchronizer._started)
        return real(dy, w)

    monkeypatch.setattr(linear, "input_gradient", watched)
    loss_of(model, rows(comm, 0)).backward()
    assert started == [2]


def test_ranks_may_be_ready_in_different_orders(comm):
    """Layers that each rank runs in an order of its own, or not at all, are reduced in one order."""
    layers, reference = nn.ModuleList(deep(8, 4)), nn.ModuleList(deep(8, 4))
    parallel.GradientSynchronizer(layers, comm, bucket_bytes=1, overlap=True)

    def run(model, rank):
        x = distdl.tensor(np.random.default_rng(rank).normal(size=(2, 8)).astype(np.float32))
        for i in range(3):
            x = model[2 * ((rank + i) % 4)](x)
        return (x**2).mean()

    for rank in range(comm.size):
        run(reference, rank).backward()
    run(layers, comm.rank).backward()
    for (name, ours), theirs in zip(layers.named_parameters(), reference.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, name
        else:
            np.testing.assert_allclose(ours.grad, theirs.grad / comm.size, rtol=1e-4, atol=1e-6, err_msg=name)


def test_shared_frozen_and_hooked_parameters(comm):
    """A weight used twice, one that is frozen and one with a hook give what they give after backward()."""

    def gradients(overlap):
        model = deep(8, 3)
        model[2].weight = model[0].weight
        model[4].weight.requires_grad = False
        model[0].bias.register_hook(lambda gradient: 2 * gradient)
        synchronizer = parallel.GradientSynchronizer(model, comm, bucket_bytes=1, overlap=overlap)
        loss_of(model, rows(comm, 0, 8)).backward()
        synchronizer.close()
        return {name: p.grad for name, p in model.named_parameters()}

    after, during = gradients(False), gradients(True)
    assert after["4.weight"] is None
    assert during["4.weight"] is None
    for name in after.keys() - {"4.weight"}:
        assert (after[name] == during[name]).all(), name


def test_a_parameter_that_is_the_result(comm):
    """backward() of a parameter itself waits for its gradient."""
    parameters = [distdl.Parameter([1.0]), distdl.Parameter([2.0])]
    parallel.GradientSynchronizer(parameters, comm, bucket_bytes=1, overlap=True)
    parameters[1].backward()
    assert parameters[0].grad is None
    assert parameters[1].grad.tolist() == [1.0]


def test_two_models_in_one_backward(comm):
    """Each synchronizer reduces its own, over ranks of its own."""
    models, references = (deep(8, 2), deep(8, 3)), (deep(8, 2), deep(8, 3))
    for model in models:
        parallel.GradientSynchronizer(model, comm, bucket_bytes=1, overlap=True)
    x = rows(comm, 0, 8)
    for _ in range(3):
        for model in models:
            model.zero_grad()
        (loss_of(models[1], x) + loss_of(models[0], x)).backward()
    whole = np.concatenate([x for x in comm.allgather_object(x.tolist()) if x]).astype(np.float32)
    (loss_of(references[1], whole) + loss_of(references[0], whole)).backward()
    for model, reference in zip(models, references, strict=True):
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.mpi(min_size=2)
def test_a_failure_during_the_reduction_is_not_passed_over(comm):
    """After an error in a backward() that had begun to reduce, the next one refuses; without overlap it goes on."""
    for overlap in (False, True):
        model = deep()
        synchronizer = parallel.GradientSynchronizer(model, comm, bucket_bytes=1, overlap=overlap)

        def fail(gradient):
            raise KeyError("broken hook")

        first = model[0](distdl.tensor(rows(comm, 0)))
        remove = first.register_hook(fail)
        with pytest.raises(KeyError, match="broken hook"):
            nn.Sequential(*model[1:])(first).sum().backward()
        remove()
        model.zero_grad()
        if overlap:
            with pytest.raises(DistdlError, match="out of step"):
                loss_of(model, rows(comm, 0)).backward()
            with pytest.raises(DistdlError, match="out of step"):
                synchronizer.settle()
        else:
            loss_of(model, rows(comm, 0)).backward()
            assert model[0].weight.grad is not None


def test_a_task_that_fails_stops_those_after_it():
    """The error comes out where one waits, and nothing runs after it."""
    done = []
    background = Background()
    for task in (lambda: done.append(1), lambda: done[7], lambda: done.append(2)):
        background.start(task)
    with pytest.raises(IndexError):
        background.wait()
    assert done == [1]

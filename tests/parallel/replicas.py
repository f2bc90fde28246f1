"""Small models, their batches, and what one rank alone would compute."""

import numpy as np

import distdl
from distdl import nn, parallel


def dense(dtype):
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5)).astype(dtype)


def convolutional(dtype):
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 5)).astype(dtype)


MODELS = {"dense": (dense, (12,)), "convolutional": (convolutional, (6, 6, 2))}


def made(build, dtype, seed=3):
    distdl.manual_seed(seed)
    return build(dtype)


def batch(shape, step, rows, dtype):
    random = np.random.default_rng(step)
    return random.normal(size=(rows, *shape)).astype(dtype), random.integers(0, 5, rows)


def relative_difference(model, reference):
    ours = np.concatenate([a.ravel() for a in model.state_dict().values()])
    theirs = np.concatenate([a.ravel() for a in reference.state_dict().values()])
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def gradients_alone(build, dtype, *losses):
    """Return the gradients of a sum of losses on one rank, by name."""
    model = made(build, dtype)
    for loss in losses:
        loss(model).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_gradients(model, expected, tolerance=1e-12):
    for name, parameter in model.named_parameters():
        if expected[name] is None:
            assert parameter.grad is None, name
        else:
            np.testing.assert_allclose(parameter.grad, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def synchronized(comm, build=dense):
    model = made(build, "float64")
    return model, parallel.GradientSynchronizer(model, comm)


def cross_entropy_on(x, y, **options):
    return lambda model: nn.functional.cross_entropy(model(distdl.tensor(x)), y, **options)


def collectives(comm):
    """Count those of all communicators of this job: buckets may have one of their own."""
    return sum(part.collectives for part in comm.family) if comm.size > 1 else comm.collectives

"""A step of training that is like the one before allocates nothing large."""

import gc
import tracemalloc

import numpy as np
import pytest

import distdl
from distdl import nn, optim
from distdl.core import memory
from distdl.nn import functional

rng = np.random.default_rng(0)


class Block(nn.Module):
    """A residual block with batch norm, whose shortcut is a convolution where the extents change."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def cnn():
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, 1, 1), nn.GELU(), nn.AvgPool2d(2), nn.Dropout(0.2)),
        *(nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def resnet():
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(*stem, Block(16, 16, 1), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("make", [cnn, resnet])
def test_steady_steps_allocate_nothing_large(make):
    """In steps 10 to 100 the pool takes nothing from the system; what is taken past it is less than an eighth of it."""
    gc.collect()
    memory.release()
    model = make()
    x = rng.standard_normal((32, 32, 32, 3)).astype(np.float32)
    labels = rng.integers(0, 10, 32)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        functional.cross_entropy(model(distdl.tensor(x)), labels).backward()
        optimizer.step()

    for _ in range(10):
        step()
    before = memory.statistics()
    for _ in range(88):
        step()
    tracemalloc.start()
    try:
        # The first one fills what is kept from step to step.
        step()
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        step()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert memory.statistics().allocations == before.allocations
    assert before.held_bytes > 2**22
    assert most - held < before.held_bytes / 8

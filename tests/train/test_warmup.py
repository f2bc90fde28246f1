"""Compiling ahead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distdl.cli.main import main
from distdl.train.warmup import Report, warm_up
from tests.jobs.launching import run_job

ROOT = Path(__file__).parents[2]

STEP = """
import numpy as np
from distdl import Tensor, nn, optim
from distdl.kernels.compile import compiled
first = nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
second = nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
model = nn.Sequential(*first, *second, nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(2):
    optimizer.zero_grad()
    x = Tensor(np.ones((4, 28, 28, 1), np.float32))
    nn.functional.cross_entropy(model(x), np.arange(4)).backward()
    optimizer.step()
print(compiled)
"""


@pytest.mark.parametrize("count", [1, 2])
def test_training_compiles_nothing_after_it(count):
    """After a warm-up, a process that trains, with one thread or several, finds all kernels on disk."""
    assert warm_up().directory
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DISTDL_NUM_THREADS": str(count)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert done.stdout == "[]\n"


REDUCE = """
import distdl
from distdl.kernels.compile import compiled
comm = distdl.world()
for size in (8, 100_000):
    comm.allreduce(comm.zeros(size), scale=0.5)
comm.print(compiled)
"""


@pytest.mark.job
def test_ranks_of_a_node_compile_nothing_after_it():
    """After a warm-up, in one process, ranks that reduce in shared memory find what they need on disk."""
    assert warm_up().directory
    ended = run_job(REDUCE, 2)
    assert (ended.code, ended.output) == (0, "[]\n")


def test_a_second_warm_up_compiles_nothing():
    """What is compiled already is left alone."""
    warm_up()
    assert warm_up().functions == 0


def test_the_command_says_what_it_did(monkeypatch, capsys):
    """`distdl warmup` prints how many functions were compiled and where; without a place it fails."""
    monkeypatch.setattr("distdl.train.warmup.warm_up", lambda: Report(3, 1.0, Path("here"), ("odd",)))
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out == "3 functions compiled in 1.0 s, kept in here; not called: odd\n"
    monkeypatch.setattr("distdl.train.warmup.warm_up", lambda: Report(3, 1.0, None, ()))
    assert main(["warmup"]) == 1


@pytest.mark.parametrize(
    "name",
    [
        "direct_forward", "winograd_backward", "linear_forward", "sgd_update", "layer_norm", "relu_vectors",
        "relu_backward_vectors", "add_vectors",
    ],
)  # fmt: skip
def test_the_kernels_of_training_are_called(name):
    """The small steps reach each kind of kernel."""
    assert name not in warm_up().left

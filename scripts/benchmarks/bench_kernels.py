"""The kernels at the shapes of the reference models, forward and backward, for pytest-benchmark.

pytest scripts/benchmarks/bench_kernels.py                        a table
pytest scripts/benchmarks/bench_kernels.py --benchmark-autosave   keeps it; --benchmark-compare shows what has changed
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distdl.kernels.optim import sgd_update
from distdl.ops import activation, conv, linear, loss, norm, pool

Arrays = tuple[np.ndarray, ...]

CONVOLUTIONS = {
    "cnn first": (64, 28, 1, 32),
    "cnn second": (64, 14, 32, 64),
    "resnet20 16 channels": (64, 32, 16, 16),
    "resnet20 32 channels": (64, 16, 32, 32),
    "resnet20 64 channels": (64, 8, 64, 64),
    "vgg6 64 channels": (32, 32, 64, 64),
    "vgg6 128 channels": (32, 16, 128, 128),
    "vgg6 256 channels": (32, 8, 256, 256),
}
"""Images, their height and width, channels in and out."""

OPERATIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], dict[str, Any]]] = {
    "linear, mlp first": (linear.linear, [(128, 784), (784, 512), (512,)], {"relu": True}),
    "linear, vgg6": (linear.linear, [(32, 4096), (4096, 256), (256,)], {"relu": True}),
    "batch norm": (norm.batch_norm, [(64, 32, 32, 16), (16,), (16,)], {}),
    "layer norm": (norm.layer_norm, [(512, 256), (256,), (256,)], {"shape": (256,)}),
    "max pooling 2x2": (pool.max_pool2d, [(64, 28, 28, 32)], {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}),
    "relu": (activation.relu, [(64, 32, 32, 16)], {}),
    "gelu": (activation.gelu, [(64, 32, 32, 16)], {}),
    "softmax, 1,000 classes": (loss.softmax, [(128, 1000)], {}),
}


def drawn(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def measure(benchmark: Any, way: str, function: Callable[..., Any], arrays: list[np.ndarray], **options: Any) -> None:
    """Time an operation, or the gradient function that it returns."""
    if way == "forward":
        benchmark(function, *arrays, **options)
        return
    y, backward = function(*arrays, **options)
    takes_wanted = "wanted" in backward.__code__.co_varnames[: backward.__code__.co_argcount]
    benchmark(backward, np.ones_like(y), *((True,) * len(arrays),) * takes_wanted)


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(benchmark: Any, name: str, exact: bool, way: str) -> None:
    images, size, inputs, outputs = CONVOLUTIONS[name]
    arrays = drawn((images, size, size, inputs), (3, 3, inputs, outputs), (outputs,))
    options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1, "relu": True}
    measure(benchmark, way, conv.conv2d, arrays, exact=exact, **options)


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(benchmark: Any, name: str, way: str) -> None:
    function, shapes, options = OPERATIONS[name]
    measure(benchmark, way, function, drawn(*shapes), **options)


def test_cross_entropy(benchmark: Any) -> None:
    (logits,) = drawn((128, 10))
    benchmark(loss.cross_entropy, logits, labels=np.arange(128) % 10)


def test_sgd(benchmark: Any) -> None:
    parameter, gradient, velocity = drawn((1 << 20,), (1 << 20,), (1 << 20,))
    benchmark(sgd_update, parameter, gradient, velocity, 1e-3, 0.9, 0.0, 1e-4, False, False)

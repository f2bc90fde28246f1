"""Data-parallel training of neural networks on CPU clusters.

Everything here is imported when it is first used; importing distdl starts no MPI.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import autograd, cluster, comm, core, data, nn, optim, parallel, train
    from .autograd import (
        Parameter,
        Tensor,
        concatenate,
        detect_anomaly,
        enable_grad,
        gradcheck,
        maximum,
        minimum,
        no_grad,
        ones,
        op,
        pad,
        stack,
        tensor,
        where,
        zeros,
    )
    from .comm import Communicator, world
    from .core.errors import DistdlError
    from .core.random import manual_seed
    from .core.spans import timeline
    from .parallel import DistributedOptimizer, GradientSynchronizer
    from .train import Trainer

_ROOMS = ("autograd", "cluster", "comm", "core", "data", "kernels", "nn", "ops", "optim", "parallel", "train")

_NAMES = {
    **dict.fromkeys(
        (
            "Parameter",
            "Tensor",
            "concatenate",
            "detect_anomaly",
            "enable_grad",
            "gradcheck",
            "maximum",
            "minimum",
            "no_grad",
            "ones",
            "op",
            "pad",
            "stack",
            "tensor",
            "where",
            "zeros",
        ),
        "autograd",
    ),
    "Communicator": "comm",
    "DistdlError": "core.errors",
    "DistributedOptimizer": "parallel",
    "GradientSynchronizer": "parallel",
    "Trainer": "train",
    "manual_seed": "core.random",
    "timeline": "core.spans",
    "world": "comm",
}

__all__ = [
    "Communicator",
    "DistdlError",
    "DistributedOptimizer",
    "GradientSynchronizer",
    "Parameter",
    "Tensor",
    "Trainer",
    "__version__",
    "autograd",
    "cluster",
    "comm",
    "concatenate",
    "core",
    "data",
    "detect_anomaly",
    "enable_grad",
    "gradcheck",
    "manual_seed",
    "maximum",
    "minimum",
    "nn",
    "no_grad",
    "ones",
    "op",
    "optim",
    "pad",
    "parallel",
    "stack",
    "tensor",
    "timeline",
    "train",
    "where",
    "world",
    "zeros",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'distdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""Data parallelism: gradient buckets, their reduction over the ranks, and the optimizer that wraps it."""

from .digest import digest, replica_digests
from .optimizer import DistributedOptimizer
from .reproducible import ReproducibleSynchronizer
from .synchronizer import GradientSynchronizer

__all__ = [
    "DistributedOptimizer",
    "GradientSynchronizer",
    "ReproducibleSynchronizer",
    "digest",
    "replica_digests",
]

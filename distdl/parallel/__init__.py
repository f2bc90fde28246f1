"""Data parallelism: gradient buckets, their reduction over the ranks, and the optimizer that wraps it."""

from . import compression
from .balance import Balance
from .digest import digest, replica_digests
from .optimizer import DistributedOptimizer
from .reproducible import ReproducibleSynchronizer
from .synchronizer import GradientSynchronizer
from .timeline import trace

__all__ = [
    "Balance",
    "DistributedOptimizer",
    "GradientSynchronizer",
    "ReproducibleSynchronizer",
    "compression",
    "digest",
    "replica_digests",
    "trace",
]

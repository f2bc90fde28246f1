"""Data parallelism: gradient buckets, their reduction over the ranks, and the optimizer that wraps it."""

from .digest import digest, replica_digests
from .optimizer import DistributedOptimizer
from .synchronizer import GradientSynchronizer

__all__ = ["DistributedOptimizer", "GradientSynchronizer", "digest", "replica_digests"]

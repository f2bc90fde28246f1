"""The side of distdl: what a worker process does when it is told to."""

import time
from typing import Any

import numpy as np

import distdl
from distdl import nn, optim, parallel
from distdl.core import random

from . import models


class Ours:
    """A rank with a model.

    Args:
        model: its name; "" for none.
        threads: handled by the environment.
        reproducible: train in 8 shards.
        compression: name of a hook; None: none.
        reduces: whether ranks reduce their gradients; else each trains for itself, unless `reproducible`.
        options: none.
    """

    def __init__(
        self,
        model: str,
        seed: int = 0,
        lr: float = 0.01,
        reproducible: bool = False,
        compression: str | None = None,
        reduces: bool = True,
        **options: Any,
    ):
        self.comm = distdl.world()
        self.rank, self.size = self.comm.rank, self.comm.size
        if model:
            self.model = models.make(model, nn)
            models.start_alike(model, {name: p.data for name, p in self.model.named_parameters()}, False, seed)
            optimizer: Any = optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
            self.reproducible = reproducible
            self.optimizer = optimizer
            if reproducible or (reduces and self.size > 1):
                self.optimizer = parallel.DistributedOptimizer(
                    optimizer, self.comm, model=self.model, reproducible=reproducible, compression=compression
                )

    def prepare(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        return x, y

    def step(self, x: Any, y: Any) -> Any:
        parts: Any = [(x, y)]
        if self.reproducible:
            random.set_batch(random.Batch(0, np.arange(len(x)), 8))
            parts = self.optimizer.each_shard(x, y)
        self.optimizer.zero_grad()
        for rows, labels in parts:
            loss = nn.functional.cross_entropy(self.model(distdl.tensor(rows)), labels)
            loss.backward()
        self.optimizer.step()
        return loss

    def right(self, x: np.ndarray, y: np.ndarray) -> int:
        """Count, over all ranks, the samples that are classified rightly."""
        with distdl.no_grad():
            mine = int((self.model.eval()(distdl.tensor(x)).data.argmax(axis=1) == y).sum())
        self.model.train()
        return int(self.comm.allreduce(np.array([mine]))[0])

    def allreduce(self, size: int, count: int, raw: bool = False) -> float:
        """Return the seconds of so many allreduces of float32, as of gradients; `raw`: MPI's own, in place."""
        array = np.zeros(size // 4, np.float32) if raw else self.comm.zeros(size // 4)
        reduce = self.comm.allreduce
        if raw:
            from mpi4py import MPI

            def reduce(array: np.ndarray) -> Any:
                MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, array)

        reduce(array)
        self.comm.barrier()
        start = time.perf_counter()
        for _ in range(count):
            reduce(array)
        return time.perf_counter() - start

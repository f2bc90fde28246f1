"""The side of PyTorch: what a worker process does when it is told to."""

import os
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from . import models


class Theirs:
    """A rank with a model.

    Args:
        model: its name; "" for none.
        channels_last: how images and weights lie.
        compiled: by torch.compile.
        bucket: MiB of DDP's buckets.
        hook: "fp16" or "powersgd, rank N": its communication hook; None: none.
    """

    def __init__(
        self,
        model: str,
        seed: int = 0,
        lr: float = 0.01,
        channels_last: bool = False,
        compiled: bool = False,
        bucket: int = 25,
        hook: str | None = None,
    ):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        # DDP's best settings hold a name that it is about to change.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        if self.size > 1:
            distributed.init_process_group("gloo")
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        if model:
            self.model = models.make(model, nn)
            models.start_alike(model, {n: p.data.numpy() for n, p in self.model.named_parameters()}, True, seed)
            self.model = self.model.to(memory_format=self.layout)
            if self.size > 1:
                self.model = nn.parallel.DistributedDataParallel(
                    self.model,
                    gradient_as_bucket_view=True,
                    broadcast_buffers=False,
                    static_graph=True,
                    bucket_cap_mb=bucket,
                )
                if hook is not None:
                    _register(self.model, hook)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
            self.run = torch.compile(self.model) if compiled else self.model

    def prepare(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        """Lay images out once, outside of what is timed."""
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        return images.contiguous(memory_format=self.layout), torch.from_numpy(y)

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.run(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def right(self, x: np.ndarray, y: np.ndarray) -> int:
        """Count, over all ranks, the samples that are classified rightly."""
        images, labels = self.prepare(x, y)
        self.model.eval()
        with torch.no_grad():
            mine = (self.model(images).argmax(dim=1) == labels).sum().reshape(1)
        self.model.train()
        if self.size > 1:
            distributed.all_reduce(mine)
        return int(mine)

    def allreduce(self, size: int, count: int, raw: bool = False) -> float:
        """Return the seconds of so many allreduces of float32 by gloo."""
        array = torch.zeros(size // 4)
        distributed.all_reduce(array)
        distributed.barrier()
        start = time.perf_counter()
        for _ in range(count):
            distributed.all_reduce(array)
        return time.perf_counter() - start


def _register(model: nn.parallel.DistributedDataParallel, hook: str) -> None:
    """Give DDP a communication hook."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

    name, _, rank = hook.partition(", rank ")
    if name == "powersgd":
        # From the first step at which it may, so that steps are alike while they are measured.
        state = PowerSGDState(None, matrix_approximation_rank=int(rank), start_powerSGD_iter=2)
        model.register_comm_hook(state, powerSGD_hook)
    else:
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)

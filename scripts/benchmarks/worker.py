"""A rank that waits for orders: python -m benchmarks.worker SOCKET SIDE OPTIONS(JSON).

It waits at a socket, which costs no time of the core, while the other side is measured. MPI's or gloo's
own ways of waiting would spin.
"""

import json
import resource
import socket
import sys
import time
from typing import Any

_START = time.perf_counter()


class Worker:
    """Orders, by name; each gets its options and returns what can be sent as JSON."""

    def __init__(self, side: str, options: dict[str, Any]):
        if side == "ours":
            from .ours import Ours as Side
        else:
            from .theirs import Theirs as Side  # type: ignore[assignment]
        from . import models

        self.import_seconds = time.perf_counter() - _START
        self.side = Side(**options)
        self.name = options["model"]
        if self.name:
            self.batches = [self.side.prepare(*batch) for batch in models.batches(self.name, 8, self.side.rank)]

    def started(self) -> dict[str, Any]:
        return {"rank": self.side.rank, "import": self.import_seconds}

    def steps(self, count: int) -> float:
        """Return the seconds of so many steps."""
        start = time.perf_counter()
        for i in range(count):
            loss = self.side.step(*self.batches[i % len(self.batches)])
        loss.item()
        return time.perf_counter() - start

    def fit(self, count: int, every: int | None) -> float:
        """Return the seconds of a fit of so many steps."""
        from .fits import fit

        return fit(self.side, self.name, count, every)

    def losses(self, count: int) -> list[float]:
        """Return the losses of so many steps, each on data of its own."""
        from . import models

        data = models.batches(self.name, count, self.side.rank, seed=2)
        return [float(self.side.step(*self.side.prepare(*batch)).item()) for batch in data]

    def peak(self) -> int:
        """Return the most memory that this process has held, in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def allreduce(self, **options: Any) -> float:
        return self.side.allreduce(**options)

    def limits(self) -> dict[str, float]:
        """Return what this core reaches at most: GFLOP/s of a large matrix product, GB/s of a copy."""
        import numpy as np

        a = np.ones((1024, 1024), np.float32)
        source, target = np.ones(25 << 20, np.float32), np.empty(25 << 20, np.float32)
        product = min(_seconds(lambda: a @ a) for _ in range(10))
        copy = min(_seconds(lambda: np.copyto(target, source)) for _ in range(10))
        return {"gflops": 2 * 1024**3 / product / 1e9, "copy": 2 * source.nbytes / copy / 1e9}

    def reach(self, accuracy: float, batch: int, epochs: int) -> dict[str, Any]:
        """Train on Fashion-MNIST until the test accuracy is reached, seen every 100 steps; say after how many steps."""
        import numpy as np

        from distdl import data

        side, ours = self.side, slice(self.side.rank, None, self.side.size)
        images, labels = data.load_fashion_mnist("train").arrays
        held_out = [array[ours] for array in data.load_fashion_mnist("test").arrays]
        rng, steps, best = np.random.default_rng(0), 0, 0.0
        for _ in range(epochs):
            order = rng.permutation(len(images))
            for first in range(0, len(order) - batch + 1, batch):
                rows = order[first : first + batch][ours]
                side.step(*side.prepare(images[rows], labels[rows]))
                steps += 1
                if steps % 100 == 0:
                    best = max(best, side.right(*held_out) / 10_000)
                    if best >= accuracy:
                        return {"steps": steps, "accuracy": best}
        return {"steps": steps, "accuracy": best}


def _seconds(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    path, side, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    worker = Worker(side, options)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        serve(worker, connection)


def serve(worker: Worker, connection: socket.socket) -> None:
    """Do what comes by a connection, until it says `end`."""
    with connection.makefile("rw") as lines:
        order: dict[str, Any] = {"do": "started"}
        while order["do"] != "end":
            answer = getattr(worker, order.pop("do"))(**order)
            print(json.dumps(answer), file=lines, flush=True)
            order = json.loads(lines.readline() or '{"do": "end"}')


if __name__ == "__main__":
    main()

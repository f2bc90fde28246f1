"""Recording a profile of a script's steps (`DISTDL_PROFILE`), from which `distdl plan` predicts others.

The profiler stands between the tape and the synchronizer: it notes when what is called, and passes it on. After some
steps it measures reductions, writes the file, and goes. For `distdl plan` it prints the profile instead, and the job
ends.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.owner import GradientOwner
from ..comm.system import machine, network
from ..core import checks, files, settings, threads
from ..core.errors import ArgumentError, DistdlError
from .profile import Profile
from .reduction_times import combine_seconds, measure_reductions, polling_share
from .trial import TrialOver

if TYPE_CHECKING:
    from ..comm import Communicator
    from .synchronizer import GradientSynchronizer

MARK = "distdl-profile "
"""What stands before the profile, a line of JSON, on standard output."""

WARM_UP = 10
"""Steps that are not measured: kernels are compiled, and memory is taken, in the first ones."""

_SECONDS = 3.0
_LEAST_STEPS, MOST_STEPS = 20, 200
"""How long is measured, and the least and the most steps of it."""

_QUARTILES = 1.349
"""Standard deviations between the quartiles of a normal distribution."""


def profiled(synchronizer: GradientSynchronizer) -> GradientOwner:
    """Return who is to own a synchronizer's parameters: itself, or the profiler of this process if it is asked for."""
    target = settings.profile()
    return synchronizer if target is None else Profiler(synchronizer, None if target == "-" else Path(target))


class Profiler:
    """Owns the parameters of a synchronizer for some steps. All ranks have one; rank 0 writes.

    Args:
        synchronizer: a new one.
        path: of the file; None: the profile is printed, and the process ends.

    Raises:
        ArgumentError: the file's directory does not exist, or the synchronizer's mode is none that can be profiled.
    """

    def __init__(self, synchronizer: GradientSynchronizer, path: Path | None):
        from .reproducible import ReproducibleSynchronizer

        if synchronizer.plan.overlap:
            raise ArgumentError("`DISTDL_PROFILE` and overlap do not go together: computation is measured by itself")
        if isinstance(synchronizer, ReproducibleSynchronizer):
            raise ArgumentError("`DISTDL_PROFILE` is not for reproducible mode")
        is_good = synchronizer.comm.broadcast_object(path is None or path.parent.is_dir())
        if not is_good:
            raise checks.bad_value("DISTDL_PROFILE", str(path), "must be a file in a directory that exists on rank 0")
        self.order = synchronizer.order
        self._inner = synchronizer
        self._path = path
        self._seen = self._last = 0
        self._start = self._passed = self._ended = 0.0
        self._backward = self._reduce = self._weight = 0.0
        self._ready: dict[int, float] = {}
        self._times: list[tuple[float, float, float, float]] = []
        self._weights: list[float] = []
        self._readiness: list[dict[int, float]] = []

    @property
    def is_watching(self) -> bool:
        return True

    def begin_backward(self, weight: float | None) -> float:
        factor = self._inner.begin_backward(weight)
        self._weight += weight or 0.0
        self._ready = {}
        self._passed = time.perf_counter()
        return factor

    def expect(self, leaves: Sequence[Any]) -> None:
        """What is final when is noted in `written`."""

    def written(self, leaf: Any) -> None:
        self._ready[id(leaf)] = time.perf_counter() - self._passed

    def end_backward(self) -> None:
        start = time.perf_counter()
        last = start - self._passed
        self._backward += last
        self._ready = {leaf: moment / last for leaf, moment in self._ready.items()} if last > 0 else {}
        self._inner.end_backward()
        self._ended = time.perf_counter()
        self._reduce += self._ended - start

    def settle(self) -> None:
        self._inner.settle()

    def stepped(self) -> None:
        self._inner.stepped()
        now = time.perf_counter()
        self._seen += 1
        if self._seen > WARM_UP and self._ended > self._start:
            total = now - self._start
            update = now - self._ended
            forward = total - self._backward - self._reduce - update
            self._times.append((forward, self._backward, update, self._reduce))
            self._weights.append(self._weight)
            self._readiness.append(self._ready)
        if self._seen == WARM_UP:
            # Rank 0's clock decides for all.
            each = max(now - self._start, 1e-6)
            count = min(max(round(_SECONDS / each), _LEAST_STEPS), MOST_STEPS)
            self._last = WARM_UP + self._inner.comm.broadcast_object(count)
        elif self._seen == self._last:
            self._finish()
        self._backward = self._reduce = self._weight = 0.0
        self._start = time.perf_counter()

    def _finish(self) -> None:
        for _, parameter in self._inner.named_parameters:
            if parameter._owner is self:
                parameter._owner = self._inner
        comm = self._inner.comm
        profile = self._profile()
        if self._path is None:
            if comm.rank == 0:
                print(MARK + json.dumps(profile.to_dict()), flush=True)
            raise TrialOver(0)
        problem = ""
        if comm.rank == 0:
            try:
                files.write_durably(self._path, profile.to_json().encode())
                print(f"distdl: profile of {profile.steps} steps: {self._path}", file=sys.stderr, flush=True)
            except OSError as error:
                problem = f"{type(error).__name__}: {error}"
        problem = comm.broadcast_object(problem)
        if problem:
            raise DistdlError(f"rank 0 cannot write the profile: {problem}")

    def _profile(self) -> Profile:
        comm = self._inner.comm
        if not comm.allreduce(len(self._times) > 0, "min"):
            raise DistdlError("a profile needs a backward() in every step on every rank")
        times = np.array(self._times)
        forward, backward, update, reduce = comm.allgather(np.median(times, axis=0)).mean(axis=0).tolist()
        places = comm.allgather_object([machine(), f"{machine()} {network()}", threads.cores()])
        mine = places[comm.rank]
        nodes = list(dict.fromkeys(node for _, node, _ in places))
        if len(set(Counter(node for _, node, _ in places).values())) > 1:
            raise DistdlError(f"a profile needs equally many ranks on each node: {comm.size} on {len(nodes)}")
        used = {core for place in places if place[0] == mine[0] for core in place[2]}
        parameters = [
            (parameter.data.nbytes, _median([ready.get(id(parameter), 1.0) for ready in self._readiness]))
            for _, parameter in self._inner.named_parameters
        ]
        here = comm.split(nodes.index(mine[1]), comm.rank)
        assert here is not None
        across = comm.split(0 if here.rank == 0 else None, comm.rank)
        comm.barrier()
        within = measure_reductions(here) if here.size > 1 else []
        comm.barrier()
        between = measure_reductions(across) if across is not None and across.size > 1 else []
        comm.barrier()
        return Profile(
            script=Path(sys.argv[0]).name,
            ranks=comm.size,
            nodes=len(nodes),
            sharing=sum(place[0] == mine[0] for place in places),
            cores=len(used),
            threads=threads.current(),
            batch=float(comm.allreduce(float(np.median(self._weights)))) / comm.size,
            steps=len(self._times),
            forward=forward,
            backward=backward,
            update=update,
            measured=forward + backward + update + reduce,
            spread=_spread(comm, times[:, :3].sum(axis=1)),
            parameters=parameters,
            combine=combine_seconds(),
            polling=polling_share(comm.beside()) if comm.size > 1 else 0.0,
            within=within,
            between=between,
        )


def _median(values: list[float]) -> float:
    return min(max(statistics.median(values), 0.0), 1.0)


def _spread(comm: Communicator, times: np.ndarray) -> float:
    """Return how a rank's time varies over steps and ranks: what is usual, not the rare long step."""
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    everybody = comm.allgather(np.array([middle, high - low]))
    mean = everybody[:, 0].mean()
    noise = everybody[:, 1].mean() / _QUARTILES
    return float(np.hypot(noise, everybody[:, 0].std()) / mean)

"""The measurements, each a function of the settings that returns what is written to the JSON file."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Any

from tests.jobs.virtual_network import VirtualNetwork, is_possible

from . import hooks, machine, models
from .jobs import Job
from .pairs import best, compare, count_for

Result = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How long and what to measure.

    Attributes:
        models: names of reference models.
        seconds: of a block.
        pairs: of blocks.
        quick: take less of everything, to see that it works.
        compiled: let torch.compile try too.
        ranks: for `scaling`.
    """

    models: tuple[str, ...]
    seconds: float
    pairs: int
    quick: bool
    compiled: bool
    ranks: tuple[int, ...]

    @property
    def has_torch(self) -> bool:
        return util.find_spec("torch") is not None


GIGABIT = 1000
"""Megabits a second, of a cable between hosts."""

SETUPS = {"1 rank x 1 thread": (1, 1), "1 rank x 2 threads": (1, 2), "2 ranks x 1 thread": (2, 1)}


def _candidates(name: str, ranks: int, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the ways to run PyTorch that are tried; the fastest is the peer."""
    layouts = [False] if name == "mlp" else [False, True]
    tries = {"channels_last" if last else "NCHW": {"channels_last": last} for last in layouts}
    compiled = {f"{key}, compiled": {**options, "compiled": True} for key, options in tries.items()}
    if ranks > 1 and not settings.quick:
        tries = {f"{key}, {mib} MiB buckets": {**o, "bucket": mib} for key, o in tries.items() for mib in (1, 25, 100)}
    # Compiled ones with DDP's own bucket size only: all candidates are in memory at the same time.
    return tries | compiled if settings.compiled else tries


def steps(settings: Settings) -> Result:
    """Training steps against PyTorch at its best."""
    return _steps(settings)


def avx2(settings: Settings) -> Result:
    """The same of both sides without AVX-512, as on a CPU that has AVX2 alone; torch.compile would not be held."""
    if machine.describe()["vectors"] != "avx512f":
        return {"skipped": "takes a CPU with AVX-512"}
    return _steps(replace(settings, compiled=False), machine.AVX2)


def _steps(settings: Settings, environment: dict[str, str] | None = None) -> Result:
    result: Result = {}
    for setup, (ranks, threads) in SETUPS.items():
        for name in settings.models:
            result.setdefault(name, {})[setup] = _one_step(name, ranks, threads, settings, environment=environment)
    return result


def _one_step(name: str, ranks: int, threads: int, settings: Settings, **place: Any) -> Result:
    """Compare steps; `place`: the network or the environment of both jobs."""
    with ExitStack() as open_jobs:
        job = open_jobs.enter_context(Job("ours", ranks, threads, **place, model=name))
        if not settings.has_torch:
            count = count_for(job.steps, settings.seconds)
            return {"ours": statistics.median(job.steps(count) / count * 1e3 for _ in range(settings.pairs))}
        peers = {
            key: open_jobs.enter_context(Job("torch", ranks, threads, **place, model=name, **options))
            for key, options in _candidates(name, ranks, settings).items()
        }
        peer = best({key: peer.steps for key, peer in peers.items()}, settings.seconds)
        for key, other in peers.items():
            if key != peer:
                other.close()
        found = compare(job.steps, peers[peer].steps, settings.seconds, settings.pairs)
    return {"peer": peer, **found.as_dict()}


def scaling(settings: Settings) -> Result:
    """Samples a second of all ranks, one thread each; a rank's speed against the smallest job, and without reducing."""
    result: Result = {}
    first, *others = sorted(settings.ranks)
    for name in settings.models:
        batch = models.REFERENCES[name].batch
        found = result[name] = {}
        with Job("ours", first, model=name) as few:
            count = count_for(few.steps, settings.seconds)
            seconds = statistics.median(few.steps(count) / count for _ in range(settings.pairs))
            found[str(first)] = {"samples": first * batch / seconds}
            for ranks in others:
                with Job("ours", ranks, model=name) as job, Job("ours", ranks, model=name, reduces=False) as apart:
                    against = {"few": few, "apart": apart}
                    shares = {
                        key: compare(job.steps, other.steps, settings.seconds, settings.pairs).as_dict()
                        for key, other in against.items()
                    }
                found[str(ranks)] = {"samples": 1e3 * ranks * batch / shares["few"]["ours"], **shares}
    return result


def allreduce(settings: Settings) -> Result:
    """Our allreduce on 2 ranks against MPI's own, in place, and against gloo."""
    sizes = [1 << 12, 1 << 16, 1 << 20, 25 << 20] + ([] if settings.quick else [4 << 20, 100 << 20])
    result: Result = {}
    with ExitStack() as open_jobs:
        ours = open_jobs.enter_context(Job("ours", 2))
        theirs = open_jobs.enter_context(Job("torch", 2)) if settings.has_torch else None
        for size in sorted(sizes):
            own = _reduction(ours, size)
            against = {"mpi": _reduction(ours, size, raw=True)}
            if theirs:
                against["gloo"] = _reduction(theirs, size)
            result[str(size)] = {
                name: compare(own, other, settings.seconds / 2, settings.pairs).as_dict()
                for name, other in against.items()
            }
    return result


def _reduction(job: Job, size: int, **options: Any) -> Callable[[int], float]:
    return lambda count: max(job.ask("allreduce", size=size, count=count, **options))


def memory(settings: Settings) -> Result:
    """Peak memory of a rank, each in processes of its own, after some steps."""
    result: Result = {}
    for name in settings.models:
        for ranks in (1, 2):
            sides: dict[str, dict[str, Any]] = {"ours": {}}
            if settings.has_torch:
                sides |= (
                    {"torch": {}} if name == "mlp" else {"torch": {}, "torch channels_last": {"channels_last": True}}
                )
            for side, options in sides.items():
                # Compiling takes memory too, which only the first run on a machine needs.
                with Job(side.split()[0], ranks, model=name, **options) as job:
                    job.steps(2)
                with Job(side.split()[0], ranks, model=name, **options) as job:
                    job.steps(5 if settings.quick else 20)
                    result.setdefault(name, {}).setdefault(str(ranks), {})[side] = max(job.ask("peak"))
    return result


def cold(settings: Settings) -> Result:
    """Seconds of the import and of the first step: without any compiled kernel, and with all of them."""
    result: Result = {}
    for name in settings.models:
        with tempfile.TemporaryDirectory() as directory:
            for kind in ("cold", "warm"):
                with Job("ours", model=name, environment={"DISTDL_CACHE_DIR": directory}) as job:
                    seconds = job.started[0]["import"]
                    result.setdefault(name, {})[kind] = {"import": seconds, "step": job.steps(1)}
        if settings.has_torch:
            with Job("torch", model=name) as job:
                result[name]["torch"] = {"import": job.started[0]["import"], "step": job.steps(1)}
    return result


def accuracy(settings: Settings) -> Result:
    """Seconds from process start to end, until the CNN reaches 0.90 on Fashion-MNIST, on 2 ranks."""
    goal, epochs = (0.5, 1) if settings.quick else (0.90, 10)
    result: Result = {"goal": goal}
    with Job("ours", model="cnn") as job:
        # Kernels are compiled once on a machine, which `cold` measures.
        job.steps(1)
    tries = [("ours", {})] + ([("torch", {}), ("torch", {"channels_last": True})] if settings.has_torch else [])
    for turn in range(1 if settings.quick else 3):
        for side, options in tries:
            start = time.perf_counter()
            with Job(side, 2, model="cnn", lr=0.05, seed=turn, **options) as job:
                reached = job.ask("reach", accuracy=goal, batch=64, epochs=epochs)[0]
            key = " ".join([side, *options])
            result.setdefault(key, []).append({"seconds": time.perf_counter() - start, **reached})
    return result


def losses(settings: Settings) -> Result:
    """Losses of the same steps from the same weights, beside those that other seeds give."""
    count, seeds = (20, 2) if settings.quick else (300, 3)
    result: Result = {}
    for name in settings.models:
        for side in ("ours", "torch") if settings.has_torch else ("ours",):
            for seed in range(seeds):
                with Job(side, model=name, seed=seed, lr=models.REFERENCES[name].rate) as job:
                    result.setdefault(name, {}).setdefault(side, []).append(job.ask("losses", count=count)[0])
    return result


def limits(settings: Settings) -> Result:
    """What of the machine's limits is reached: products and sums of a step, bytes of an allreduce."""
    with Job("ours") as job:
        reached = job.ask("limits")[0]
    result: Result = {"peak": reached, "models": {}}
    for name in settings.models:
        with Job("ours", model=name) as job:
            count = count_for(job.steps, settings.seconds)
            seconds = min(job.steps(count) / count for _ in range(3))
        direct, fast = (2e-9 * models.REFERENCES[name].batch * n for n in models.multiplications(name))
        shares = {"direct": direct / seconds / reached["gflops"], "transformed": fast / seconds / reached["gflops"]}
        result["models"][name] = {"milliseconds": seconds * 1e3, **shares}
    with Job("ours", 2) as job:
        size = 25 << 20
        block = _reduction(job, size)
        count = count_for(block, settings.seconds)
        rate = size / (block(count) / count) / 1e9
    result["allreduce"] = {"bytes": size, "rate": rate, "share": rate / reached["copy"]}
    return result


def reproducible(settings: Settings) -> Result:
    """Steps on 2 ranks in reproducible mode, against the fast mode, with the same global batch."""
    result: Result = {}
    for name in settings.models:
        with Job("ours", 2, model=name, reproducible=True) as slow, Job("ours", 2, model=name) as fast:
            result[name] = compare(slow.steps, fast.steps, settings.seconds, settings.pairs).as_dict()
    return result


def checkpoints(settings: Settings) -> Result:
    """A fit of the CNN on 2 ranks with a checkpoint every 50 steps, against one without."""
    every = 5 if settings.quick else 50
    with Job("ours", 2, model="cnn") as job:
        ways = [lambda count, e=e: max(job.ask("fit", count=count, every=e)) for e in (every, None)]
        # So long that there are some.
        return {"every": every, **compare(*ways, 6 * settings.seconds, settings.pairs).as_dict()}


def network(settings: Settings) -> Result:
    """Two hosts joined by a cable of 1 Gbit/s: steps against PyTorch, with hooks too, and reductions against MPI's own.

    Network namespaces of this machine, which root makes. Steps are of one rank a host, since there are as few cores;
    reductions are of two.
    """
    if not is_possible():
        return {"skipped": "hosts take root and iproute2"}
    result: Result = {"mbit": GIGABIT, "steps": {}, "allreduce": {}}
    with tempfile.TemporaryDirectory() as directory, VirtualNetwork(2, Path(directory), GIGABIT) as hosts:
        for name in settings.models:
            result["steps"][name] = _one_step(name, 2, 1, settings, network=hosts)
        if "mlp" in settings.models:
            result["hooks"] = {"mlp": hooks.measure(hosts, "mlp", settings)}
        with Job("ours", 4, network=hosts) as job:
            for size in (1 << 20, 8 << 20, 25 << 20):
                ways = (_reduction(job, size), _reduction(job, size, raw=True))
                result["allreduce"][str(size)] = {
                    "mpi": compare(*ways, settings.seconds, settings.pairs).as_dict(),
                }
    return result


SECTIONS: dict[str, Callable[[Settings], Result]] = {
    function.__name__: function
    for function in (
        steps,
        avx2,
        scaling,
        reproducible,
        checkpoints,
        allreduce,
        network,
        memory,
        cold,
        accuracy,
        losses,
        limits,
    )
}

"""Compression hooks on hosts joined by slow cables, against DDP without a hook and with its best."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from distdl.parallel.compression import HOOKS

from .jobs import Job
from .pairs import best, compare, count_for

if TYPE_CHECKING:
    from tests.jobs.virtual_network import VirtualNetwork

    from .sections import Settings

Result = dict[str, Any]

NAMES = [None, *HOOKS]
"""Ours; None is none."""

THEIR_HOOKS = ("fp16", "powersgd, rank 1", "powersgd, rank 4")
"""PyTorch's bf16 hook takes NCCL or XCCL only."""


def measure(network: "VirtualNetwork", model: str, settings: "Settings") -> Result:
    """Return milliseconds and bytes a step with each hook, and ratios to DDP where PyTorch is installed.

    One rank a host. Ratios are of neighbouring blocks in turn, see `pairs.py`.
    """
    result: Result = {"hooks": {}}
    with ExitStack() as open_jobs:

        def job(side: str, **options: Any) -> Job:
            return open_jobs.enter_context(Job(side, 2, network=network, model=model, **options))

        peers: dict[str, Job] = {}
        if settings.has_torch:
            peers["plain"] = job("torch")
            theirs = {name: job("torch", hook=name) for name in THEIR_HOOKS}
            name = best({name: peer.steps for name, peer in theirs.items()}, settings.seconds)
            peers["best hook"] = theirs.pop(name)
            result["their best hook"] = name
            for other in theirs.values():
                other.close()
        for hook in NAMES:
            ours = job("ours", compression=hook)
            found: Result = {"bytes": _bytes(network, ours)}
            for peer, other in peers.items():
                found[peer] = compare(ours.steps, other.steps, settings.seconds, settings.pairs).as_dict()
            if not peers:
                count = count_for(ours.steps, settings.seconds)
                times = sorted(ours.steps(count) / count * 1e3 for _ in range(settings.pairs))
                found["milliseconds"] = times[len(times) // 2]
            result["hooks"][hook or "none"] = found
            ours.close()
    return result


def _bytes(network: "VirtualNetwork", job: Job, steps: int = 20) -> float:
    """Return how many bytes the first host sends in a step, as its network card counts them."""
    # A first step compiles, and hosts look for each other.
    job.steps(3)
    before = network.bytes_sent(network.names[0])
    job.steps(steps)
    return (network.bytes_sent(network.names[0]) - before) / steps


def table(by_model: dict[str, Result]) -> str:
    """Return the results as a table in Markdown."""
    head = ["model", "hook", "sent a step", "distdl, ms", "DDP, ms", "ratio", "DDP's best hook, ms", "ratio"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for model, result in by_model.items():
        for hook, found in result["hooks"].items():
            cells = [model, hook, _size(found["bytes"])]
            plain, their = found.get("plain"), found.get("best hook")
            cells.append(f"{plain['ours'] if plain else found['milliseconds']:.1f}")
            for peer, name in ((plain, ""), (their, f" ({result.get('their best hook')})")):
                cells += [f"{peer['theirs']:.1f}{name}", f"**{peer['ratio']:.2f}**"] if peer else ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _size(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"

"""The page with the figures, and its plots, from what the JSON file holds."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from . import hooks, plots

Result = dict[str, Any]

_INTRODUCTION = """# Performance

Made by `scripts/benchmark.py` from `performance.json`; do not edit. Measured on

{machines}
Both sides have the same weights, data, batch per rank, ranks and threads. PyTorch runs the fastest of what
was tried: NCHW and channels_last, on several ranks DDP with three bucket sizes (`--compile` adds
torch.compile, of DDP with its own bucket size). Blocks of at least {seconds} s alternate in the order
A B B A. A ratio is the median over {pairs} neighbouring pairs, above 1 where distdl is faster, with the least
and the greatest beside it. "Same side" are ratios of neighbouring blocks of one side: differences smaller
than that mean nothing.
"""


def write(results: Result, docs: Path) -> str:
    """Write performance.md and its plots into a directory, and return the page."""
    docs.mkdir(parents=True, exist_ok=True)
    names = _draw(results, docs)
    page = text(results) + "".join(f"\n![{name.replace('_', ' ')}]({name}.png)\n" for name in names)
    (docs / "performance.md").write_text(page)
    return page


def _draw(results: Result, docs: Path) -> list[str]:
    known = {name: draw for name, draw in plots.PLOTS.items() if name in results}
    for name, draw in known.items():
        draw(results[name], docs / f"performance_{name}.png")
    return [f"performance_{name}" for name in known]


def text(results: Result) -> str:
    """Return the page without plots."""
    measured = results["machines"]
    last = measured.get("steps", list(measured.values())[-1])
    head = _INTRODUCTION.format(machines=_machines(measured), seconds=last["seconds"], pairs=last["pairs"])
    parts = [
        head,
        *(
            f"\n## {title}\n\n{_part(results[name], make)}"
            for name, (title, make) in _TABLES.items()
            if results.get(name)
        ),
    ]
    return "".join(parts)


def _part(result: Result, make: Callable[[Result], str]) -> str:
    return f"Not measured: {result['skipped']}.\n" if "skipped" in result else make(result)


def _machines(measured: Result) -> str:
    """Return a list of the machines, each with the titles of what was measured there."""
    there: dict[str, list[str]] = {}
    for name, machine in measured.items():
        versions = ", ".join(f"{library} {version}" for library, version in machine["versions"].items())
        count = machine["cores"]
        cores = f"{count} core{'s' if count > 1 else ''}"
        where = f"{machine['cpu']}, {cores} ({machine['vectors']}), {machine['system']}; {versions}"
        title = _TABLES[name][0]
        there.setdefault(where, []).append(title[0].lower() + title[1:])
    return "".join(f"- {where}: {', '.join(titles)}\n" for where, titles in there.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _ratio(found: Result) -> list[str]:
    spread = f"{found['same_low']:.2f}-{found['same_high']:.2f}"
    return [f"**{found['ratio']:.2f}** ({found['low']:.2f}-{found['high']:.2f})", spread]


def _steps(result: Result) -> str:
    rows = []
    for model, setups in result.items():
        for setup, found in setups.items():
            if "ratio" in found:
                times = [f"{found['ours']:.1f}", f"{found['theirs']:.1f} ({found['peer']})"]
                rows.append([model, setup, *times, *_ratio(found)])
            else:
                rows.append([model, setup, f"{found['ours']:.1f}", "", "", ""])
    return _table(["model", "", "distdl, ms", "PyTorch, ms", "ratio", "same side"], rows)


def _avx2(result: Result) -> str:
    note = "Both sides without AVX-512, though the CPU may have it: what CPUs with AVX2 alone may expect.\n\n"
    return note + _steps(result)


def _elsewhere(result: Result) -> str:
    note = "Ratios when this was last measured there, of the versions of that time.\n\n"
    rows = []
    for cpu, ratios in result.items():
        for setup in next(iter(ratios.values())):
            rows.append([cpu, setup, *(f"{ratios[model][setup]:.2f}" for model in ratios)])
    return note + _table(["CPU", "", *next(iter(result.values()))], rows)


def _scaling(result: Result) -> str:
    note = (
        "One thread a rank, the same batch for each. The speed of a rank, as a share of its speed in the smallest job, "
        "and in a job of as many that do not reduce gradients: what is missing there is what reducing costs.\n\n"
    )
    rows = []
    for model, jobs in result.items():
        for ranks, found in jobs.items():
            shares = [text for key in ("few", "apart") for text in (_ratio(found[key]) if key in found else ["", ""])]
            rows.append([model, ranks, f"{found['samples']:,.0f}", *shares])
    head = ["model", "ranks", "samples/s", "in the smallest job", "same side", "without reducing", "same side"]
    return note + _table(head, rows)


def _reproducible(result: Result) -> str:
    note = "2 ranks x 1 thread, 8 shards, against the fast mode with the same global batch; below 1: slower.\n\n"
    rows = [
        [model, f"{found['ours']:.1f}", f"{found['theirs']:.1f}", *_ratio(found)] for model, found in result.items()
    ]
    return note + _table(["model", "reproducible, ms", "fast, ms", "ratio", "same side"], rows)


def _checkpoints(result: Result) -> str:
    note = (
        f"Fits of the CNN on 2 ranks, with a checkpoint every {result['every']} steps against without; milliseconds of "
        "a step, below 1: slower.\n\n"
    )
    row = [f"{result['ours']:.1f}", f"{result['theirs']:.1f}", *_ratio(result)]
    return note + _table(["with, ms", "without, ms", "ratio", "same side"], [row])


def _allreduce(result: Result) -> str:
    rows = [
        [_bytes(int(size)), against, f"{found['ours']:.4g}", f"{found['theirs']:.4g}", *_ratio(found)]
        for size, others in result.items()
        for against, found in others.items()
    ]
    return _table(["bytes", "against", "distdl, ms", "other, ms", "ratio", "same side"], rows)


def _network(result: Result) -> str:
    rows = [
        [model, found.get("peer", ""), f"{found['ours']:.4g}", f"{found['theirs']:.4g}", *_ratio(found)]
        for model, found in result["steps"].items()
        if "theirs" in found
    ]
    note = (
        f"Two network namespaces as hosts, joined by a cable of {result['mbit']} Mbit/s "
        "each way. Training steps of "
        "one rank a host against DDP over gloo, then with compression hooks; allreduces of two ranks a host against "
        "MPI's own.\n\n"
    )
    steps = _table(["model", "PyTorch", "distdl, ms", "PyTorch, ms", "ratio", "same side"], rows)
    compressed = f"{hooks.table(result['hooks'])}\n" if "hooks" in result else ""
    return f"{note}{steps}\n{compressed}{_allreduce(result['allreduce'])}"


def _memory(result: Result) -> str:
    rows = [
        [model, ranks, side, f"{peak / 2**20:.0f}"]
        for model, by_ranks in result.items()
        for ranks, sides in by_ranks.items()
        for side, peak in sides.items()
    ]
    return _table(["model", "ranks", "", "peak of a rank, MiB"], rows)


def _cold(result: Result) -> str:
    rows = [
        [model, kind, f"{found['import']:.2f}", f"{found['step']:.2f}"]
        for model, kinds in result.items()
        for kind, found in kinds.items()
    ]
    note = "Cold: every kernel is compiled; warm: all are found on disk, as after `distdl warmup`.\n\n"
    return note + _table(["model", "", "import, s", "first step, s"], rows)


def _accuracy(result: Result) -> str:
    note = (
        f"CNN on Fashion-MNIST, 2 ranks, until {result['goal']:.0%} of the test set are right, from process start.\n\n"
    )
    rows = [
        [side, f"{run['seconds']:.1f}", str(run["steps"]), f"{run['accuracy']:.4f}"]
        for side, runs in result.items()
        if side != "goal"
        for run in runs
    ]
    return note + _table(["", "seconds", "steps", "reached"], rows)


def _losses(result: Result) -> str:
    rows = []
    for model, sides in result.items():
        apart, spread = plots.differences(sides)
        last = [f"{sides[side][0][-1]:.4f}" if side in sides else "" for side in ("ours", "torch")]
        rows.append([model, str(len(sides["ours"][0])), *last, f"{apart:.1e}", f"{spread:.1e}"])
    note = "Mean absolute difference of the loss curves: of the two sides from the same weights, and of seeds.\n\n"
    return note + _table(["model", "steps", "distdl's last", "PyTorch's last", "sides", "seeds"], rows)


def _limits(result: Result) -> str:
    peak = result["peak"]
    rows = [
        [model, f"{found['milliseconds']:.1f}", f"{found['direct']:.0%}", f"{found['transformed']:.0%}"]
        for model, found in result["models"].items()
    ]
    reduced = result["allreduce"]
    note = (
        f"A large matrix product by NumPy: {peak['gflops']:.0f} GFLOP/s on one core, a copy {peak['copy']:.1f} "
        "GB/s. A step's products and sums as a share of the former; direct: as a convolution is defined; transformed: "
        "what Winograd's algorithm leaves, without its transforms.\n\n"
    )
    end = (
        f"\nAn allreduce of {_bytes(reduced['bytes'])} on 2 ranks sums {reduced['rate']:.1f} GB a second: "
        f"{reduced['share']:.0%} of a copy's bandwidth.\n"
    )
    return note + _table(["model", "ms", "direct", "transformed"], rows) + end


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


_TABLES: dict[str, tuple[str, Callable[[Result], str]]] = {
    "steps": ("Training steps", _steps),
    "avx2": ("Training steps with AVX2 alone", _avx2),
    "elsewhere": ("Training steps on other CPUs", _elsewhere),
    "scaling": ("Scaling", _scaling),
    "reproducible": ("Reproducible mode", _reproducible),
    "checkpoints": ("Checkpoints", _checkpoints),
    "allreduce": ("Allreduce", _allreduce),
    "network": ("Two hosts", _network),
    "memory": ("Memory", _memory),
    "cold": ("Cold start", _cold),
    "accuracy": ("Time to accuracy", _accuracy),
    "losses": ("Loss curves", _losses),
    "limits": ("What is left", _limits),
}

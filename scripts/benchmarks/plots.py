"""The plots of the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Result = dict[str, Any]


def differences(sides: Result) -> tuple[float, float]:
    """Return the mean absolute difference of the curves of both sides, and of seeds of one side."""
    curves = {side: np.array(runs) for side, runs in sides.items()}
    apart = float(np.abs(curves["ours"] - curves["torch"]).mean()) if "torch" in curves else float("nan")
    ours = curves["ours"]
    spread = [np.abs(ours[i] - ours[j]).mean() for i in range(len(ours)) for j in range(i)]
    return apart, float(np.mean(spread)) if spread else float("nan")


def _new(count: int = 1) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(max(7, 3.4 * count), 3.4), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _ratios(found: dict[str, Result], label: str, path: Path) -> None:
    """Draw the ratios of each model as bars, with the least and the greatest: {model: {setup: comparison}}."""
    figure, (axis,) = _new()
    setups = list(dict.fromkeys(setup for of_model in found.values() for setup in of_model))
    width = 0.8 / max(1, len(setups))
    for i, setup in enumerate(setups):
        entries = [of_model.get(setup, {}) for of_model in found.values()]
        ratios = np.array([entry.get("ratio", 0.0) for entry in entries])
        ends = np.array([[entry.get(end, 0.0) for entry in entries] for end in ("low", "high")])
        places = np.arange(len(found)) + width * (i - (len(setups) - 1) / 2)
        axis.bar(places, ratios, 0.93 * width, label=setup, yerr=np.abs(ends - ratios), capsize=2)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_xticks(range(len(found)), list(found))
    axis.set_ylabel(label)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    _save(figure, path)


def steps(result: Result, path: Path) -> None:
    _ratios(result, "PyTorch's time / distdl's", path)


def scaling(result: Result, path: Path) -> None:
    against = {"few": "of that in the smallest job", "apart": "of that without reducing"}
    found = {
        model: {
            f"{ranks} ranks, {text}": shares[key]
            for ranks, shares in jobs.items()
            for key, text in against.items()
            if key in shares
        }
        for model, jobs in result.items()
    }
    _ratios(found, "share of a rank's speed", path)


def allreduce(result: Result, path: Path) -> None:
    figure, (axis,) = _new()
    sizes = [int(size) for size in result]
    for against in next(iter(result.values())):
        axis.loglog(sizes, [others[against]["theirs"] for others in result.values()], marker="o", label=against)
    axis.loglog(sizes, [next(iter(others.values()))["ours"] for others in result.values()], marker="o", label="distdl")
    axis.set(xlabel="bytes", ylabel="ms, 2 ranks")
    axis.legend()
    _save(figure, path)


def memory(result: Result, path: Path) -> None:
    figure, axes = _new(len(result))
    for axis, (model, by_ranks) in zip(axes, result.items(), strict=True):
        bars = {f"{side}, {r}": peak / 2**20 for r, sides in by_ranks.items() for side, peak in sides.items()}
        axis.barh(list(bars), list(bars.values()))
        axis.set(title=model, xlabel="MiB a rank")
    _save(figure, path)


def losses(result: Result, path: Path) -> None:
    figure, axes = _new(len(result))
    for axis, (model, sides) in zip(axes, result.items(), strict=True):
        for runs, colour, label in zip(sides.values(), ("C0", "C1"), sides, strict=False):
            for i, run in enumerate(runs):
                axis.plot(run, colour, linewidth=0.8, alpha=0.7, label=label if i == 0 else None)
        axis.set(title=model, xlabel="step", ylabel="loss", yscale="log")
        axis.legend()
    _save(figure, path)


PLOTS: dict[str, Callable[[Result, Path], None]] = {
    function.__name__: function for function in (steps, scaling, allreduce, memory, losses)
}

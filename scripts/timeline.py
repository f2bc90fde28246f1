"""Draws a timeline of several ranks from a trace (`Trainer.fit(trace=...)`, `distdl.parallel.trace`).

python scripts/timeline.py trace.json timeline.png [--step N]  draw one step of a trace
python scripts/timeline.py --make docs/timeline.png            train the benchmarks' CNN on two ranks, and draw that
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

COLOURS = {
    "forward": "#4878a8",
    "backward": "#e49444",
    "step": "#6a9f58",
    "reduce": "#a87c9f",
    "wait": "#d1605e",
    "data": "#967662",
}
"""Of each phase. Spans that hold others (modules, the pass) are left out."""

_STEPS = 6


def train(path: str) -> None:
    """Train a few steps of the CNN with Adam, and write a trace; rank 0 has fewer rows, and so waits for the others."""
    from benchmarks import models

    import distdl
    from distdl import nn, optim, parallel

    comm = distdl.world()
    distdl.manual_seed(1)
    model = models.make("cnn", nn)
    rows = 64 if comm.rank else 48
    batches = [(x[:rows], y[:rows]) for x, y in models.batches("cnn", _STEPS, comm.rank)]
    optimizer = parallel.DistributedOptimizer(optim.Adam(model, lr=1e-3), comm)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
        optimizer.step()

    # Without what only the first steps do.
    for _ in range(3):
        step(*batches[0])
    comm.barrier()
    with parallel.trace(path, comm) as timeline:
        for x, y in batches:
            step(x, y)
    comm.print(timeline.summary())


def read(path: Path) -> tuple[dict[tuple[int, int], str], list[dict[str, Any]]]:
    """Return the names of the threads, by rank and number, and the spans of a trace."""
    events = json.loads(path.read_text())["traceEvents"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return threads, [e for e in events if e["ph"] == "X" and e["cat"] in COLOURS]


def draw(path: Path, target: Path, number: int | None) -> None:
    """Draw one step, by default the one in the middle: a lane for each thread of each rank that does something."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    threads, spans = read(path)
    ends = sorted(e["ts"] + e["dur"] for e in spans if e["cat"] == "step" and e["pid"] == 0)
    if len(ends) < 2:
        raise SystemExit(f"{path} holds {len(ends)} steps, too few to draw one")
    number = len(ends) // 2 if number is None else number
    if not 1 <= number < len(ends):
        raise SystemExit(f"--step {number} must be within [1, {len(ends) - 1}]")
    begin, end = ends[number - 1], ends[number]
    shown = [e for e in spans if e["ts"] < end and e["ts"] + e["dur"] > begin]
    lanes = sorted({(e["pid"], e["tid"]) for e in shown})
    figure = Figure(figsize=(10, 1.3 + 0.6 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    for place, lane in enumerate(lanes):
        for event in shown:
            if (event["pid"], event["tid"]) == lane:
                start, width = (event["ts"] - begin) / 1000, event["dur"] / 1000
                colour = COLOURS[event["cat"]]
                axes.barh(place, width, left=start, height=0.72, color=colour, edgecolor="white", linewidth=0.4)
                if width > (end - begin) / 1000 * 0.085:
                    text = event["name"] if event["cat"] != "reduce" else "reduce"
                    size = len(text) * (end - begin) / 1000 * 0.0085
                    if size < width:
                        axes.text(
                            start + width / 2, place, text, ha="center", va="center", fontsize=7.5, color="white",
                            clip_on=True,
                        )  # fmt: skip
    names = {"MainThread": "main", "distdl-reduce": "reductions"}
    axes.set_yticks(range(len(lanes)), [f"rank {r}\n{names.get(threads[r, t], threads[r, t])}" for r, t in lanes])
    axes.invert_yaxis()
    axes.set(xlim=(0, (end - begin) / 1000), xlabel="milliseconds", title=f"Step {number + 1} on the common clock")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    phases = [phase for phase in COLOURS if any(e["cat"] == phase for e in shown)]
    handles = [Patch(color=COLOURS[phase], label=phase) for phase in phases]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(target, dpi=130)


def main() -> None:
    """Read the arguments, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="?")
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--step", type=int, help="which step, from 1 on")
    parser.add_argument("--make", type=Path, metavar="PNG", help="train, and draw")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train(options.worker)
    elif options.make:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "trace.json"
            command = [sys.executable, "-m", "distdl", "launch", "-n", "2", "--", __file__, "--worker", str(path)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run(command, check=True, env=environment)
            draw(path, options.make, options.step)
    elif options.trace and options.target:
        draw(options.trace, options.target, options.step)
    else:
        parser.error("give a trace and a target, or --make")


if __name__ == "__main__":
    main()

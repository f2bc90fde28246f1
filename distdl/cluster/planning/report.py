"""The answer of `distdl plan` as a table, as JSON, and as a picture. Whatever is predicted says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.errors import ArgumentError, MissingDataError
from .network import Link
from .search import Question, Row
from .workload import Workload

_COLUMNS = ("ranks", "nodes", "batch", "bucket", "reduced", "flat tree", "step", "efficient", "samples/s", "compressed")


def table(workload: Workload, question: Question, rows: Sequence[Row]) -> str:
    """Return the answer in words: what was measured, what is predicted, and how many ranks are worth it."""
    parts = _measured(workload), _notes(workload, question), _tables(question, rows), _advice(question, rows)
    return "\n".join(line for part in parts for line in part)


def _measured(workload: Workload) -> list[str]:
    lines = []
    for p in workload.profiles:
        batch = f"{p.batch:g} rows a rank" if p.batch else "unknown batch"
        lines.append(
            f"measured   {p.script}, {_count(p.ranks, 'rank')} on {_count(p.nodes, 'node')}, {batch}: "
            f"{p.measured * 1e3:.1f} ms a step, {p.compute * 1e3:.1f} ms of it computing "
            f"(spread {p.spread:.1%}), {p.gradient_bytes / 1e6:.2f} MB of gradients"
        )
    return lines


def _notes(workload: Workload, question: Question) -> list[str]:
    notes = []
    if len(workload.batches) == 1 and question.batches != workload.batches:
        notes.append(f"one batch was profiled ({workload.batches[0]:g} rows): others are taken to cost in proportion")
    if not workload.batches:
        notes.append("the loss does not say how many rows it is a mean of: the batch stays as it was profiled")
    crowds = {profile.sharing for profile in workload.profiles}
    if question.per_node not in crowds:
        notes.append(
            f"profiled with {' and '.join(map(str, sorted(crowds)))} on a machine, planned for "
            f"{_count(question.per_node, 'rank')}: what these take from each other's caches and memory is not known"
        )
    if any(ranks > question.per_node > 1 for ranks in question.ranks):
        notes.append("flat tree: the step if ranks of a node did not reduce first, which they do wherever they can")
    return [f"note       {note}" for note in notes]


def _tables(question: Question, rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for name, link in question.networks.items():
        mine = [row for row in rows if row.network == name]
        lines += ["", f"predicted  {name}: {_describe(link)}; {_count(question.per_node, 'rank')} on each node"]
        cells = [_COLUMNS, *(_cells(row) for row in mine)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
        for line in cells:
            lines.append("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number > 1)}"


def _describe(link: Link) -> str:
    burst = f", {link.burst / 1024:.0f} KiB at once after a pause" if link.burst else ""
    return f"{link.latency * 1e6:.0f} us, {1e-6 / link.seconds_per_byte:,.0f} MB/s of data{burst}"


def _cells(row: Row) -> tuple[str, ...]:
    choice, alone = row.choice, row.ranks == 1
    has_trees = 1 < row.nodes < row.ranks
    return (
        f"{row.ranks:,}",
        f"{row.nodes:,}",
        f"{choice.batch:g}" if choice.batch else "-",
        "-" if alone else size(choice.bucket_bytes),
        "-" if alone else "during" if choice.overlap else "after",
        f"{row.flat / row.prediction.step:.2f}x" if has_trees else "-",
        f"{row.prediction.step * 1e3:.1f} ms",
        f"{row.efficiency:.0%}",
        f"{row.samples:,.0f}" if row.samples else "-",
        f"{row.compressed_efficiency:.0%} {row.compressed.compression.name}" if row.compressed != choice else "",
    )


def size(nbytes: int) -> str:
    """Return bytes in words: 256 KiB."""
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


def _advice(question: Question, rows: Sequence[Row]) -> list[str]:
    lines = [""]
    for name in question.networks:
        good = [row for row in rows if row.network == name and row.efficiency >= question.target]
        if good:
            last = max(good, key=lambda row: row.ranks)
            words = f"up to {_count(last.ranks, 'rank')} on {_count(last.nodes, 'node')}"
        else:
            words = "for no number of ranks"
        lines.append(f"predicted  {name}: at least {question.target:.0%} efficient {words}")
    return lines


def to_json(workload: Workload, question: Question, rows: Sequence[Row]) -> str:
    """Return the answer as JSON: {"measured": [...], "networks": {...}, "predicted": [...]}; times are seconds."""
    measured = [
        {
            "script": p.script,
            "ranks": p.ranks,
            "nodes": p.nodes,
            "batch": p.batch,
            "step": p.measured,
            "compute": p.compute,
            "spread": p.spread,
            "gradient_bytes": p.gradient_bytes,
        }
        for p in workload.profiles
    ]
    networks = {name: asdict(link) for name, link in question.networks.items()}
    predicted = [_entry(row) for row in rows]
    return json.dumps({"measured": measured, "networks": networks, "predicted": predicted}, indent=2)


def _entry(row: Row) -> dict[str, Any]:
    return {
        "network": row.network,
        "ranks": row.ranks,
        "nodes": row.nodes,
        **asdict(row.choice),
        "compression": row.choice.compression.name,
        **row.prediction._asdict(),
        "flat_step": row.flat,
        "efficiency": row.efficiency,
        "samples_per_second": row.samples,
        "compressed": {
            "compression": row.compressed.compression.name,
            "step": row.compressed_prediction.step,
            "efficiency": row.compressed_efficiency,
        },
    }


def draw(path: Path, question: Question, rows: Sequence[Row]) -> None:
    """Draw efficiency and speed-up over ranks, a line for each network; dashed with the best compression.

    Args:
        path: of the picture; its name says the format.

    Raises:
        ArgumentError: matplotlib is not installed, or does not know the format.
        MissingDataError: the directory does not exist.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ArgumentError("`picture` needs matplotlib: pip install 'distdl[examples]'") from error
    if not path.parent.is_dir():
        raise MissingDataError(f"{path}: cannot be written, there is no directory {path.parent}")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, name in enumerate(question.networks):
        mine = [row for row in rows if row.network == name]
        ranks = [row.ranks for row in mine]
        colour = f"C{index}"
        left.plot(ranks, [row.efficiency for row in mine], colour, marker="o", markersize=3, label=name)
        right.plot(ranks, [row.ranks * row.efficiency for row in mine], colour, marker="o", markersize=3)
        if any(row.compressed != row.choice for row in mine):
            left.plot(ranks, [row.compressed_efficiency for row in mine], colour, linestyle="--")
            right.plot(ranks, [row.ranks * row.compressed_efficiency for row in mine], colour, linestyle="--")
    left.axhline(question.target, color="grey", linewidth=0.8)
    left.set(xlabel="ranks", ylabel="efficiency, predicted", ylim=(0, 1.05))
    asked = sorted(question.ranks)
    right.plot(asked, asked, "grey", linewidth=0.8)
    right.set(xlabel="ranks", ylabel="speed-up over one rank, predicted")
    left.set_xscale("log", base=2)
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    left.legend(fontsize=8)
    figure.suptitle("Predicted; dashed: with the best compression", fontsize=10)
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise ArgumentError(f"`picture` (={str(path)!r}) has a format that cannot be drawn: {error}") from error

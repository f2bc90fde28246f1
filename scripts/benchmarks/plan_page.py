"""The page about `distdl plan`: how to ask, what the model knows, and how far it was from steps that were run."""

import statistics
from pathlib import Path
from typing import Any

from distdl.cluster.planning import report
from distdl.cluster.planning.compression import ASSUMED, NONE
from distdl.cluster.planning.network import NAMED, SHARED_MEMORY
from distdl.cluster.planning.search import Question, search, usual_batches, usual_ranks
from distdl.cluster.planning.workload import Workload
from distdl.parallel.profile import Profile

EXAMPLE = "cnn"
"""The model whose plan the page shows."""

EXAMPLE_CORES = 4
"""Of each node there, with a rank each."""

Result = dict[str, Any]

_HEAD = """# How many nodes should I take?

Made by `scripts/plan_error.py` from `plan_error.json`; do not edit.

    distdl plan -n 2 --save profile.json -- train.py --epochs 90         # runs some hundred steps, and predicts
    distdl plan --profile profile.json --network ethernet-10g infiniband-hdr --ranks-per-node 4 --cores 32
    distdl plan --profile profile.json --network profile --rate 300mbit --picture plan.png
    DISTDL_PROFILE=profile.json mpirun -n 8 python train.py              # records on the way, and trains on

`distdl plan` predicts the time of a step, and what share of the ranks' time goes into computing, from 1 to 4,096
ranks. It starts from a profile: what a rank computes in a step, when in backward() each gradient is final, how long
reductions of growing arrays take between nodes and on a node, how much ranks and steps differ. For each number of
ranks it names the smallest batch that is efficient enough (`--efficiency`, 80%), the size of buckets, whether to
reduce during backward() (`DISTDL_BUCKET_BYTES` and `DISTDL_OVERLAP` tell a job so), what
it would cost if ranks of a node did not reduce first (distdl does so by itself), and the compression that helps most.
Whatever is predicted says so, in the table, the picture and the JSON (`--json`).

Several profiles of one model may be given: with other batches, so that forward and backward are a line through them
and not in proportion; or of one rank and of full nodes, so that it is known what ranks of a node take from each
other. Profile as many ranks on a node as you will run; two nodes are enough to measure the link between them.

## The model

- A step is the slowest rank's computation, its reductions as far as nothing hides them, and the update.
- A reduction is messages x latency + bytes / bandwidth + bytes added x time to add one, counted from the algorithms
  that run (`distdl/comm/tree.py`; a test compares the counts with the code). Ranks of a node share its link; in its
  memory a barrier, of which there are two, stands for a message. One of more ranks is taken to cost as much.
- During backward() a bucket starts when its gradients are final and the one before it is done. Where every core has a
  rank, backward() is longer by the time that reductions take of it.
- A link that lets bytes pass at once after a pause (a token bucket: shaped links, some clouds) is told by its burst.
- The slowest of n ranks: the greatest of n normal draws, by the spread that was profiled.
- More threads than cores on a machine: each computes with its share of a core.

## What it does not know

Congestion between switches, other jobs' traffic, noise that comes to many ranks at once (which costs large jobs more
than independent noise), file systems, and batches whose arrays fall out of a cache between two that were profiled.
Named networks are nominal: line rates less what frames take, latencies as usual. Beyond a few times the profiled
ranks nothing of it has been seen: take it as a bound from below. What a hook takes of a core is assumed until it is
given (`--compression bf16=0.5:3e-10`: bytes on the wire, and seconds, for a byte of gradients).

## Predicted and measured

"""


def error(row: Result) -> float:
    """Return by which share a prediction is off what was measured; above 0: too long."""
    return float(row["predicted"]) / statistics.median(row["measured"]) - 1


def mean_error(rows: list[Result]) -> float:
    """Return the mean of the errors without their signs."""
    return statistics.fmean(abs(error(row)) for row in rows)


def line(row: Result) -> str:
    """Return a line of the table."""
    where = f"{row['hosts']} x {row['slots']}"
    rate = "-" if row["mbit"] is None else f"{row['mbit']} Mbit/s"
    how = "during backward(), 1 MiB" if row["overlap"] else "after backward()"
    measured = row["measured"]
    spread = f"{statistics.median(measured):.1f} ({min(measured):.1f}-{max(measured):.1f})"
    return f"| {row['model']} | {where} | {rate} | {how} | {row['predicted']:.1f} | {spread} | {error(row):+.0%} |"


def table(found: Result) -> str:
    """Return what was predicted and measured, and the mean error."""
    rows = found["rows"]
    head = ["| model | hosts x ranks | cables | reduced | predicted, ms | measured, ms | error |", "| --- " * 7 + "|"]
    text = "\n".join([*head, *map(line, rows)])
    cores = found["machine"]["cores"]
    kinds = {
        f"{len(rows)} configurations": rows,
        f"those with a core for each rank ({cores} here)": [r for r in rows if r["hosts"] * r["slots"] <= cores],
        "those with more ranks than cores": [r for r in rows if r["hosts"] * r["slots"] > cores],
    }
    errors = [f"{kind} **{mean_error(some):.1%}**" for kind, some in kinds.items() if some]
    return f"{text}\n\nMean error, without signs: {'; '.join(errors)}."


def write(found: Result, docs: Path) -> str:
    """Write page and picture, and return the table."""
    about = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    between = found["links"]["between"]
    cables = (
        f"{between['latency'] * 1e6:.0f} us, {1e-6 / between['seconds_per_byte']:.0f} MB/s of data and "
        f"{between['burst'] / 1024:.0f} KiB at once after a pause"
    )
    blocks = f"{about['repeats']} blocks of at least {about['seconds']:g} s of each, in turn"
    told = f"""Hosts are network namespaces of one machine, whose cables have a rate. Profiled was each model on 2 hosts
with 1 rank each at 1,000 Mbit/s, before the other runs and after them; the cables are fitted to the first of these
profiles ({cables}), and
shared memory to one of the first model on 1 host x 2 ranks. Nothing is fitted to the configurations below, which were
then run: {blocks}; medians, with the least and the greatest. Other rates are those of
the cables, less what frames take.

All hosts share {about["cores"]} cores, as real ones would not: where ranks are more, each computes with its share
of a core, and those that wait look for messages in the others' time. Measured on {about["cpu"]}, {about["system"]};
{versions}.

"""
    text = table(found)
    picture = "\n\n![Predicted and measured steps](plan_error.png)\n"
    (docs / "plan.md").write_text(_HEAD + told + text + picture + _example(found["example"], docs / "plan.png"))
    draw(found["rows"], docs / "plan_error.png")
    return text


def _example(profile: Result, path: Path) -> str:
    """Draw what is predicted from a profile, and return it in words."""
    workload = Workload([Profile.parse(profile)], cores=EXAMPLE_CORES)
    names = ("ethernet-1g", "ethernet-10g", "infiniband-hdr")
    question = Question(
        usual_ranks(EXAMPLE_CORES),
        EXAMPLE_CORES,
        SHARED_MEMORY,
        {name: NAMED[name] for name in names},
        usual_batches(workload),
        compressions=[hook for hook in ASSUMED.values() if hook != NONE],
    )
    rows = search(workload, question)
    report.draw(path, question, rows)
    lines = report.table(workload, question, rows).splitlines()
    shown = "\n".join(f"    {line}".rstrip() for line in lines)
    words = f"--network {' '.join(names)} --ranks-per-node {EXAMPLE_CORES} --cores {EXAMPLE_CORES}"
    return f"\n## An example\n\n    $ distdl plan --profile cnn.json {words}\n{shown}\n\n![Predicted](plan.png)\n"


def draw(rows: list[Result], path: Path) -> None:
    """Draw what was predicted over what was measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
        mine = [row for row in rows if row["model"] == model]
        middle = [statistics.median(row["measured"]) for row in mine]
        ends = [
            [at - min(row["measured"]) for at, row in zip(middle, mine, strict=True)],
            [max(row["measured"]) - at for at, row in zip(middle, mine, strict=True)],
        ]
        predicted = [row["predicted"] for row in mine]
        axes.errorbar(middle, predicted, xerr=ends, fmt="o", markersize=4, color=f"C{index}", label=model)
    everything = [value for row in rows for value in (row["predicted"], *row["measured"])]
    low, high = 0.8 * min(everything), 1.25 * max(everything)
    axes.plot([low, high], [low, high], color="black", linewidth=0.8)
    axes.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="grey", alpha=0.2)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="ms of a step, measured", ylabel="ms of a step, predicted", title="Grey: within 10%")
    axes.legend()
    figure.savefig(path, dpi=110)

"""Measures what grows with the number of ranks, and writes docs/scale.md: python scripts/scale.py

Ranks are far more than cores, so nothing here is a time. Numbers for 4,096 ranks are predicted: by the law in the
table, fitted to what was measured. Takes some minutes; strace counts calls to file systems where it is installed.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from distdl.cluster.launch import find_mpi, find_mpiexec, launch_command  # noqa: E402
from tests.jobs.many_ranks import MARK  # noqa: E402

WORKER = str(ROOT / "tests" / "jobs" / "many_ranks.py")
WIDTH = 8
STEPS = 2
FAR = 4096

LAWS: dict[str, Callable[[int], float]] = {
    "constant": lambda n: 0.0,
    "1 - 1 / nodes": lambda n: 1 - WIDTH / n,
    "log2 n": math.log2,
    "n": float,
}

ROWS: list[tuple[str, str, Callable[[list[dict[str, Any]]], float]]] = [
    ("messages of an allreduce of 1 MB, most of any rank", "log2 n", lambda r: most(r, "messages_an_allreduce")),
    ("bytes that a rank sends for it", "1 - 1 / nodes", lambda r: most(r, "bytes_an_allreduce")),
    ("messages of a reproducible step, most of any rank", "log2 n", lambda r: most(r, "messages_a_step")),
    ("messages at the start (tree; MPI's own collectives apart)", "log2 n", lambda r: most(r, "messages_at_start")),
    ("open files of rank 0 beyond another rank's", "n", lambda r: r[0]["descriptors"] - least(r[1:], "descriptors")),
    ("lines that rank 0 sends over the control channel at the start", "n", lambda r: r[0]["control_messages"]),
    ("bytes of such a line", "constant", lambda r: r[0]["control_bytes"] / r[0]["control_messages"]),
    ("kB of memory that `world()` takes, MPI's included, median", "n", lambda r: median(r, "bytes_of_world") / 1e3),
]


def most(ranks: list[dict[str, Any]], name: str) -> float:
    return max(rank[name] for rank in ranks)


def least(ranks: list[dict[str, Any]], name: str) -> float:
    return min(rank[name] for rank in ranks)


def median(ranks: list[dict[str, Any]], name: str) -> float:
    return sorted(rank[name] for rank in ranks)[len(ranks) // 2]


def train(ranks: int) -> dict[str, Any]:
    """Run the worker on so many ranks, and return what rank 0 says."""
    mpi = find_mpi()
    words = [sys.executable, WORKER, str(STEPS), str(WIDTH)]
    # So slow a start of so many is no stall.
    told = {"PYTHONPATH": str(ROOT), "DISTDL_NUM_THREADS": "1", "DISTDL_STALL_WARNING": "300"}
    command = launch_command(ranks, find_mpiexec(mpi), mpi.family, words)
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.removeprefix(MARK))


def predicted(law: str, counts: dict[int, float]) -> float:
    """Return what a law says for FAR ranks, fitted by least squares."""
    xs, ys = [LAWS[law](n) for n in counts], list(counts.values())
    if law == "constant":
        return ys[-1]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    return mean_y + slope * (LAWS[law](FAR) - mean_x)


def file_calls() -> dict[str, int]:
    """Count the calls to file systems of a process that trains alone, kernels being compiled already."""
    if not shutil.which("strace"):
        return {}
    words = ["strace", "-f", "-qq", "-e", "trace=%file", sys.executable, WORKER, str(STEPS), str(WIDTH)]
    told = {"PYTHONPATH": str(ROOT), "DISTDL_NUM_THREADS": "1"}
    done = subprocess.run(words, env={**os.environ, **told}, capture_output=True, text=True, check=True)
    calls = re.findall(r'\b(\w+)\((?:AT_FDCWD, )?"([^"]*)"', done.stderr)
    kinds = {
        "of Python's packages": "site-packages|/lib/python",
        "of compiled kernels": "kernels-",
        "of /proc and /sys": "^/(proc|sys)",
    }
    found = {name: sum(re.search(kind, path) is not None for _, path in calls) for name, kind in kinds.items()}
    return {**found, "others": len(calls) - sum(found.values())}


def page(measured: dict[int, dict[str, Any]], calls: dict[str, int]) -> str:
    """Return docs/scale.md."""
    counts = list(measured)
    head = "".join(f" {n} |" for n in counts)
    lines = [f"| | grows with |{head} {FAR:,}, predicted |", "| --- | --- |" + " --- |" * (len(counts) + 1)]
    for name, law, value in ROWS:
        found = {n: value(measured[n]["ranks"]) for n in counts}
        cells = "".join(f" {value:,.0f} |" for value in found.values())
        lines.append(f"| {name} | {law} |{cells} {predicted(law, found):,.0f} |")
    table = "\n".join(lines)
    files = "\n".join(f"| {name} | {count:,} | {count * FAR:,} |" for name, count in calls.items())
    return TEXT.format(
        far=FAR, width=WIDTH, table=table, files=files, digests=", ".join(measured[counts[0]]["digests"])
    )


TEXT = """# Thousands of ranks

Made by `scripts/scale.py`; do not edit. It runs {width} to 64 ranks on nodes of {width} that are pretended (all are on
one machine, far more than its cores), and counts. What stands under {far:,} is predicted: by the law that the code
follows, fitted to the columns before it. The digests of all runs are {digests}: as on one rank.

{table}

What is behind it:

- **Reductions.** Ranks of a node combine in shared memory, between two barriers there: each looks at a cache line of
  every other one. Nodes combine along a tree. Bytes do not grow: large arrays are halved on the way up.
- **The start.** Versions, models, options and plans are compared by hashes, in allreduces of 16 bytes; only where they
  differ does everybody gather what the others have, to name the difference. Rank 0 alone gathers where each rank runs
  (about 60 bytes each). Each communicator knows its members' numbers (about 100 bytes a rank, three communicators).
- **The control channel** is a star: rank 0 holds a TCP connection of each rank, and asks the system for as many
  descriptors. Where the hard limit (`ulimit -Hn`) is lower the job says so, and goes on without the channel. Ranks that
  leave are told together, as ranges, at most four times a second; a rank that waits for more than a second says so in
  about 200 bytes, whatever the number of ranks.
- **Steps.** Hashes, flags and weights travel with the gradients. Hashes are compared exactly up to 4,096 ranks
  (`parallel/lockstep.py`).
- **Lines and files.** Rank 0 speaks for all; an error is one traceback. Checkpoints are written and read by rank 0,
  and sent along MPI's broadcast. `DISTDL_TIMELINE` writes a file for each rank, `parallel.trace` one for all, through
  rank 0: take a few ranks' part of either.
- **The order of an epoch** is computed on every rank: 8 bytes a sample, and twice that while it is.

## Calls to file systems

Of one process with warm caches, from its start to the end of two steps: each rank makes them, so that a shared file
system sees the product.

| | a rank | {far:,} ranks |
| --- | --- | --- |
{files}

Most are Python's search for modules. Keep the environment on each node (a container image, or a copy unpacked into
`/tmp` by the job's first lines), and kernels too: `DISTDL_CACHE_DIR=/tmp/distdl`; one rank of each node compiles, or
`distdl warmup` does so for an image. Data in shards have `cache_dir=`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 32, 64], help="of the jobs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where scale.md is written")
    options = parser.parse_args()
    train(1)
    measured = {}
    for ranks in options.ranks:
        print(f"{ranks} ranks", flush=True)
        measured[ranks] = train(ranks)
    (options.docs / "scale.md").write_text(page(measured, file_calls()))


if __name__ == "__main__":
    main()

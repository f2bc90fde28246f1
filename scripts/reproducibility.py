"""Trains the reference models reproducibly on many numbers of ranks, and writes docs/reproducibility.md.

python scripts/reproducibility.py                                    this interpreter and its MPI library
python scripts/reproducibility.py --python BIN/python ... [--quick]  one interpreter for each MPI library

Ranks above the number of cores take turns on them: that says nothing about speed.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

MODELS = ("mlp", "cnn", "resnet20")
RANKS = (1, 2, 3, 4, 5, 8)
ROWS = {"mlp": 64, "cnn": 32, "resnet20": 16}
"""Of a global batch: small, since up to 8 ranks share two cores."""


@dataclass(frozen=True)
class Case:
    """How a model is trained, apart from what must not matter.

    Attributes:
        model: its name.
        ranks, threads: of the job.
        bucket_bytes: size of gradient buckets.
    """

    model: str
    ranks: int
    threads: int = 1
    bucket_bytes: int = 25_000_000


def cases(models: tuple[str, ...], ranks: tuple[int, ...]) -> list[Case]:
    """List what one MPI library runs: each number of ranks, and small buckets and two threads on some."""
    result = []
    for model in models:
        result += [Case(model, n) for n in ranks]
        result += [Case(model, n, bucket_bytes=100_000) for n in (2, 3) if n in ranks]
        result += [Case(model, n, threads=2) for n in (1, 2) if n in ranks]
    return result


def train(name: str, steps: int, bucket_bytes: int) -> dict[str, Any]:
    """Train a model for so many steps on this job's ranks; return the digest and the MPI library."""
    from benchmarks import models

    import distdl
    from distdl import data, nn, optim, parallel
    from distdl.data import transforms

    comm = distdl.world()
    distdl.manual_seed(11)
    layers = list(models.make(name, nn))
    model = nn.Sequential(*layers[:-1], nn.Dropout(0.2), layers[-1])
    batches = models.batches(name, 8)
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    augment = transforms.Compose(transforms.RandomCrop(padding=2), transforms.RandomHorizontalFlip())
    sampler = data.GlobalBatchSampler(len(x), ROWS[name], comm.rank, comm.size, seed=5, shards=8)
    loader = data.DataLoader(data.ArrayDataset(x, y), batch_sampler=sampler, transform=augment)
    optimizer = parallel.DistributedOptimizer(
        optim.Adam(model, lr=1e-3), comm, model=model, reproducible=True, bucket_bytes=bucket_bytes
    )
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    for images, labels in itertools.islice(epochs, steps):
        optimizer.zero_grad()
        for rows, targets in optimizer.each_shard(images, labels):
            loss = nn.functional.cross_entropy(model(distdl.tensor(rows)), targets)
            loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    digests = set(parallel.replica_digests(model, comm))
    return {"digest": ", ".join(sorted(digests)), "mpi": comm.describe().split(", ")[-1]}


def run(python: str, case: Case, steps: int) -> dict[str, Any]:
    """Run one case as a job of its own."""
    from distdl.cluster.launch import launch_command, mpiexec_family

    order = json.dumps({**asdict(case), "steps": steps})
    mpiexec = str(Path(python).parent / "mpiexec")
    command = launch_command(case.ranks, mpiexec, mpiexec_family(mpiexec), [python, __file__, "--worker", order])
    threads = str(case.threads)
    environment = {
        **os.environ,
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        "DISTDL_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    job = subprocess.run(command, env=environment, capture_output=True, text=True)
    if job.returncode:
        raise RuntimeError(f"{case} ended with code {job.returncode}:\n{job.stderr[-3000:]}")
    return {**asdict(case), **json.loads(job.stdout.strip().splitlines()[-1])}


def page(found: dict[str, Any]) -> str:
    """Return the page: one row for each model and way to run it, one column for each MPI library."""
    libraries = list(dict.fromkeys(result["mpi"] for result in found["results"]))
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for result in found["results"]:
        key = tuple(result[name] for name in ("model", "ranks", "threads", "bucket_bytes"))
        rows.setdefault(key, {})[result["mpi"]] = result["digest"]
    lines = [
        f"| {model} | {ranks} | {threads} | {size / 1e6:g} MB | {' | '.join(by.get(name, '') for name in libraries)} |"
        for (model, ranks, threads, size), by in rows.items()
    ]
    head = f"| model | ranks | threads | buckets | {' | '.join(libraries)} |"
    rule = "|" + " --- |" * (4 + len(libraries))
    table = "\n".join([head, rule, *lines])
    verdicts = []
    for model in dict.fromkeys(result["model"] for result in found["results"]):
        digests = {result["digest"] for result in found["results"] if result["model"] == model}
        verdicts.append(f"- {model}: {'one digest' if len(digests) == 1 else f'{len(digests)} DIFFERENT DIGESTS'}")
    machine = ", ".join(f"{name} {value}" for name, value in found["conditions"].items())
    return _PAGE.format(steps=found["steps"], machine=machine, table=table, verdicts="\n".join(verdicts))


_PAGE = """# The same bits on any number of ranks

Made by `scripts/reproducibility.py` from `reproducibility.json`; do not edit. Conditions: {machine}.

Each row is a job of its own: {steps} steps with Adam, dropout, random crops and flips, and clipping by the norm; the
ResNet with batch norm. The global batch is cut into 8 shards. A digest is BLAKE2b over all parameters and buffers,
and equal on all ranks of the job. What the mode costs says [Performance](performance.md), "Reproducible mode".

{verdicts}

{table}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters, one for each MPI library")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ranks", nargs="+", type=int, default=list(RANKS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it works; the docs stay as is")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="directory of what is written")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        order = json.loads(options.worker)
        result = train(order["model"], order["steps"], order["bucket_bytes"])
        import distdl

        distdl.world().print(json.dumps(result))
        return 0
    from distdl.kernels.conditions import conditions

    steps = 10 if options.quick else options.steps
    results = []
    for case in cases(tuple(options.models), tuple(options.ranks)):
        for python in options.python:
            results.append(run(python, case, steps))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    found = {"steps": steps, "conditions": conditions(), "results": results}
    text = page(found)
    if not options.quick:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "reproducibility.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.docs / "reproducibility.md").write_text(text)
    print(text)
    models = {result["model"] for result in results}
    return int(len({(result["model"], result["digest"]) for result in results}) > len(models))


if __name__ == "__main__":
    sys.exit(main())

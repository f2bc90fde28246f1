"""Measures what compression hooks cost in accuracy and save in time, and writes docs/compression.md.

python scripts/compression.py accuracy  Fashion-MNIST on 2 ranks, several seeds: some twenty minutes on two cores
python scripts/compression.py speed     two hosts joined by 1 Gbit/s, then 100 Mbit/s: as root, on a quiet machine
python scripts/compression.py --report  writes the page from what was measured before

For accuracy each rank takes itself for a node, since ranks of one node do not compress.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from benchmarks import hooks, machine, models, sections  # noqa: E402

from tests.jobs.virtual_network import VirtualNetwork, is_possible  # noqa: E402

Result = dict[str, Any]

SECTIONS = ("accuracy", "speed")
PAGE = "compression.md"
BEGIN, END = "<!-- measured: {} -->\n", "<!-- end -->\n"


def train(model: str, hook: str | None, seed: int, epochs: int) -> Result:
    """Train on Fashion-MNIST on this job's ranks, each a node of its own; return the test accuracy of each epoch."""
    import distdl
    from distdl import data, nn, optim, parallel, train
    from distdl.comm import base

    base.node_number = os.getpid
    comm = distdl.world()
    distdl.manual_seed(seed)
    network = models.make(model, nn)
    clothes, held_out = data.load_fashion_mnist("train"), data.load_fashion_mnist("test")
    batch = 2 * models.REFERENCES[model].batch
    optimizer = optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = optim.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * -(-len(clothes) // batch))
    trainer = distdl.Trainer(
        network,
        optimizer,
        nn.CrossEntropyLoss(),
        comm,
        callbacks=[train.Schedule(schedule, every="step")],
        progress=False,
        compression=hook,
    )
    history = trainer.fit(clothes, epochs, batch, validation=held_out)
    assert len(set(parallel.replica_digests(network, comm))) == 1
    return {
        "accuracy": [record["validation_accuracy"] for record in history],
        "loss": [record["loss"] for record in history],
    }


def accuracy(options: argparse.Namespace) -> Result:
    """Train each model with each hook from each seed, each as a job of its own."""
    from distdl.cluster.launch import find_mpi, find_mpiexec, launch_command

    mpi = find_mpi()
    environment = {**os.environ, "DISTDL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    result: Result = {"epochs": options.epochs, "ranks": 2, "models": {}}
    for model in options.models:
        for hook in hooks.NAMES:
            for seed in range(options.seeds):
                order = json.dumps([model, hook, seed, options.epochs])
                command = [sys.executable, __file__, "--worker", order]
                words = launch_command(2, find_mpiexec(mpi), mpi.family, command)
                job = subprocess.run(words, env=environment, capture_output=True, text=True)
                if job.returncode:
                    raise RuntimeError(f"{order} ended with code {job.returncode}:\n{job.stderr[-3000:]}")
                found = json.loads(job.stdout.strip().splitlines()[-1])
                result["models"].setdefault(model, {}).setdefault(hook or "none", []).append(found)
                print(model, hook, seed, found["accuracy"], file=sys.stderr, flush=True)
    return result


def speed(options: argparse.Namespace) -> Result:
    """Steps with each hook, against PyTorch where it is installed, on hosts joined by cables of each rate."""
    if not is_possible():
        raise SystemExit("compression.py: `speed` makes hosts of network namespaces, which takes root and iproute2")
    seconds, pairs = (0.1, 2) if options.quick else (options.seconds, options.pairs)
    settings = sections.Settings(tuple(options.models), seconds, pairs, options.quick, False, (2,))
    result: Result = {}
    for rate in options.rates:
        with tempfile.TemporaryDirectory() as directory, VirtualNetwork(2, Path(directory), rate) as network:
            for model in options.models:
                found = hooks.measure(network, model, settings)
                result.setdefault(str(rate), {})[model] = found
                print(rate, model, json.dumps(found), file=sys.stderr, flush=True)
    return result


def _accuracy_table(result: Result) -> str:
    lines = [
        f"Test accuracy after {result['epochs']} epochs on {result['ranks']} ranks, mean over seeds (least and "
        "greatest), and the loss of the last epoch.\n",
        "| model | hook | accuracy | against none | training loss | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for model, by_hook in result["models"].items():
        last = {hook: [run["accuracy"][-1] for run in runs] for hook, runs in by_hook.items()}
        for hook, values in last.items():
            mean = statistics.mean(values)
            apart = mean - statistics.mean(last["none"])
            loss = statistics.mean(run["loss"][-1] for run in by_hook[hook])
            spread = f"{mean:.4f} ({min(values):.4f}-{max(values):.4f})"
            lines.append(f"| {model} | {hook} | {spread} | {apart:+.4f} | {loss:.4f} | {len(values)} |")
    return "\n".join(lines) + "\n"


def _speed_table(result: Result) -> str:
    return "\n".join(f"At {rate} Mbit/s:\n\n{hooks.table(by_model)}" for rate, by_model in result.items())


TABLES = {"accuracy": _accuracy_table, "speed": _speed_table}


def write(page: str, known: Result) -> str:
    """Return the page with the tables of what is known in their places."""
    for name, table in TABLES.items():
        begin = BEGIN.format(name)
        if name in known and begin in page:
            before, _, rest = page.partition(begin)
            _, _, after = rest.partition(END)
            where = known[name]["machine"]
            versions = ", ".join(f"{library} {version}" for library, version in where["versions"].items())
            told = f"Measured on {where['cpu']}, {where['cores']} cores; {versions}.\n"
            page = f"{before}{begin}\n{table(known[name]['result'])}\n{told}\n{END}{after}"
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; both by default")
    parser.add_argument("--models", nargs="+", choices=models.REFERENCES, default=["mlp", "cnn"])
    parser.add_argument("--epochs", type=int, default=5, help="for `accuracy`")
    parser.add_argument("--seeds", type=int, default=3, help="for `accuracy`")
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 100], help="Mbit/s, for `speed`")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block, for `speed`")
    parser.add_argument("--pairs", type=int, default=7, help="of blocks, for `speed`")
    parser.add_argument("--quick", action="store_true", help="short blocks, to see that it works; writes nothing")
    parser.add_argument("--report", action="store_true", help="write the page from the JSON file, and measure nothing")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "compression.json", help="read, added to, written")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="directory of the page")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        found = train(*json.loads(options.worker))
        import distdl

        distdl.world().print(json.dumps(found))
        return 0
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown sections: {', '.join(sorted(unknown))}")
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name in [] if options.report else options.sections or SECTIONS:
        result = {"accuracy": accuracy, "speed": speed}[name](options)
        known[name] = {"machine": machine.describe(), "result": result}
        if not options.quick:
            options.json.write_text(json.dumps(known, indent=1) + "\n")
    if options.quick:
        print("\n".join(table(known[name]["result"]) for name, table in TABLES.items() if name in known))
    else:
        page = options.docs / PAGE
        page.write_text(write(page.read_text(), known))
    return 0


if __name__ == "__main__":
    sys.exit(main())

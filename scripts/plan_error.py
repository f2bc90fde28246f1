"""Measures how far predictions of `distdl plan` are from steps that are really run, and writes docs/plan.md.

python scripts/plan_error.py                       profiles some configurations, predicts others, and runs those
python scripts/plan_error.py --models mlp --quick  less of everything, to see that it works; the docs stay as they are

Hosts are network namespaces of this machine, whose cables have a rate: they take root and iproute2.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from benchmarks import machine, models, plan_page  # noqa: E402
from benchmarks.jobs import Job  # noqa: E402
from benchmarks.pairs import count_for  # noqa: E402

from distdl.cluster.planning.cost import Choice, Cluster, predict  # noqa: E402
from distdl.cluster.planning.network import Link, fit_between, fit_within  # noqa: E402
from distdl.cluster.planning.workload import Workload  # noqa: E402
from distdl.parallel.plan import LARGE_BUCKET  # noqa: E402
from distdl.parallel.profile import Profile, load  # noqa: E402
from distdl.parallel.profiler import WARM_UP  # noqa: E402
from tests.jobs.virtual_network import VirtualNetwork, is_possible  # noqa: E402

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a job of ranks runs, and how it reduces.

    Attributes:
        hosts, slots: how many, and ranks on each.
        overlap: whether it reduces during backward(), in buckets of 1 MiB.
    """

    hosts: int
    slots: int
    overlap: bool = False

    @property
    def ranks(self) -> int:
        return self.hosts * self.slots

    @property
    def bucket_bytes(self) -> int:
        return MEBIBYTE if self.overlap else LARGE_BUCKET

    def variables(self) -> dict[str, str]:
        return {"DISTDL_OVERLAP": str(int(self.overlap)), "DISTDL_BUCKET_BYTES": str(self.bucket_bytes)}


PROFILED = Place(2, 1)
"""Of each model; links between hosts are fitted to one of them."""

PROFILED_MBIT = 1000

TOGETHER = Place(1, 2)
"""Of one model: the link within a host is fitted to it."""

HELD_OUT: dict[str, list[tuple[Place, int | None]]] = {
    "mlp": [
        (PROFILED, 100),
        (PROFILED, 300),
        (Place(2, 1, overlap=True), 1000),
        (Place(3, 1), 300),
        (Place(4, 1), 100),
        (Place(2, 2), 300),
    ],
    "cnn": [
        (PROFILED, 100),
        (PROFILED, 300),
        (Place(2, 1, overlap=True), 1000),
        (TOGETHER, None),
        (Place(3, 1), 300),
        (Place(4, 1), 100),
        (Place(2, 2), 300),
    ],
    "resnet20": [(PROFILED, 100), (PROFILED, 300)],
    "vgg6": [(PROFILED, 100), (PROFILED, 300)],
}
"""By model: where, and the rate of the cables in Mbit/s. Nothing is fitted to any of these."""


class Bench:
    """Jobs of one model, all open: they wait for orders without taking time of a core.

    Args:
        model: its name.
        directory: of profiles.
        stack: closes the jobs.
    """

    def __init__(self, model: str, directory: Path, stack: contextlib.ExitStack):
        self.model = model
        self._directory = directory
        self._stack = stack
        self._profiles = 0
        self._jobs: dict[Place, tuple[Job, VirtualNetwork | None]] = {}
        self._counts: dict[tuple[Place, int | None], int] = {}

    def profile(self, place: Place, mbit: int | None) -> Profile:
        """Run a job of its own for a profile."""
        self._profiles += 1
        path = self._directory / f"{self._profiles}.json"
        with contextlib.ExitStack() as stack:
            job, _ = self._open(place, mbit, {"DISTDL_PROFILE": str(path)}, stack)
            while not path.exists():
                job.steps(WARM_UP)
        return load(path)

    def milliseconds(self, place: Place, mbit: int | None, seconds: float) -> float:
        """Return the time of a step over a block of steps."""
        if place not in self._jobs:
            self._jobs[place] = self._open(place, mbit, place.variables(), self._stack)
        job, network = self._jobs[place]
        if network is not None and mbit is not None:
            for name in network.names:
                network.limit(name, mbit)
        key = (place, mbit)
        if key not in self._counts:
            self._counts[key] = count_for(job.steps, seconds)
        return job.steps(self._counts[key]) / self._counts[key] * 1e3

    def _open(
        self, place: Place, mbit: int | None, variables: dict[str, str], stack: contextlib.ExitStack
    ) -> tuple[Job, VirtualNetwork | None]:
        network = None
        if place.hosts > 1:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            network = stack.enter_context(VirtualNetwork(place.hosts, directory, mbit))
        return stack.enter_context(Job("ours", place.ranks, 1, variables, network, model=self.model)), network


def measure(names: list[str], seconds: float, repeats: int) -> dict[str, Any]:
    """Profile, predict, run; return all of it as JSON."""
    links: dict[str, Link] = {}
    rows: list[dict[str, Any]] = []
    example: dict[str, Any] | None = None
    for name in names:
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            bench = Bench(name, Path(directory), stack)
            profiles = [bench.profile(PROFILED, PROFILED_MBIT)]
            if not links:
                between, within = fit_between(profiles[0]), fit_within(bench.profile(TOGETHER, None))
                assert between is not None
                assert within is not None
                links = {"between": between, "within": within}
            times = _run(bench, seconds, repeats)
            # Before and after: what else a machine does changes slowly.
            profiles.append(bench.profile(PROFILED, PROFILED_MBIT))
            if example is None or name == plan_page.EXAMPLE:
                example = json.loads(profiles[0].to_json())
            workload = Workload(profiles)
            for (place, mbit), measured in times.items():
                predicted = _predict(workload, links, name, place, mbit)
                rows.append(
                    {"model": name, **asdict(place), "mbit": mbit, "predicted": predicted, "measured": measured}
                )
                print(plan_page.line(rows[-1]), file=sys.stderr, flush=True)
    about = {**machine.describe(), "seconds": seconds, "repeats": repeats}
    return {
        "machine": about,
        "links": {key: asdict(link) for key, link in links.items()},
        "rows": rows,
        "example": example,
    }


def _run(bench: Bench, seconds: float, repeats: int) -> dict[tuple[Place, int | None], list[float]]:
    """Return the milliseconds of a step, block by block, of each configuration that is held out."""
    configurations = HELD_OUT[bench.model]
    times: dict[tuple[Place, int | None], list[float]] = {each: [] for each in configurations}
    for repeat in range(repeats):
        for each in configurations if repeat % 2 == 0 else reversed(configurations):
            times[each].append(bench.milliseconds(*each, seconds))
    return times


def _predict(workload: Workload, links: dict[str, Link], model: str, place: Place, mbit: int | None) -> float:
    """Return the milliseconds that a step is predicted to take."""
    between = None if mbit is None else links["between"].at(mbit * 1e6)
    # Hosts are namespaces: all their ranks share the machine's cores.
    cluster = Cluster(place.hosts, place.slots, links["within"], between, sharing=place.ranks)
    choice = Choice(models.REFERENCES[model].batch, place.bucket_bytes, place.overlap)
    return predict(workload, cluster, choice).step * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=HELD_OUT, default=list(HELD_OUT))
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of each configuration, in turn")
    parser.add_argument("--quick", action="store_true", help="short blocks, to see that it works; the docs stay as is")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="directory of what is written")
    parser.add_argument("--report", action="store_true", help="write the page from its JSON, and measure nothing")
    options = parser.parse_args()
    path = options.docs / "plan_error.json"
    if options.report:
        found = json.loads(path.read_text())
    elif not is_possible():
        parser.error("hosts take root and iproute2")
    else:
        short = (0.2, 2) if options.quick else (options.seconds, options.repeats)
        found = measure(options.models, *short)
    if options.quick:
        print(plan_page.table(found))
        return 0
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(plan_page.write(found, options.docs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

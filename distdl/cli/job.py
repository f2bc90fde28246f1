"""`distdl job`: prints a job script for a scheduler."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import fields, replace

from ..cluster.jobs.render import KINDS, render
from ..cluster.jobs.request import Request

HELP = "print a job script for Slurm, PBS, LSF, Grid Engine, Kubernetes or mpirun, with your numbers filled in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes; what is not given stays as in launch/."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="kind", help=", ".join(KINDS))
    for name in KINDS:
        kind = kinds.add_parser(name)
        kind.add_argument("--nodes", type=int, help="how many")
        kind.add_argument("--ranks", type=int, help="on each node")
        kind.add_argument("--cores", type=int, help="of each rank: its threads")
        kind.add_argument("--time", help="HH:MM:SS")
        kind.add_argument("--name", help="of the job, and of its directory jobs/NAME")
        kind.add_argument("--account", help="that pays")
        kind.add_argument("--queue", help="or partition")
        kind.add_argument("--python", help="the Python that has distdl")
        kind.add_argument("--setup", action="append", help="a line of shell that comes before, such as 'module load x'")
        kind.add_argument("--image", help="of the container, on Kubernetes")
        # Named unlike the command of `distdl` itself.
        kind.add_argument("words", nargs="*", metavar="-- script", help="a Python script and its arguments")


def run(options: argparse.Namespace) -> int:
    """Print the script; on stderr, if the scheduler is not here."""
    kind = KINDS[options.kind]
    names = {field.name for field in fields(Request)} - {"command"}
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    print(render(options.kind, replace(kind.default, command=options.words, **given)), end="")
    if not shutil.which(kind.program):
        print(f"distdl job: {kind.program} is not installed here: submit the script where it is", file=sys.stderr)
    return 0

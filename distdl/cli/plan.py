"""`distdl plan`: predicts steps on other numbers of ranks and other networks, from a short profile."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core import files
from ..core.errors import ArgumentError

HELP = "predict step time and efficiency on more ranks and other networks, from a short profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    profiling = parser.add_argument_group("the profile: read, or recorded from some steps of a script")
    profiling.add_argument("--profile", nargs="+", default=[], metavar="FILE", help="profiles of one model")
    profiling.add_argument("--save", metavar="FILE", help="keep the profile that is recorded now")
    profiling.add_argument(
        "-n", "--profile-ranks", type=int, help="of the script; or as many as the host file has slots"
    )
    profiling.add_argument("--hostfile", help="one host a line, with its slots: name:4, or name slots=4")
    profiling.add_argument("--remote-shell", default="ssh", help="the command that reaches hosts (ssh)")
    question = parser.add_argument_group("what is asked")
    question.add_argument("--ranks", type=int, nargs="+", help="how many; 1 to 4,096 by default")
    question.add_argument("--ranks-per-node", type=int, help="as in the profile by default")
    question.add_argument("--cores", type=int, help="of a node; as in the profile by default")
    question.add_argument("--network", nargs="+", help="between nodes: profile, or ethernet-10g and others by name")
    question.add_argument("--rate", help="of these networks instead, such as 300mbit or 25gbit")
    question.add_argument("--latency", help="of these networks instead, such as 50us")
    question.add_argument("--batch", type=int, nargs="+", help="rows of each rank that may be chosen")
    question.add_argument("--global-batch", type=int, help="rows of all ranks, which share them")
    question.add_argument("--efficiency", type=float, default=0.8, help="that is enough (0.8)")
    question.add_argument(
        "--compression", nargs="*", metavar="NAME[=FACTOR:SECONDS]", help="hooks: bytes on the wire, seconds a byte"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as PNG or SVG")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("words", nargs="*", metavar="-- script", help="a Python script and its arguments, to profile")


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    from ..cluster.hosts import read_hosts
    from ..cluster.planning import compression, report, search
    from ..cluster.planning.network import SHARED_MEMORY, choose, fit_within
    from ..cluster.planning.record import record
    from ..cluster.planning.workload import Workload
    from ..parallel.profile import load

    profiles = [load(path) for path in options.profile]
    if options.words:
        hosts = [] if options.hostfile is None else read_hosts(options.hostfile)
        profiles.append(record(options.words, options.profile_ranks, hosts, options.remote_shell))
        if options.save is not None:
            files.write_durably(options.save, profiles[-1].to_json().encode())
    if not profiles:
        raise ArgumentError("`profile` is missing: give --profile FILE, or a script to profile: -- train.py")
    workload = Workload(profiles, options.cores)
    last = profiles[-1]
    within = next((link for link in map(fit_within, profiles) if link is not None), SHARED_MEMORY)
    per_node = last.ranks // last.nodes if options.ranks_per_node is None else options.ranks_per_node
    names = list(compression.ASSUMED) if options.compression is None else options.compression
    question = search.Question(
        ranks=options.ranks or search.usual_ranks(per_node),
        per_node=per_node,
        within=within,
        networks=choose(options.network, profiles, options.rate, options.latency),
        batches=sorted(options.batch) if options.batch else search.usual_batches(workload),
        global_batch=options.global_batch,
        target=options.efficiency,
        compressions=[hook for hook in map(compression.parse, names) if hook != compression.NONE],
    )
    rows = search.search(workload, question)
    if options.picture is not None:
        report.draw(options.picture, question, rows)
    print(report.to_json(workload, question, rows) if options.json else report.table(workload, question, rows))
    return 0

"""`distdl tune`: tries how a training script runs fastest on these cores or hosts."""

from __future__ import annotations

import argparse
import sys

HELP = "try how a training script runs fastest here: ranks, threads, and how gradients are reduced"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("-n", "--ranks", type=int, help="how many; by default several divisions of the cores are tried")
    parser.add_argument("--hostfile", help="one host a line, with its cores: name:4, or name slots=4")
    parser.add_argument("--remote-shell", default="ssh", help="the command that reaches hosts (ssh)")
    parser.add_argument("--steps", type=int, default=30, help="that are timed in each trial (30)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("script", nargs="?", help="a Python script; without one reductions are measured only")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")


def run(options: argparse.Namespace) -> int:
    """Try, and print what was found."""
    from ..cluster.hosts import read_hosts
    from ..cluster.tune import Request, show, to_json, tune

    hosts = [] if options.hostfile is None else read_hosts(options.hostfile)
    script = [] if options.script is None else [options.script, *options.arguments]
    request = Request(script, options.ranks, hosts, options.remote_shell, options.steps)
    result = tune(request, lambda text: print(f"distdl tune: {text}", file=sys.stderr, flush=True))
    print(to_json(result) if options.json else show(result))
    return 0

"""`distdl checkpoint`: looks at checkpoints."""

from __future__ import annotations

import argparse

from ..core import checks

HELP = "look at a checkpoint: what it holds, whether it is whole"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("what", choices=("show", "verify", "diff"))
    parser.add_argument("paths", nargs="+", help="a checkpoint, or a directory of them; two for diff")


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if it is bad."""
    from ..train import inspect

    wanted = 2 if options.what == "diff" else 1
    if len(options.paths) != wanted:
        raise checks.bad_value("paths", options.paths, f"must be {wanted} for {options.what}")
    report = getattr(inspect, options.what)(*options.paths)
    print(report.text)
    return int(not report.is_good)

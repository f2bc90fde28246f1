"""The `distdl` command: thin; what it does lives in `distdl.cluster`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..core.errors import DistdlError
from ..version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except DistdlError as error:
        print(f"distdl {options.command}: {error}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog="distdl", description="Data-parallel training on CPU clusters.")
    parser.add_argument("--version", action="version", version=f"distdl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    launch = commands.add_parser("launch", help="run a script on several ranks of this machine")
    launch.add_argument("-n", "--ranks", type=int, required=True, help="how many")
    launch.add_argument("script", help="a Python script")
    launch.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    launch.set_defaults(run=_launch)

    doctor = commands.add_parser("doctor", help="say what is wrong with this installation")
    doctor.set_defaults(run=_doctor)
    return parser


def _launch(options: argparse.Namespace) -> int:
    from ..cluster.launch import launch

    return launch(options.ranks, [options.script, *options.arguments])


def _doctor(options: argparse.Namespace) -> int:
    from ..cluster.doctor import examine, report

    findings = examine()
    print(report(findings))
    return 1 if any(finding.state == "fail" for finding in findings) else 0

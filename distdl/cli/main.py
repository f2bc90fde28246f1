"""The `distdl` command: thin; what it does lives in other rooms.

Each command is a file beside this one: `HELP`, `add_arguments` and `run`.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence

from ..core.errors import DistdlError
from ..version import __version__
from . import checkpoint, convolutions, doctor, job, launch, plan, tune, warmup

_COMMANDS = {
    "launch": launch,
    "job": job,
    "doctor": doctor,
    "tune": tune,
    "plan": plan,
    "warmup": warmup,
    "convolutions": convolutions,
    "checkpoint": checkpoint,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except DistdlError as error:
        print(f"distdl {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if _is_read():
            raise
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _is_read() -> bool:
    """Say whether somebody still reads the output: `head` has perhaps seen enough."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return not output.poll(0)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog="distdl", description="Data-parallel training on CPU clusters.")
    parser.add_argument("--version", action="version", version=f"distdl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser

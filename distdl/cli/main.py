"""The `distdl` command: thin; what it does lives in `distdl.cluster`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..core import checks
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

    _add_launch(commands.add_parser("launch", help="run a script on several ranks, and start it again if it dies"))

    doctor = commands.add_parser("doctor", help="say what is wrong with this installation")
    doctor.set_defaults(run=_doctor)

    warmup = commands.add_parser("warmup", help="compile ahead what training needs, for images and shared file systems")
    warmup.set_defaults(run=_warmup)

    convolutions = commands.add_parser("convolutions", help="print which algorithm convolves what, as measured")
    convolutions.add_argument("--cpu", choices=("avx2", "avx512"), help="kind of CPU, instead of this one's")
    convolutions.set_defaults(run=_convolutions)

    checkpoint = commands.add_parser("checkpoint", help="look at a checkpoint: what it holds, whether it is whole")
    checkpoint.add_argument("what", choices=("show", "verify", "diff"))
    checkpoint.add_argument("paths", nargs="+", help="a checkpoint, or a directory of them; two for diff")
    checkpoint.set_defaults(run=_checkpoint)
    return parser


def _add_launch(launch: argparse.ArgumentParser) -> None:
    launch.add_argument("-n", "--ranks", type=int, help="how many; by default as many as the host file has slots")
    launch.add_argument("--hostfile", help="one host a line, with its slots: name:4, or name slots=4")
    launch.add_argument("--remote-shell", default="ssh", help="the command that reaches hosts (ssh)")
    launch.add_argument("--checkpoint-dir", help="where Trainer.fit() keeps checkpoints, and goes on from")
    launch.add_argument("--max-restarts", type=int, default=0, help="how often a job that dies is started again (0)")
    launch.add_argument("--min-ranks", type=int, help="go on with so few when hosts are gone; by default with all only")
    launch.add_argument(
        "--end-timeout", type=float, default=15.0, help="seconds (15) that mpiexec is given to end after a rank's death"
    )
    launch.add_argument("script", help="a Python script")
    launch.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    launch.set_defaults(run=_launch)


def _checkpoint(options: argparse.Namespace) -> int:
    from ..train import inspect

    wanted = 2 if options.what == "diff" else 1
    if len(options.paths) != wanted:
        raise checks.bad_value("paths", options.paths, f"must be {wanted} for {options.what}")
    report = getattr(inspect, options.what)(*options.paths)
    print(report.text)
    return int(not report.is_good)


def _launch(options: argparse.Namespace) -> int:
    from ..cluster.supervisor import launch

    directory = options.checkpoint_dir
    return launch(
        [options.script, *options.arguments],
        options.ranks,
        options.hostfile,
        {} if directory is None else {"DISTDL_CHECKPOINT_DIR": os.path.abspath(directory)},
        min_ranks=options.min_ranks,
        max_restarts=options.max_restarts,
        end_timeout=options.end_timeout,
        remote_shell=options.remote_shell,
        position=lambda: _newest_checkpoint(directory),
    )


def _newest_checkpoint(directory: str | None) -> str:
    from ..train.checkpoint import list_checkpoints

    found = list_checkpoints(directory) if directory is not None else []
    return str(found[0]) if found else ""


def _doctor(options: argparse.Namespace) -> int:
    from ..cluster.doctor import examine, report

    findings = examine()
    print(report(findings))
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def _convolutions(options: argparse.Namespace) -> int:
    from ..kernels.tiles import CPU_KIND
    from ..ops import conv_table

    cpu = options.cpu or CPU_KIND
    print(f"{cpu}: milliseconds of a forward and a backward pass, one thread; the shortest is taken")
    print(f"{'kernel':>6} {'stride':>6} {'in':>5} {'out':>5} {'size':>5}  winograd   direct unfolding")
    for entry in conv_table.table(cpu):
        shape, times = entry.shape, entry.milliseconds
        extents = f"{shape.kernel:6} {shape.stride:6} {shape.inputs:5} {shape.outputs:5} {shape.size:5}"
        columns = [
            f"{times[name]:8.2f}" if name in times else "       -" for name in ("winograd", "direct", "unfolding")
        ]
        print(extents, "", *columns, "", entry.winner)
    return 0


def _warmup(options: argparse.Namespace) -> int:
    from ..train.warmup import warm_up

    report = warm_up()
    print(report)
    return 0 if report.directory else 1

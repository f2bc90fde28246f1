"""`distdl launch`: runs a script on several ranks, and starts it again if it dies."""

from __future__ import annotations

import argparse
import os

HELP = "run a script on several ranks, and start it again if it dies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("-n", "--ranks", type=int, help="how many; by default as many as the host file has slots")
    parser.add_argument("--hostfile", help="one host a line, with its slots: name:4, or name slots=4")
    parser.add_argument("--remote-shell", default="ssh", help="the command that reaches hosts (ssh)")
    parser.add_argument("--checkpoint-dir", help="where Trainer.fit() keeps checkpoints, and goes on from")
    parser.add_argument("--max-restarts", type=int, default=0, help="how often a job that dies is started again (0)")
    parser.add_argument("--min-ranks", type=int, help="go on with so few when hosts are gone; by default with all only")
    parser.add_argument(
        "--end-timeout", type=float, default=15.0, help="seconds (15) that mpiexec is given to end after a rank's death"
    )
    parser.add_argument("script", help="a Python script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")


def run(options: argparse.Namespace) -> int:
    """Launch, and return the job's exit code."""
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

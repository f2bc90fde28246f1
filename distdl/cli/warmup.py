"""`distdl warmup`: compiles ahead."""

from __future__ import annotations

import argparse

HELP = "compile ahead what training needs, for images and shared file systems"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes: nothing."""


def run(options: argparse.Namespace) -> int:
    """Compile, and say what; 1 if nothing could be kept."""
    from ..train.warmup import warm_up

    report = warm_up()
    print(report)
    return 0 if report.directory else 1

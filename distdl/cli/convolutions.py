"""`distdl convolutions`: prints which algorithm convolves what."""

from __future__ import annotations

import argparse

HELP = "print which algorithm convolves what, as measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("--cpu", choices=("avx2", "avx512"), help="kind of CPU, instead of this one's")


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    from ..kernels.cpu import CPU_KIND
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

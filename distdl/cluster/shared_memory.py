"""Room in /dev/shm, through which MPI lets the ranks of a node talk: where there is none, it ends with SIGBUS."""

import os

PLACE = "/dev/shm"

PER_RANK_MEBIBYTES = 4
"""What a rank needs at least (64 MiB, what containers get by default, have failed at 16 ranks)."""


def free_mebibytes() -> int | None:
    """Return the mebibytes that are free there; None on systems without such a place."""
    if not os.path.isdir(PLACE):
        return None
    status = os.statvfs(PLACE)
    return status.f_bavail * status.f_frsize >> 20


def shortage(needed: int) -> str:
    """Say that less than `needed` mebibytes are free; empty if there are enough."""
    free = free_mebibytes()
    if free is None or free >= needed:
        return ""
    return f"{free} MiB free in {PLACE}: many ranks, or large messages, end with SIGBUS; give it {needed} MiB"

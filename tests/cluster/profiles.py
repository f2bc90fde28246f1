"""Profiles that are made up, of round numbers."""

import dataclasses

from distdl.parallel.profile import Profile, Reduction

MEBIBYTE = 1 << 20

MADE = Profile(
    script="train.py",
    ranks=2,
    nodes=2,
    sharing=1,
    cores=1,
    threads=1,
    batch=100.0,
    steps=50,
    forward=0.010,
    backward=0.020,
    update=0.001,
    measured=0.050,
    spread=0.0,
    parameters=[(MEBIBYTE, 1.0), (MEBIBYTE, 0.5)],
    combine=1e-10,
    polling=0.1,
    within=[],
    between=[],
)
"""Two gradients: that of the last layer is final in the middle of backward()."""


def made(**changes):
    """Return a profile with other values."""
    return dataclasses.replace(MADE, **changes)


def reductions(seconds, sizes=(1 << 12, 1 << 14, 1 << 19, 1 << 20, 1 << 21, 1 << 22)):
    """Return reductions that take `seconds(nbytes)`, which nothing disturbs."""
    return [Reduction(nbytes, seconds(nbytes), seconds(nbytes), 0.0) for nbytes in sizes]

"""Writes of a checkpoint over directories that hold some already, and what must be found after a crash in one.

name of a case: (steps that are there before, step that is written, whether it is the best, how many stay)
"""

import os
import sys

import numpy as np
import safetensors.numpy  # noqa: F401  # a child would import it while it is traced

from distdl.core.errors import FileFormatError, MissingDataError
from distdl.train.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    mark_best,
    read_checkpoint,
    tidy_checkpoints,
    verify_checkpoint,
    write_checkpoint,
)

CASES = {
    "the first": ([], 10, False, 3),
    "a further one": ([10], 20, False, 1),
    "the best so far": ([10, 20], 30, True, 2),
    "one of a step that is there": ([10, 20], 20, False, 2),
}

BEFORE, AFTER = 1.0, 2.0
"""The values in checkpoints that were there, and in the one that is written."""


def prepare(directory, case):
    """Write what is there before."""
    for step in CASES[case][0]:
        write_checkpoint(directory, step, *_content(step, BEFORE))


def write(directory, case, returned=lambda: None):
    """Do what a fit does to take a checkpoint; `returned` is called when it is there for good."""
    _, step, is_best, keep = CASES[case]
    path = write_checkpoint(directory, step, *_content(step, AFTER))
    returned()
    if is_best:
        mark_best(path)
    tidy_checkpoints(directory, keep, checkpoint_path(directory, 10))


def check(directory, case, has_returned):
    """Start the next job in a directory as a crash has left it: it finds the newest checkpoint whole."""
    before, step, _, _ = CASES[case]
    if directory.is_dir():
        tidy_checkpoints(directory, sys.maxsize)
        assert not [name for name in os.listdir(directory) if name.startswith(".")]
    found = newest(directory)
    if found is None:
        assert not before
        assert not has_returned
        return
    value = float(found.arrays["model"]["weight"][0, 0])
    assert (found.step, value) in [(step, AFTER), *([(before[-1], BEFORE)] if before else [])]
    assert value == AFTER or not has_returned
    for name, array in _content(found.step, value)[0]["model"].items():
        np.testing.assert_array_equal(found.arrays["model"][name], array)


def newest(directory):
    """Return the newest checkpoint that can be read; what is newer was not finished, or is being removed."""
    for path in list_checkpoints(directory):
        try:
            return read_checkpoint(path)
        except (FileFormatError, MissingDataError):
            assert verify_checkpoint(path) != []
    return None


def _content(step, value):
    arrays = {"model": {"weight": np.full((2, 3), value), "step": np.array(step)}, "optimizer": {}}
    return arrays, {"epoch": 1, "value": value}

"""Every cell of the table of faults keeps its promise; those of `is_small` here, all in scripts/soak."""

import re

import pytest

from tests.faults.cells import CELLS, document
from tests.faults.trying import attempt
from tests.jobs.launching import ROOT


@pytest.mark.job
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.is_small], ids=lambda cell: cell.fault)
def test_a_fault_ends_as_promised(cell, binaries, tmp_path):
    """In time, with its message, and nothing is left behind."""
    attempt(cell, binaries, tmp_path)


def test_every_cell_has_a_test():
    """A way to make it happen, or tests of its own, which are there."""
    for cell in CELLS:
        assert bool(cell.code) != bool(cell.tests), cell.fault
        for name in cell.tests:
            path, _, chosen = name.partition(" -k ")
            path, _, function = path.partition("::")
            text = (ROOT / path).read_text()
            words = set(re.findall(r"\w+", chosen)) - {"and", "or"}
            for word in words or [function or "test_"]:
                assert word in text, f"{cell.fault}: no {word} in {path}"


def test_the_page_is_the_table():
    """docs/faults.md says what is promised."""
    assert (ROOT / "docs" / "faults.md").read_text() == document()

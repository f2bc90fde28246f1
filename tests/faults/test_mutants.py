"""No changed file makes a reader raise another error, take more memory than it may, or hang."""

import pytest

from tests.faults.mutants import MEMORY, READERS, attack_apart

COUNT = 3000
"""For each reader; scripts/soak tries more."""


@pytest.mark.parametrize("name", READERS)
def test_no_mutant_harms_a_reader(name):
    """It is read, or refused with FileFormatError (or MissingDataError), with bounded memory."""
    tally = attack_apart(name, COUNT)
    assert tally.count == COUNT
    # Most changes do harm: else nothing would have been tried.
    assert tally.refused > COUNT // 10
    assert tally.grown <= MEMORY

"""A fit that hangs fails its test with what it was doing."""

import re

import pytest

from tests.faults.running import Fit

pytestmark = pytest.mark.job


@pytest.mark.parametrize("launch", [None, []], ids=["mpiexec", "distdl launch"])
def test_a_fit_that_hangs_says_where(some_binaries, tmp_path, launch):
    """The failure holds the stack of each rank, and nothing runs on."""
    fit = Fit(some_binaries, 2, tmp_path, options={"DISTDL_TEST_LINGER": "60"}, launch=launch)
    fit.wait_for(lambda: fit.digest)
    with pytest.raises(AssertionError, match=r"still running after 0\.5 s: .*python") as failure:
        fit.wait(0.5)
    assert len(re.findall(r'training\.py", line \d+ in main', str(failure.value))) == 2, failure.value
    assert fit.process.poll() is not None
    assert fit.ranks() == []

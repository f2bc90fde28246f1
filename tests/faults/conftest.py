"""What the tests of disturbed jobs share."""

import pytest

from tests.faults.running import Fit
from tests.jobs.launching import ALL, mpis


@pytest.fixture(params=mpis(), ids=lambda path: path.parent.name)
def binaries(request):
    """The directory of mpiexec and Python, of each MPI."""
    return request.param


@pytest.fixture(params=mpis() if ALL else mpis()[:1], ids=lambda path: path.parent.name)
def some_binaries(request):
    """The same; of the first MPI only, where time is short."""
    return request.param


@pytest.fixture(scope="session")
def expected(tmp_path_factory):
    """The digest of a fit on one rank that nobody disturbs."""
    fit = Fit(mpis()[0], 1, tmp_path_factory.mktemp("whole"))
    assert fit.wait() == 0, fit.text
    return fit.digest

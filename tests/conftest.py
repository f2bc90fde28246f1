"""What the tests of all rooms share."""

import os
import tempfile

import pytest

import distdl
from distdl.comm.launcher import find_launcher

if find_launcher() is not None:
    # pytest tidies up old temporary directories at the end; ranks that share them trip over each other.
    _own = tempfile.TemporaryDirectory(prefix="distdl-tests-", ignore_cleanup_errors=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = _own.name


@pytest.fixture
def comm():
    """The communicator of this job: serial in one process, MPI under mpirun."""
    return distdl.world()


@pytest.fixture(autouse=True)
def _together(request):
    """Ranks leave an MPI test together, so that one rank's next test cannot meet another's last."""
    yield
    if request.node.get_closest_marker("mpi") and request.config.getoption("--with-mpi", default=False):
        distdl.world().barrier()


@pytest.fixture(autouse=True)
def _seed():
    """Every test starts from the same seed."""
    distdl.manual_seed(0)

"""What tests of launching and of the check-up share."""

import os

import pytest

from distdl.cluster import launch as launching
from tests.cluster.fakes import fake_mpiexec


@pytest.fixture
def two_mpis(tmp_path, monkeypatch):
    """A machine with the mpiexec of MPICH before that of Open MPI in PATH."""
    mpich = fake_mpiexec(tmp_path / "mpich", "HYDRA build details: Version: 5.0")
    openmpi = fake_mpiexec(tmp_path / "openmpi", "mpiexec (Open MPI) 5.0")
    monkeypatch.setattr(launching.sys, "executable", str(tmp_path / "none" / "python"))
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(tmp_path / "mpich"), str(tmp_path / "openmpi"), "/usr/bin", "/bin"])
    )
    return mpich, openmpi

"""Choosing the mpiexec, and its words."""

import os

import pytest

from distdl.cluster import doctor
from distdl.cluster import launch as launching
from distdl.cluster.hosts import Host
from distdl.cluster.launch import Mpi, find_mpiexec, launch_command
from distdl.core.errors import LaunchError
from tests.cluster.fakes import fake_mpiexec


def test_the_mpiexec_of_the_library_is_found(two_mpis):
    """The first mpiexec in PATH is passed over if it belongs to another MPI."""
    mpich, openmpi = two_mpis
    assert find_mpiexec(Mpi("MPICH 5.0", "mpich")) == mpich
    assert find_mpiexec(Mpi("Open MPI v5.0", "openmpi")) == openmpi
    assert find_mpiexec(Mpi("Vendor MPI", "other")) == mpich


def test_the_mpiexec_beside_the_library_comes_first(two_mpis, tmp_path):
    """Of several of one family, the one that was installed with the library is taken."""
    (tmp_path / "prefix").mkdir()
    own = fake_mpiexec(tmp_path / "prefix" / "bin", "mpiexec (Open MPI) 5.1")
    assert find_mpiexec(Mpi("Open MPI v5.1", "openmpi", str(tmp_path / "prefix" / "lib" / "libmpi.so"))) == own
    # A library of the system has no mpiexec beside it, or another's.
    assert find_mpiexec(Mpi("MPICH 5.0", "mpich", str(tmp_path / "prefix" / "lib" / "libmpi.so"))) == two_mpis[0]


def test_an_mpiexec_that_cannot_run_is_of_no_family(tmp_path):
    """A file that is no program is passed over."""
    assert launching.mpiexec_family(str(tmp_path / "missing")) == "other"


@pytest.mark.usefixtures("two_mpis")
def test_no_fitting_mpiexec_is_an_error(monkeypatch, tmp_path):
    """The message names the library and what was found instead."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "mpich"), "/bin"]))
    with pytest.raises(LaunchError, match=r"mpi4py uses Open MPI v5.0, but found only .*mpich/mpiexec"):
        find_mpiexec(Mpi("Open MPI v5.0", "openmpi"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(LaunchError, match="found no mpiexec"):
        find_mpiexec(Mpi("MPICH 5.0", "mpich"))


def test_words_of_each_mpi(monkeypatch):
    """Open MPI is told to share cores and, as root only, to run as root; MPICH needs neither."""
    monkeypatch.setattr(launching.os, "geteuid", lambda: 0, raising=False)
    assert launch_command(3, "mpiexec", "mpich", ["python", "x.py"]) == ["mpiexec", "-n", "3", "python", "x.py"]
    root = launch_command(3, "mpiexec", "openmpi", ["python"])
    assert root == ["mpiexec", "-n", "3", "--map-by", ":OVERSUBSCRIBE", "--allow-run-as-root", "python"]
    monkeypatch.setattr(launching.os, "geteuid", lambda: 1000, raising=False)
    assert "--allow-run-as-root" not in launch_command(3, "mpiexec", "openmpi", ["python"])


def test_words_for_hosts_of_each_mpi(monkeypatch):
    """Hosts with their slots, the way to them, and what Open MPI must be told to export."""
    monkeypatch.setattr(launching.os, "geteuid", lambda: 1000, raising=False)
    hosts = [Host("a", 2), Host("b", 1)]
    mpich = launch_command(3, "mpiexec", "mpich", ["python"], hosts, "rsh", ["DISTDL_X"])
    assert mpich[3:] == ["-hosts", "a:2,b:1", "-launcher", "ssh", "-launcher-exec", "rsh", "python"]
    openmpi = launch_command(3, "mpiexec", "openmpi", ["python"], hosts, "ssh", ["DISTDL_X"])
    assert openmpi[5:] == ["--host", "a:2,b:1", "-x", "DISTDL_X", "python"]


def test_a_library_that_cannot_be_loaded_is_an_error(monkeypatch):
    """Without an MPI library the message says what to install, and the check-up fails but ends."""
    monkeypatch.setattr(launching, "_PROBE", "raise RuntimeError('cannot load MPI library')")
    with pytest.raises(LaunchError, match=r"cannot load MPI library.*pip install 'distdl\[mpich\]'"):
        launching.find_mpi()
    states = {finding.subject: finding.state for finding in doctor.examine()}
    assert states["MPI library"] == "fail"
    assert states["kernel cache"] == "ok"

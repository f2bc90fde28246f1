"""Choosing the mpiexec, and its words."""

import os
import stat

import pytest

from distdl.cluster import doctor, shared_memory
from distdl.cluster import launch as launching
from distdl.cluster.doctor import Finding, report
from distdl.cluster.hosts import Host
from distdl.cluster.launch import Mpi, find_mpiexec, launch_command
from distdl.core import settings
from distdl.core.errors import LaunchError


def fake_mpiexec(directory, says):
    directory.mkdir()
    path = directory / "mpiexec"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


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


def test_the_report_has_a_line_per_finding():
    """State, subject and text stand in columns; the last line sums up."""
    text = report([Finding("ok", "a", "fine"), Finding("fail", "long subject", "broken")])
    assert text.splitlines() == ["ok    a             fine", "fail  long subject  broken", "", "1 fail: see above"]
    assert report([Finding("ok", "a", "fine")]).splitlines()[-1] == "all is well"


def test_doctor_notices_a_launcher(monkeypatch):
    """Under mpiexec the check-up warns, since its own jobs would start within one."""
    monkeypatch.setenv("PMI_SIZE", "2")
    assert doctor._launcher().state == "warn"


def test_a_check_that_breaks_is_a_finding():
    """An operating system error in one check is reported, not raised."""

    def broken():
        raise OSError("no such thing")

    assert doctor._guarded("subject", broken) == Finding("fail", "subject", "no such thing")


def test_doctor_warns_of_another_mpiexec(two_mpis):
    """Who types plain mpiexec would get another MPI's: the check-up says so, and what to do."""
    mpich, openmpi = two_mpis
    assert doctor._mpiexec(mpich) == Finding("ok", "mpiexec", mpich)
    found = doctor._mpiexec(openmpi)
    assert found.state == "warn"
    assert mpich in found.text
    assert "distdl launch" in found.text


def test_doctor_looks_at_shared_memory(monkeypatch, tmp_path):
    """Little room for messages is a warning; a system without the directory is fine."""
    monkeypatch.setattr(shared_memory, "PLACE", str(tmp_path))
    assert doctor._shared_memory().state == "ok"
    monkeypatch.setattr(doctor, "_SHARED_MEBIBYTES", 1 << 60)
    assert doctor._shared_memory().state == "warn"
    monkeypatch.setattr(shared_memory, "PLACE", str(tmp_path / "missing"))
    assert doctor._shared_memory().state == "ok"


def test_doctor_reads_the_settings(monkeypatch):
    """Variables that are set are shown; a slip of the pen is a warning, a wrong value a failure."""
    for name in settings.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert "none" in doctor._settings().text
    monkeypatch.setenv("DISTDL_NUM_THREADS", "3")
    assert doctor._settings() == Finding("ok", "settings", "DISTDL_NUM_THREADS=3")
    assert "3 with 2 ranks a node (set by DISTDL_NUM_THREADS)" in doctor._threads().text
    monkeypatch.setenv("DISTDL_NUM_THREADS", "many")
    assert doctor._guarded("threads", doctor._threads).state == "fail"
    monkeypatch.setenv("DISTDL_THREADS", "3")
    assert doctor._settings().state == "warn"


def test_a_job_that_does_not_meet_is_a_failure(tmp_path):
    """Two processes that each see one rank fail the check-up, with what they said."""
    path = fake_mpiexec(tmp_path / "bin", "rank 0 of 1; rank 0 of 1")
    found = doctor._two_ranks(Mpi("MPICH 5.0", "mpich"), path)
    assert found.state == "fail"
    assert "rank 0 of 1" in found.text

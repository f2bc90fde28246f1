"""Choosing the mpiexec, and its words."""

import os
import stat

import pytest

from distdl.cluster import doctor
from distdl.cluster import launch as launching
from distdl.cluster.doctor import Finding, report
from distdl.cluster.launch import Mpi, find_mpiexec, launch, launch_command
from distdl.core.errors import ArgumentError, LaunchError


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


def test_bad_launches_are_named():
    """A missing script and a rank count below 1 are refused before anything starts."""
    with pytest.raises(ArgumentError, match=r"`script` .* must be a file"):
        launch(2, ["no_such_script.py"])
    with pytest.raises(ArgumentError, match="`ranks` "):
        launch(0, ["no_such_script.py"])


def test_a_library_that_cannot_be_loaded_is_an_error(monkeypatch):
    """Without an MPI library the message says what to install, and the check-up fails but ends."""
    monkeypatch.setattr(launching, "_PROBE", "raise RuntimeError('cannot load MPI library')")
    with pytest.raises(LaunchError, match=r"cannot load MPI library.*pip install 'distdl\[mpich\]'"):
        launching.find_mpi()
    states = {finding.subject: finding.state for finding in doctor.examine()}
    assert states["MPI library"] == "fail"
    assert states["kernel cache"] == "ok"


def test_the_report_has_a_line_per_finding():
    """State, subject and text stand in columns."""
    text = report([Finding("ok", "a", "fine"), Finding("fail", "long subject", "broken")])
    assert text.splitlines() == ["ok    a             fine", "fail  long subject  broken"]


def test_doctor_notices_a_launcher(monkeypatch):
    """Under mpiexec the check-up warns, since its own jobs would start within one."""
    monkeypatch.setenv("PMI_SIZE", "2")
    assert doctor._launcher().state == "warn"


def test_a_check_that_breaks_is_a_finding():
    """An operating system error in one check is reported, not raised."""

    def broken():
        raise OSError("no such thing")

    assert doctor._guarded("subject", broken) == Finding("fail", "subject", "no such thing")

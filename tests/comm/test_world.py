"""Which communicator a process gets, and which starts are refused."""

from types import SimpleNamespace

import pytest

import distdl
from distdl.comm import SerialCommunicator, start, world
from distdl.comm.launcher import find_launcher
from distdl.comm.mpi import library_version
from distdl.comm.software import compare, versions
from distdl.comm.world import check_size
from distdl.core.errors import LaunchError
from tests.parallel.thread_ranks import on_ranks


def test_without_a_launcher_the_world_is_serial():
    """A process that was started alone needs no MPI; the world is made once."""
    if find_launcher() is None:
        assert isinstance(world(), SerialCommunicator)
    assert world() is distdl.world()


@pytest.mark.parametrize(
    ("environment", "name", "size"),
    [
        ({"PMI_SIZE": "4"}, "MPICH", 4),
        ({"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "0"}, "Open MPI", 2),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun", 8),
        ({"JSM_NAMESPACE_SIZE": "8", "PMIX_RANK": "3"}, "jsrun", 8),
        ({"FLUX_JOB_SIZE": "6", "FLUX_TASK_RANK": "0"}, "flux", 6),
        ({"PALS_RANKID": "0"}, "unknown launcher", 0),
        ({"PMIX_RANK": "1"}, "unknown launcher", 0),
        ({"PMI_SIZE": "", "FLUX_TASK_RANK": "0"}, "unknown launcher", 0),
    ],
)
def test_launchers_are_known_by_their_marks(environment, name, size):
    """Each launcher's marks tell who started how many."""
    launcher = find_launcher(environment)
    assert name in launcher.name
    assert launcher.size == size


@pytest.mark.parametrize("environment", [{}, {"SLURM_NTASKS": "8"}, {"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}])
def test_batch_scripts_are_no_launchers(environment):
    """SLURM_NTASKS alone, or a step of one task, starts no ranks."""
    assert find_launcher(environment) is None


def test_singletons_are_refused():
    """Four processes that each see one rank would each train alone: the message says what to do."""
    with pytest.raises(LaunchError, match=r"started 4 processes \(PMI_SIZE=4\), but MPI sees 1.*distdl launch -n"):
        check_size(find_launcher({"PMI_SIZE": "4"}), SerialCommunicator())


def test_other_versions_are_refused():
    """A rank whose NumPy is another than rank 0's is named with its host and both versions, before anything is sent."""

    def meet(changes):
        mine = versions("MPICH 5.0")
        on_ranks(2, lambda comm: compare(comm, "ab"[comm.rank], {**mine, **changes} if comm.rank else mine))

    meet({})
    with pytest.raises(LaunchError, match=r"rank 1 on b has numpy 1\.26, rank 0 on a has \d.*all hosts must"):
        meet({"numpy": "1.26"})
    with pytest.raises(LaunchError, match=r"rank 1 on b has MPI library Open MPI 5, rank 0 on a has MPICH 5\.0"):
        meet({"MPI library": "Open MPI 5"})


def test_an_unknown_launcher_gives_a_warning(capsys):
    """One rank under a launcher that does not say how many it started is not passed over in silence."""
    check_size(find_launcher({"FLUX_TASK_RANK": "0"}), SerialCommunicator())
    assert "FLUX_TASK_RANK" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("MPICH Version:      5.0.2\nMPICH Release date: ...\0", "MPICH 5.0.2"),
        ("Open MPI v5.0.11, package: Open MPI user@localhost Distribution", "Open MPI 5.0.11"),
        ("Intel(R) MPI Library 2021.13 for Linux* OS\n", "Intel(R) MPI Library 2021.13 for Linux* OS"),
    ],
)
def test_mpi_libraries_are_named_shortly(text, version):
    """Of what a library says of itself, name and version are shown."""
    assert library_version(SimpleNamespace(Get_library_version=lambda: text)) == version


def test_addresses_lead_here_from_elsewhere(monkeypatch):
    """The addresses of rank 0's host are listed once each, without those that every host has."""
    names = {"node1": ["127.0.1.1", "10.0.0.1", "10.0.0.1"]}
    monkeypatch.setattr(start.socket, "gethostname", lambda: "node1")
    monkeypatch.setattr(
        start.socket, "getaddrinfo", lambda name, *_: [(None, None, None, "", (ip, 0)) for ip in names[name]]
    )
    found = start._addresses()
    assert found[:2] == ["10.0.0.1", "node1"]
    assert not any(address.startswith("127.") for address in found)
    assert len(set(found)) == len(found)


def test_a_host_whose_name_means_nothing_still_has_a_name(monkeypatch):
    """Where the host's name cannot be resolved here, others may yet know it."""

    def unknown(*_):
        raise start.socket.gaierror

    monkeypatch.setattr(start.socket, "gethostname", lambda: "node1")
    monkeypatch.setattr(start.socket, "getaddrinfo", unknown)
    assert start._addresses()[0] == "node1"

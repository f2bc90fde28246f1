"""Which communicator a process gets, and which starts are refused."""

import pytest

import distdl
from distdl.comm import SerialCommunicator, world
from distdl.comm.launcher import find_launcher
from distdl.comm.world import check_size
from distdl.core.errors import LaunchError


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


def test_an_unknown_launcher_gives_a_warning(capsys):
    """One rank under a launcher that does not say how many it started is not passed over in silence."""
    check_size(find_launcher({"FLUX_TASK_RANK": "0"}), SerialCommunicator())
    assert "FLUX_TASK_RANK" in capsys.readouterr().err

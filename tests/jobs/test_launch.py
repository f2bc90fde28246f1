"""The command line: the same script alone, under mpiexec, and through distdl launch."""

import sys

import pytest

from tests.jobs.launching import MPIEXEC, ROOT, run

pytestmark = pytest.mark.job

DISTDL = [sys.executable, "-m", "distdl"]


@pytest.fixture
def script(tmp_path):
    """A script that prints its rank and arguments."""
    path = tmp_path / "script.py"
    path.write_text(
        "import sys, distdl\ncomm = distdl.world()\n"
        "sys.stdout.write(' '.join([f'rank {comm.rank} of {comm.size}', *sys.argv[1:]]) + '\\n')\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("command", "ranks"),
    [
        ([sys.executable], 1),
        ([str(MPIEXEC), "-n", "2", sys.executable], 2),
        ([*DISTDL, "launch", "-n", "2"], 2),
        ([*DISTDL, "launch", "-n", "3", "--"], 3),
        ([str(ROOT / "launch" / "mpirun.sh")], 2),
    ],
)
def test_the_same_script_runs_in_every_way(script, command, ranks):
    """Plain python, mpiexec, distdl launch and launch/mpirun.sh start the script, arguments and all."""
    environment = {"PYTHON": sys.executable, "MPIEXEC": str(MPIEXEC)}
    ended = run([*command, script, "-n", "3", "--epochs", "3"], environment=environment)
    assert ended.code == 0, ended.output
    for rank in range(ranks):
        assert f"rank {rank} of {ranks} -n 3 --epochs 3" in ended.output


def test_launch_passes_the_exit_code_on(tmp_path):
    """The code of the job is the code of the command."""
    path = tmp_path / "script.py"
    path.write_text("import sys, distdl\ndistdl.world()\nsys.exit(7)\n")
    assert run([*DISTDL, "launch", "-n", "2", str(path)]).code == 7


def test_doctor_finds_this_installation_well():
    """The check-up names MPI, mpiexec and cache, and has a job of two ranks meet."""
    ended = run([*DISTDL, "doctor"])
    assert ended.code == 0, ended.output
    for subject in ("MPI library", "mpiexec", "job of ranks", "threads", "kernel cache"):
        assert any(line.startswith("ok ") and subject in line for line in ended.output.splitlines()), ended.output


def test_import_starts_no_mpi():
    """`import distdl` and one process need neither mpi4py nor an MPI library."""
    program = (
        "import sys\nsys.modules['mpi4py'] = None\nimport distdl\nfrom distdl import nn\n"
        "assert distdl.world().size == 1\nassert 'mpi4py.MPI' not in sys.modules\n"
    )
    assert run([sys.executable, "-c", program]).code == 0


def test_launcher_without_mpi_library_says_what_to_install():
    """Under a launcher, a missing MPI library is an error with a remedy."""
    program = "import sys\nsys.modules['mpi4py'] = None\nimport distdl\ndistdl.world()\n"
    ended = run([sys.executable, "-c", program], environment={"PMI_SIZE": "2"})
    assert ended.code != 0
    assert "pip install 'distdl[mpich]'" in ended.output


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_have_help(example):
    """Every example says what it does."""
    ended = run([sys.executable, f"examples/{example}", "--help"])
    assert ended.code == 0, ended.output
    assert "usage" in ended.output


@pytest.mark.parametrize("script", ["launch/mpirun.sh", "launch/slurm.sbatch"])
def test_job_scripts_say_how_they_are_used(script):
    """Without a script to run, a job script says what it wants."""
    ended = run(["bash", script], environment={"SLURM_JOB_ID": "1"})
    assert ended.code != 0
    assert f"{script} script.py [arguments]" in ended.output

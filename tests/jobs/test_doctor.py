"""Faults planted in an installation, or in what a job is started with: `distdl doctor` finds each, and names it."""

import json
import os
import socket
import sys

import pytest

from tests.jobs.launching import BIN, mpis, run

pytestmark = pytest.mark.job

HERE = socket.gethostname()

SINGLETONS = """#!/bin/sh
# An mpiexec that says that it is of MPICH, and whose processes know nothing of each other.
[ "$1" = --version ] && { echo "HYDRA build details: Version: 5.0"; exit; }
shift 2
for number in 1 2; do "$@" & done
wait
"""

HANGS = """#!/bin/sh
[ "$1" = --version ] && { echo "HYDRA build details: Version: 5.0"; exit; }
echo "waiting for a licence" >&2
exec sleep 1000
"""

OTHER = '#!/bin/sh\necho "mpiexec (Open MPI) 5.0"\n'


def examine(*options, binaries=BIN, before=(), **environment):
    """Run the check-up, and return its exit code and its findings by subject."""
    words = [*before, str(binaries / "python"), "-m", "distdl", "doctor", "--json", *options]
    ended = run(words, timeout=120, environment=environment)
    report = json.loads(ended.output)
    assert ended.code == report["code"]
    return ended.code, {finding["subject"]: (finding["state"], finding["text"]) for finding in report["findings"]}


def program(directory, name, text):
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def host_file(directory, text):
    path = directory / "hosts.txt"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("binaries", mpis(), ids=lambda path: path.parent.name)
def test_what_is_well_is_green(binaries, tmp_path):
    """Nothing is red here, and the job of ranks has measured all that it should."""
    code, found = examine("--shared", str(tmp_path), binaries=binaries)
    assert code == 0, found
    assert {"job of ranks", "same versions", "thread pools", "thread level", "shared directory"} <= set(found)
    # Which of the two is a matter of time: a machine that other tests keep busy has a slow link.
    assert len({"links", "slow link"} & set(found)) == 1, found
    assert any("2 ranks met" in text for _, text in found.values())
    assert os.listdir(tmp_path) == []


FAULTS = {
    "an MPI library that is not there": (
        {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"},
        (),
        ("fail", "MPI library", "mpi4py finds no MPI library"),
    ),
    "a rank on one core, told many threads": (
        {"OMP_NUM_THREADS": "4"},
        ("taskset", "-c", "0"),
        ("warn", "binding", "4 threads (OMP_NUM_THREADS)"),
    ),
    "two ranks on one core": (
        {},
        ("taskset", "-c", "0"),
        ("warn", "oversubscription", f"{HERE}: 2 threads of 2 ranks on 1 core"),
    ),
    "a cache that cannot be written": (
        {"DISTDL_CACHE_DIR": "/proc/none"},
        (),
        ("warn", "kernel cache", "DISTDL_CACHE_DIR (=/proc/none) cannot be written: kernels are kept in"),
    ),
    "a variable that means nothing": (
        {"DISTDL_NUM_THREAD": "2"},
        (),
        ("warn", "settings", "DISTDL_NUM_THREAD means nothing"),
    ),
    "an allocation of another size": (
        {"SLURM_NTASKS": "8"},
        (),
        ("warn", "scheduler", "the allocation has 8 slots (SLURM_NTASKS), the job 2 ranks"),
    ),
    "a check-up within a job": ({"PMI_SIZE": "2"}, (), ("warn", "launcher", "run the check-up in a plain shell")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(fault):
    """Under its name, with what tells it; red ones give the exit code 1."""
    environment, before, (state, subject, text) = FAULTS[fault]
    code, found = examine(before=before, **environment)
    assert found[subject][0] == state, found
    assert text in found[subject][1]
    assert code == (1 if state == "fail" else 0), found


def test_another_mpiexec_first_in_the_path(tmp_path):
    """Plain mpiexec would be another MPI's."""
    program(tmp_path, "mpiexec", OTHER)
    _, found = examine(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert found["mpiexec"][0] == "warn"
    assert f"{tmp_path}/mpiexec, of another MPI" in found["mpiexec"][1]


def test_an_mpiexec_whose_ranks_do_not_meet(tmp_path):
    """Two processes that each see one rank: the mpiexec is not the library's."""
    mpiexec = program(tmp_path, "mpiexec", SINGLETONS)
    code, found = with_mpiexec(mpiexec)
    assert code == 1
    assert found["job of ranks"] == (
        "fail",
        "a job of 2 ranks was 2 jobs of one rank: mpiexec does not belong to the MPI library of mpi4py",
    )


def test_an_mpiexec_that_hangs(tmp_path):
    """The check-up ends it, and says what it said last."""
    mpiexec = program(tmp_path, "mpiexec", HANGS)
    code, found = with_mpiexec(mpiexec, seconds=2)
    assert code == 1
    assert found["job of ranks"][1].endswith("was ended; it said last: waiting for a licence")


def with_mpiexec(path, seconds=60):
    """Run the check-up of the ranks with another mpiexec."""
    script = (
        "import json, sys\nfrom distdl.cluster import doctor, rank_job\n"
        f"rank_job.find_mpiexec = lambda mpi: {str(path)!r}\ndoctor.PROBE_SECONDS = {seconds}\n"
        "print(doctor.to_json(doctor.examine()))"
    )
    ended = run([sys.executable, "-c", script], timeout=100)
    report = json.loads(ended.output)
    return report["code"], {finding["subject"]: (finding["state"], finding["text"]) for finding in report["findings"]}


def test_a_host_that_does_not_answer(tmp_path):
    """The host is named, and no job is started."""
    shell = program(tmp_path, "shell", "#!/bin/sh\nexit 255\n")
    hosts = host_file(tmp_path, f"{HERE}:1\nnode7:1\n")
    code, found = examine("--hostfile", hosts, "--remote-shell", str(shell))
    assert code == 1
    assert found["hosts"][0] == "fail"
    assert found["hosts"][1].startswith(f"node7 cannot be reached by {shell}")
    assert "job of ranks" not in found


def test_a_directory_that_is_not_there(tmp_path):
    """The shared directory is named, and the host that should write it."""
    code, found = examine("--shared", str(tmp_path / "none"))
    assert code == 1
    assert found["shared directory"] == ("fail", f"{tmp_path}/none cannot be written by rank 0 on {HERE}: is it there?")


def test_bad_input_is_told_before_anything_starts(tmp_path):
    """More ranks than slots, and a damaged host file: one line, exit code 2."""
    for text, message in (("a:1\nb:1\n", "`ranks` (=3) must be at most 2"), ("a b c\n", "line 1: 'a b c'")):
        ended = run([sys.executable, "-m", "distdl", "doctor", "-n", "3", "--hostfile", host_file(tmp_path, text)])
        assert ended.code == 2
        assert message in ended.output
        assert len(ended.output.splitlines()) == 1

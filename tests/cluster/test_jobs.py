"""Job scripts: what launch/ holds, what a user's numbers make of it, and what the scripts do as jobs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distdl.cli.main import main
from distdl.cluster.jobs.render import KINDS, render
from distdl.cluster.jobs.request import Request
from distdl.core.errors import ArgumentError

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "golden"
SHELL = sorted(set(KINDS) - {"k8s"})

WORDS = ("train.py", "--note", 'it\'s $HOME & "more"', "*")
"""Words that only survive where they are quoted well."""


def request(kind, **changes):
    """Ask for what no default asks for."""
    numbers = {"ranks": 12, "time": "24:30:00", "name": "sweep-7", "python": "/opt/env/bin/python", "command": WORDS}
    if kind != "mpirun":
        numbers |= {"nodes": 16, "cores": 10}
    if kind not in ("mpirun", "k8s"):
        numbers |= {"account": "physics", "queue": "long", "setup": ("module load openmpi/5.0", "ulimit -n 4096")}
    if kind == "k8s":
        numbers |= {"image": "registry.example/team/distdl:1.2"}
    return dataclasses.replace(KINDS[kind].default, **{**numbers, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_launch_holds_what_the_renderer_prints_by_default(kind):
    """People copy from launch/ the text that `distdl job` prints."""
    path = ROOT / "launch" / KINDS[kind].file
    assert path.read_text() == render(kind)
    assert os.access(path, os.X_OK) == (path.suffix == ".sh")


@pytest.mark.parametrize("kind", KINDS)
def test_a_users_numbers_are_filled_in(kind):
    """The text for one unusual job is what was read over by eye; DISTDL_TEST_GOLDEN=1 writes it anew."""
    path = GOLDEN / KINDS[kind].file
    text = render(kind, request(kind))
    if os.environ.get("DISTDL_TEST_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("kind", SHELL)
@pytest.mark.parametrize("asked", ["by default", "by a user"])
def test_shell_is_well_formed(kind, asked, tmp_path):
    """The shell parses it, and shellcheck finds nothing."""
    path = tmp_path / KINDS[kind].file
    path.write_text(render(kind, request(kind) if asked == "by a user" else None))
    subprocess.run(["bash", "-n", path], check=True)
    # A $ in a word of the user's is meant as it stands.
    words = [Path(sys.executable).parent / "shellcheck", "--exclude=SC2016", path]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_image_is_well_formed():
    """hadolint finds nothing in launch/Dockerfile."""
    words = [Path(sys.executable).parent / "hadolint", ROOT / "launch" / "Dockerfile"]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_job_of_kubernetes_is_one():
    """It has what MPIJob v2beta1 requires, and the user's words arrive as they are."""
    job = yaml.safe_load(render("k8s", request("k8s")))
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("kubeflow.org/v2beta1", "MPIJob", "sweep-7")
    spec = job["spec"]
    assert (spec["slotsPerWorker"], spec["mpiImplementation"]) == (12, "MPICH")
    launcher, worker = (spec["mpiReplicaSpecs"][name] for name in ("Launcher", "Worker"))
    assert (launcher["replicas"], worker["replicas"]) == (1, 16)
    [first], [second] = (part["template"]["spec"]["containers"] for part in (launcher, worker))
    assert first["args"] == list(WORDS)
    assert first["image"] == second["image"] == "registry.example/team/distdl:1.2"
    assert second["resources"]["limits"]["cpu"] == 120
    for part in (launcher, worker):
        volumes = {volume["name"] for volume in part["template"]["spec"]["volumes"]}
        [container] = part["template"]["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


STAND_IN = """#!/bin/sh
# Stands in for mpiexec, srun and Python: says what it is told, waits for notice, and leaves.
[ "$1" != -n ] || shift 2
for word in "$@"; do echo "word <$word>"; done
echo "threads <${DISTDL_NUM_THREADS-}> checkpoints <${DISTDL_CHECKPOINT_DIR-}>"
trap 'exit 75' USR1
# Not before the job's shell is ready for it: SIGUSR1 is bit 9 of the signals that it catches.
is_ready() { caught=$(grep SigCgt "/proc/$STAND_IN_TELLS/status") && [ $((0x${caught##*[!0-9a-f]} & 512)) -ne 0 ]; }
until is_ready; do sleep 0.05; done
kill -USR1 "$STAND_IN_TELLS"
while :; do sleep 0.05; done
"""
QUEUED = '#!/bin/sh\necho "queued again: $(basename "$0") $*"\n'

# What each scheduler tells its jobs.
ALLOCATIONS = {
    "slurm": {
        "SLURM_JOB_ID": "12",
        "SLURM_JOB_NAME": "mine",
        "SLURM_NTASKS": "4",
        "SLURM_CPUS_PER_TASK": "3",
        "STARTER": "mpiexec",
    },
    "slurm-array": {
        "SLURM_JOB_ID": "13",
        "SLURM_JOB_NAME": "mine",
        "SLURM_NTASKS": "4",
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_ARRAY_TASK_ID": "2",
    },
    "pbs": {"PBS_JOBNAME": "mine", "PBS_NODEFILE": "nodes", "PBS_O_WORKDIR": ".", "OMP_NUM_THREADS": "3"},
    "lsf": {"LSB_JOBNAME": "mine", "LSB_DJOB_HOSTFILE": "nodes"},
    "sge": {"JOB_NAME": "mine", "PE_HOSTFILE": "slots"},
}


def start(kind, directory, asked):
    """Run a job script as its scheduler would, with stand-ins; a job hears USR1 as soon as it trains."""
    programs = directory / "bin"
    programs.mkdir()
    for name, text in {
        **dict.fromkeys(("python", "srun", "mpiexec"), STAND_IN),
        **dict.fromkeys(("scontrol", "qsub"), QUEUED),
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (directory / "nodes").write_text("a\na\nb\nb\n")
    (directory / "slots").write_text("a 8 all.q@a UNDEFINED\nb 9 all.q@b UNDEFINED\nc 3 all.q@c UNDEFINED\n")
    script = directory / "script"
    script.write_text(render(kind, asked))
    # The shell tells its children its own number: exec keeps it.
    words = ["bash", "-c", 'export STAND_IN_TELLS=$$; exec bash "$@"', "bash", script]
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", **ALLOCATIONS[kind]}
    return subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_a_job_that_is_told_to_leave_is_queued_again(kind, tmp_path):
    """The notice reaches the training, whose exit code 75 queues the job again; output and checkpoints have a place."""
    asked = dataclasses.replace(KINDS[kind].default, command=WORDS, cores=3, setup=())
    ended = start(kind, tmp_path, asked)
    place = Path("jobs/mine/2" if kind == "slurm-array" else "jobs/mine")
    output = (tmp_path / place / "output.txt").read_text()
    words = list(WORDS) + (["--lr", "0.05"] if kind == "slurm-array" else [])
    assert "".join(f"word <{word}>\n" for word in words) in output, ended.stderr
    assert f"threads <3> checkpoints <{place}/checkpoints>" in output
    again = {
        "slurm": "queued again: scontrol requeue 12",
        "slurm-array": "queued again: scontrol requeue 13",
        "pbs": "queued again: qsub -N mine jobs/mine/job.sh",
    }
    assert again.get(kind, "") in output
    # 99 is Grid Engine's sign; LSF queues 75 again by itself (-Q).
    assert ended.returncode == (99 if kind == "sge" else 75), output + ended.stderr
    hosts = {"pbs": "a\na\nb\nb\n", "lsf": "a\na\nb\nb\n", "sge": "a:2\nb:3\nc:1\n"}
    if kind in hosts:
        assert (tmp_path / place / "hosts.txt").read_text() == hosts[kind]


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_outside_of_its_scheduler_a_script_says_how_to_submit_it(kind, tmp_path):
    """Run by hand it ends at once, and names the command that submits it."""
    path = tmp_path / "script"
    path.write_text(render(kind, request(kind)))
    ended = subprocess.run(
        ["bash", path], capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}
    )
    assert ended.returncode != 0
    assert "submit this by" in ended.stderr


BAD = {
    "nodes": ({"nodes": 0}, "`nodes` (=0)"),
    "time": ({"time": "1h"}, "`time` (='1h') must be HH:MM:SS"),
    "too short a time": ({"time": "00:03:59"}, "five minutes or more"),
    "name": ({"name": "a b"}, "`name` (='a b') must be a letter"),
    "a name of a directory": ({"name": "../x"}, "must be a letter"),
    "account": ({"account": "x; rm -r ."}, "`account`"),
    "queue": ({"queue": "a\nb"}, "`queue`"),
    "setup": ({"setup": ("a\nb",)}, "`setup`"),
    "command": ({"command": ("a\nb",)}, "`command`"),
    "image": ({"image": "x\n- y"}, "`image`"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_would_break_a_script_is_refused(case):
    """The message names argument, value and rule."""
    changes, message = BAD[case]
    with pytest.raises(ArgumentError) as raised:
        Request(**changes)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("pbs", {"name": "a-name-of-16-lett"}, "<= 15 letters"),
        ("k8s", {"name": "Upper"}, "for Kubernetes"),
        ("k8s", {"queue": "long"}, "takes no account, queue or setup"),
        ("mpirun", {"nodes": 2}, "takes no account, queue, nodes or cores"),
        ("cron", {}, "must be one of mpirun, slurm"),
    ],
)
def test_what_a_scheduler_does_not_take_is_refused(kind, changes, message):
    """Rules of one scheduler are told with its name."""
    with pytest.raises(ArgumentError) as raised:
        render(kind, dataclasses.replace(Request(), **changes))
    assert message in str(raised.value)


def test_the_command_prints_a_script(capsys):
    """`distdl job` prints the script with the numbers given, and says what is missing here on stderr."""
    assert main(["job", "slurm", "--nodes", "3", "--", "train.py", "--lr", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "#SBATCH --nodes=3\n" in text
    assert "set -- train.py --lr 0.1 " in text
    assert main(["job", "lsf", "--time", "soon"]) == 2
    assert capsys.readouterr().err.endswith("distdl job: `time` (='soon') must be HH:MM:SS, five minutes or more\n")

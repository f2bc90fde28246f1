"""The supervisor, with stand-ins for mpiexec and for the way to other hosts."""

import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest

from distdl.cluster import reach, supervisor
from distdl.cluster.attempt import Attempt
from distdl.cluster.hosts import Host
from distdl.cluster.processes import LocalRanks, marked
from distdl.cluster.supervisor import Job, launch, supervise
from distdl.core.errors import ArgumentError, LaunchError

NEWS = "distdl: rank 1 of 2 on node: something is wrong"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.02)


@pytest.fixture
def program(tmp_path):
    """Write a shell script, and return its path."""

    def write(text, name="mpiexec"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


def job(mpiexec, ranks=2, **options):
    return Job(["python", "x.py"], mpiexec, options.pop("family", "mpich"), ranks, **options)


def test_a_job_that_ends_well_is_not_repeated(program, tmp_path):
    assert supervise(job(program("echo run >> runs; exit 0"), max_restarts=3)) == 0
    assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize("code", [2, 75, 130])
def test_what_would_be_the_same_again_is_not_repeated(program, tmp_path, code):
    """A wrong command line, a job that left to go on later, Ctrl-C."""
    assert supervise(job(program(f"echo run >> runs; exit {code}"), max_restarts=3)) == code
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_job_that_dies_is_repeated_and_its_deaths_are_reported(program, tmp_path, capfd):
    """With what the rank said, from where it goes on, and growing pauses; at last all deaths."""
    text = f"echo run >> runs; echo '{NEWS}' >&2; exit 4"
    assert supervise(job(program(text), max_restarts=2, position=lambda: "checkpoint 7")) == 4
    assert (tmp_path / "runs").read_text() == "run\n" * 3
    said = capfd.readouterr().err
    reason = NEWS.removeprefix("distdl: ")
    for part in (
        f"died after 0 s with exit code 4: {reason}; restart 1 of 2 in 0.02 s, from checkpoint 7",
        "restart 2 of 2 in 0.04 s",
        "gave up after 2 restarts:\n  1. started 2",
    ):
        assert part in said
    assert said.count(NEWS) == 3


def test_the_exception_is_told(program, capfd):
    """Its last line stands for the traceback; a second rank's changes nothing."""
    lines = (
        "distdl: rank 0 of 2 on node: uncaught exception, the job ends\nTraceback\n  x\nValueError: odd\nTypeError: b"
    )
    assert supervise(job(program(f"printf '%s\\n' '{lines}' >&2; exit 1"), max_restarts=1)) == 1
    assert "exit code 1: rank 0 of 2 on node: ValueError: odd; restart" in capfd.readouterr().err


def test_an_end_by_a_signal_has_the_code_of_a_shell(program, capfd):
    """And who says nothing is said to have said nothing."""
    assert supervise(job(program("kill -9 $$"), max_restarts=1)) == 128 + 9
    assert "no rank said why" in capfd.readouterr().err


def test_an_mpiexec_that_lingers_is_killed(program, capfd):
    """Some time after a rank has said that the job ends."""
    text = f"echo '{NEWS}' >&2; exec sleep 100"
    start = time.monotonic()
    assert supervise(job(program(text), end_timeout=0.3)) == 128 + 9
    assert time.monotonic() - start < 30
    assert "mpiexec still runs 0.3 s after the end of the job: killed" in capfd.readouterr().err


def test_what_a_dead_job_leaves_behind_is_killed(program, tmp_path, monkeypatch):
    """On this machine, after a while."""
    monkeypatch.setattr("distdl.cluster.attempt.KILL_SECONDS", 0.2)
    attempt = Attempt([program("sleep 100 & echo $! > child; exit 1")], "mpich", {}, 5.0)
    assert attempt.run().code == 1
    assert (tmp_path / "child").read_text()
    deadline = time.monotonic() + 5
    while marked(attempt._mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not marked(attempt._mark)


def test_a_rank_that_could_not_be_named_by_others_is_named(program, monkeypatch, capfd):
    """Its launcher has killed them, too; by who ended first. Processes that a rank has started are none."""
    monkeypatch.setattr("distdl.cluster.processes.LOOK_SECONDS", 0.0)
    ranks = "PMI_RANK=0 sleep 20 & zero=$!; PMI_RANK=1 sh -c 'sleep 20 & wait' & one=$!"
    text = f"{ranks}; sleep 0.5; kill -9 $one; sleep 0.2; kill -9 $zero; exit 9"
    assert supervise(job(program(text), max_restarts=1)) == 9
    assert re.search(r"exit code 9: rank 1 \(\S+, process \d+\) has died; restart 1 of 1", capfd.readouterr().err)


LISTENING = "trap 'exit 15' TERM; trap 'exit 10' USR1; touch ready; while :; do sleep 0.02; done"


@pytest.mark.parametrize(("family", "expected"), [("mpich", 15), ("openmpi", 10)])
@pytest.mark.parametrize("moment", ["before mpiexec starts", "while it starts", "while it runs"])
def test_sigterm_reaches_the_ranks(program, tmp_path, monkeypatch, moment, family, expected):
    """As SIGUSR1 under Open MPI, whose mpiexec would kill them; the job is not repeated; handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)

    def send():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    class Starting(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if moment == "while it starts":
                send()
            while not (tmp_path / "ready").exists():
                time.sleep(0.01)

    def exported(environment):
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    if moment == "before mpiexec starts":
        monkeypatch.setattr(supervisor, "exported", exported)
    if moment != "while it runs":
        monkeypatch.setattr(subprocess, "Popen", Starting)
    else:
        monkeypatch.setattr(LocalRanks, "wait", lambda self, seconds: send())
    assert supervise(job(program(LISTENING), family=family, max_restarts=3)) == expected
    assert signal.getsignal(signal.SIGTERM) is before


def test_nohup_is_heard_by_nobody(program, tmp_path):
    """What is ignored is not passed on, and the job ignores it, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert supervise(job(program(f"kill -HUP {os.getpid()}; kill -HUP $$; exit 0"))) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["reachable", "say"])
def test_a_signal_while_nothing_runs_ends_the_job(program, tmp_path, monkeypatch, moment, number, code):
    """Before the first run, while hosts are asked, and in the pause before the second."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 50.0)
    real = getattr(supervisor, moment)

    def told(*arguments):
        os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(supervisor, moment, told)
    assert supervise(job(program("echo run >> runs; exit 1"), max_restarts=3)) == code
    assert (tmp_path / "runs").exists() == (moment == "say")


class TestHosts:
    """A host of the host file is gone."""

    hosts = (Host("localhost", 2), Host("b", 2), Host("c", 1))

    @pytest.fixture
    def shell(self, program):
        """Reaches the hosts that have a file of their name."""
        return program('test -e "host-$1"', "shell")

    def test_the_job_goes_on_on_the_others(self, program, shell, tmp_path, capfd):
        """With as many ranks as they have slots."""
        (tmp_path / "host-b").touch()
        (tmp_path / "host-c").touch()
        mpiexec = program('echo "$*" >> runs; test -e host-b || exit 0; rm host-b; exit 1')
        assert supervise(job(mpiexec, 5, hosts=self.hosts, remote_shell=shell, min_ranks=3, max_restarts=2)) == 0
        first, second = (tmp_path / "runs").read_text().splitlines()
        assert first.startswith("-n 5 -hosts localhost:2,b:2,c:1 ")
        assert second.startswith("-n 3 -hosts localhost:2,c:1 ")
        assert "b cannot be reached: 3 of 5 ranks, on the hosts that are left" in capfd.readouterr().err

    def test_too_few_from_the_start(self, shell):
        """Are an error that names them."""
        with pytest.raises(LaunchError, match=r"b, c cannot be reached by .*shell: 2 ranks are left, all 5 are needed"):
            supervise(job("mpiexec", 5, hosts=self.hosts, remote_shell=shell))
        with pytest.raises(LaunchError, match="at least --min-ranks 4 are needed"):
            supervise(job("mpiexec", 5, hosts=self.hosts, remote_shell=shell, min_ranks=4))

    def test_too_few_later(self, program, shell, tmp_path, capfd):
        """Count as a death: they may come back."""
        (tmp_path / "host-b").touch()
        (tmp_path / "host-c").touch()
        mpiexec = program("rm host-b host-c; exit 7")
        assert supervise(job(mpiexec, 5, hosts=self.hosts, remote_shell=shell, max_restarts=1)) == 1
        assert "exit code 1: b, c cannot be reached" in capfd.readouterr().err

    def test_no_way_to_hosts(self):
        with pytest.raises(LaunchError, match="no-such-shell, the way to other hosts, cannot be run"):
            supervise(job("mpiexec", 5, hosts=self.hosts, remote_shell="no-such-shell"))

    def test_a_host_that_does_not_answer_is_gone(self, program, monkeypatch):
        monkeypatch.setattr(reach, "SECONDS", 0.1)
        with pytest.raises(LaunchError, match="b, c cannot be reached"):
            supervise(job("mpiexec", 5, hosts=self.hosts, remote_shell=program("exec sleep 50", "shell")))


def test_bad_launches_are_named(tmp_path):
    """A missing script, ranks that are none, too many or unknown; before anything starts."""
    script = tmp_path / "script.py"
    script.touch()
    with pytest.raises(ArgumentError, match=r"`script` .* must be a file"):
        launch(["no_such_script.py"], 2)
    with pytest.raises(ArgumentError, match=r"`ranks` .* must be given where no host file says"):
        launch([str(script)])
    with pytest.raises(ArgumentError, match="`ranks` "):
        launch([str(script)], 0)
    with pytest.raises(ArgumentError, match=r"`ranks` .* at most 5, the slots of all hosts"):
        job("mpiexec", 6, hosts=TestHosts.hosts)
    with pytest.raises(ArgumentError, match=r"`min_ranks` .* at most 2"):
        job("mpiexec", 2, min_ranks=3)
    with pytest.raises(ArgumentError, match="`max_restarts`"):
        job("mpiexec", 2, max_restarts=-1)
    with pytest.raises(ArgumentError, match="`end_timeout`"):
        job("mpiexec", 2, end_timeout=0.0)


def test_the_host_file_says_how_many(tmp_path, program, monkeypatch):
    """Where the command line does not."""
    (tmp_path / "hosts").write_text("localhost:3\n")
    (tmp_path / "x.py").touch()
    monkeypatch.setattr(supervisor, "find_mpiexec", lambda mpi: program('echo "$*" > words'))
    assert launch([str(tmp_path / "x.py"), "-a"], hostfile=tmp_path / "hosts") == 0
    assert (tmp_path / "words").read_text().split()[:4] == ["-n", "3", "-hosts", "localhost:3"]
    assert (tmp_path / "words").read_text().split()[-3:] == [sys.executable, str(tmp_path / "x.py"), "-a"]

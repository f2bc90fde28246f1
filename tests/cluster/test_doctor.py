"""The check-up: what the facts of a job's ranks mean, and how it is shown."""

import dataclasses
import io
import json

import pytest

from distdl.cluster import shared_memory
from distdl.cluster.checks import allocation, cache, mpi, settings, threads
from distdl.cluster.checks import shared_memory as shared_memory_check
from distdl.cluster.checks.finding import Finding
from distdl.cluster.checks.report import Facts, Link, Report, names
from distdl.cluster.doctor import Request, exit_code, guarded, judge, show, to_json
from distdl.core import settings as known
from distdl.core.errors import ArgumentError

VERSIONS = {"distdl": "1.0", "numpy": "2.1", "MPI library": "MPICH 5", "CPU kind": "Xeon"}


def rank(number, host, **changes):
    """Make the facts of a rank that is well: one of two on a host of four cores."""
    first = 2 * (number % 2)
    facts = Facts(
        rank=number,
        host=host,
        process=100 + number,
        place=host,
        cores=[first, first + 1],
        threads=2,
        reason="share of 2 cores",
        pools={"openblas 0.3": 2},
        versions=dict(VERSIONS),
        has_threads=True,
        shared_mebibytes=4096,
        cache="/home/me/.cache",
        cache_kind="ext4",
        speed=100.0,
        sees_shared=True,
    )
    return dataclasses.replace(facts, **changes)


def report(changes=None, links=None, hosts=3, shared="/shared"):
    """Make a report of two ranks on each of some hosts; changes are by rank."""
    ranks = [rank(n, f"node{n // 2 + 1}", **(changes or {}).get(n, {})) for n in range(2 * hosts)]
    usual = [Link(f"node{n + 2}", 40e-6, 1e9, 0.001) for n in range(hosts - 1)]
    return Report(ranks, usual if links is None else links, shared)


def test_what_is_well_is_green():
    """Three hosts that are alike get no warning, and each check says something."""
    found = list(judge(report()))
    assert {f.state for f in found} == {"ok"}
    subjects = [f.subject for f in found]
    assert subjects == [
        "same versions",
        "binding",
        "thread pools",
        "thread level",
        "clocks",
        "links",
        "speed",
        "shared directory",
        "kernel cache",
    ]


def both(host, **changes):
    """Change both ranks of a host, counted from 1."""
    return {2 * host - 2: changes, 2 * host - 1: changes}


FAULTS = {
    "another numpy on one host": (
        report(both(2, versions={**VERSIONS, "numpy": "1.26"})),
        ("fail", "same versions", "numpy is 2.1 on node1, node3; 1.26 on node2"),
    ),
    "another MPI library on one host": (
        report(both(3, versions={**VERSIONS, "MPI library": "Open MPI 5"})),
        ("fail", "same versions", "Open MPI 5 on node3"),
    ),
    "another CPU": (
        report(both(3, versions={**VERSIONS, "CPU kind": "EPYC"})),
        ("warn", "same versions", "EPYC on node3"),
    ),
    "a rank on one core with many threads": (
        report({4: {"cores": [3], "threads": 8, "reason": "OMP_NUM_THREADS"}}),
        ("warn", "binding", "rank 4 on node3: 8 threads (OMP_NUM_THREADS), bound to core 3 alone"),
    ),
    "more threads than cores on a node": (
        report(both(2, cores=[0, 1], threads=2)),
        ("warn", "oversubscription", "node2: 4 threads of 2 ranks on 2 cores"),
    ),
    "a BLAS with threads of its own": (
        report({1: {"pools": {"openblas 0.3": 64}}}),
        ("warn", "thread pools", "openblas 0.3 on rank 1 (node1): 64 threads, 2 are its share"),
    ),
    "threads that may not talk": (report({0: {"has_threads": False}}), ("warn", "thread level", "may not talk")),
    "a clock that is ahead": (
        report(links=[Link("node2", 4e-5, 1e9, 0.0), Link("node3", 4e-5, 1e9, 3.25)]),
        ("warn", "clocks", "node3 is 3.2 s ahead of node1"),
    ),
    "a clock of another day": (
        report(links=[Link("node2", 4e-5, 1e9, -86400.0), Link("node3", 4e-5, 1e9, 0.0)]),
        ("fail", "clocks", "node2 is 86400.0 s behind of node1"),
    ),
    "a slow link": (
        report(links=[Link("node2", 4e-5, 1e9, 0.0), Link("node3", 4e-5, 1e8, 0.0)]),
        ("warn", "slow link", "node3: 100.0 MB/s to node1, others reach 1.0 GB/s"),
    ),
    "a slow network": (
        report(links=[Link("node2", 4e-5, 1e7, 0.0)], hosts=2),
        ("warn", "slow link", "10.0 MB/s: slower than half of gigabit Ethernet; does MPI take the right interface?"),
    ),
    "a slow link without a network": (
        report(links=[Link("node1", 4e-5, 1e7, 0.0)], hosts=1),
        ("warn", "slow link", "10.0 MB/s: slower than half of gigabit Ethernet; do other jobs use the cores?"),
    ),
    "a slow host": (
        report(both(2, speed=40.0)),
        ("warn", "slow host", "node2: 40 gigaflop/s a rank, others up to 100"),
    ),
    "little shared memory on one host": (
        report(both(3, shared_mebibytes=64)),
        ("warn", "shared memory", "node3 has 64 MiB, 128 are needed"),
    ),
    "a host without the shared directory": (
        report(both(2, sees_shared=False)),
        ("fail", "shared directory", "/shared is not the same on node2 as on node1"),
    ),
    "no shared directory": (
        report({n: {"sees_shared": False} for n in range(6)}),
        ("fail", "shared directory", "/shared cannot be written by rank 0 on node1"),
    ),
    "a cache that one host cannot write": (
        report(both(3, cache="")),
        ("warn", "kernel cache", "no directory can be written on node3"),
    ),
    "a cache across the network": (
        report({n: {"cache_kind": "nfs4"} for n in range(6)}),
        ("warn", "kernel cache", "network file system (nfs4) on node1, node2, node3"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_ranks_is_found_and_named(fault):
    """It alone is yellow or red, under its name, with host or rank and figure."""
    data, (state, subject, text) = FAULTS[fault]
    # As it comes from the job.
    data = Report.parse(json.loads(json.dumps(dataclasses.asdict(data))))
    [found] = [f for f in judge(data) if f.state != "ok"]
    assert (found.state, found.subject) == (state, subject)
    assert text in found.text


def test_long_lists_are_cut():
    """A thousand bad hosts fit on a line."""
    assert names(range(1000)) == "0, 1, 2, 3 and 996 more"


def test_it_is_shown_as_a_line_a_finding():
    """State, subject and text stand in columns; the last line sums up; colours are for terminals."""
    findings = [Finding("ok", "a", "fine"), Finding("fail", "long subject", "broken")]
    assert show(findings).splitlines() == [
        "ok    a             fine",
        "fail  long subject  broken",
        "",
        "1 fail: see above",
    ]
    assert show(findings[:1]).splitlines()[-1] == "all is well"
    assert show(findings, io.StringIO()) == show(findings)


def test_colours_are_for_terminals(monkeypatch):
    """Unless NO_COLOR is set."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mfail\x1b[0m" in show([Finding("fail", "a", "b")], Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in show([Finding("fail", "a", "b")], Terminal())


def test_json_holds_all_of_it():
    """For programs: the findings, and the exit code."""
    findings = [Finding("warn", "a", "b")]
    assert json.loads(to_json(findings)) == {"code": 0, "findings": [{"state": "warn", "subject": "a", "text": "b"}]}
    assert exit_code([*findings, Finding("fail", "c", "d")]) == 1


def test_a_check_that_breaks_is_a_finding():
    """An operating system error in one check is reported, not raised."""

    def broken(subject):
        raise OSError("no such thing")

    assert guarded("distdl.a_subject", broken, None) == [Finding("fail", "a subject", "no such thing")]


def only(findings):
    [found] = findings
    return found


def test_another_mpiexec_first_in_the_path_is_a_warning(two_mpis):
    """Who types plain mpiexec would get another MPI's: the check-up says so, and what to do."""
    mpich, openmpi = two_mpis
    assert mpi.compare(mpich) == Finding("ok", "mpiexec", mpich)
    found = mpi.compare(openmpi)
    assert found.state == "warn"
    assert mpich in found.text
    assert "distdl launch" in found.text


def test_shared_memory_is_looked_at(monkeypatch, tmp_path):
    """Little room for messages is a warning; a system without the directory is fine."""
    monkeypatch.setattr(shared_memory, "PLACE", str(tmp_path))
    assert only(shared_memory_check.check(Request())).state == "ok"
    monkeypatch.setattr(shared_memory_check, "MEBIBYTES", 1 << 60)
    assert only(shared_memory_check.check(Request())).state == "warn"
    monkeypatch.setattr(shared_memory, "PLACE", str(tmp_path / "missing"))
    assert only(shared_memory_check.check(Request())).state == "ok"


def test_settings_are_read(monkeypatch):
    """Variables that are set are shown; a slip of the pen is a warning, a wrong value a failure."""
    for name in (*known.VARIABLES, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert "none" in only(settings.check(Request())).text
    monkeypatch.setenv("DISTDL_NUM_THREADS", "1")
    assert only(settings.check(Request())) == Finding("ok", "settings", "DISTDL_NUM_THREADS=1")
    assert "1 with 2 ranks a node (set by DISTDL_NUM_THREADS)" in only(threads.check(Request())).text
    monkeypatch.setenv("DISTDL_NUM_THREADS", "many")
    assert only(guarded("threads", threads.check, Request())).state == "fail"
    monkeypatch.setenv("DISTDL_THREADS", "3")
    assert only(settings.check(Request())).state == "warn"


ALLOCATIONS = {
    "Slurm": ({"SLURM_NTASKS": "8"}, ("Slurm", 8, "SLURM_NTASKS")),
    "LSF": ({"LSB_DJOB_NUMPROC": "4"}, ("LSF", 4, "LSB_DJOB_NUMPROC")),
    "Grid Engine": ({"NSLOTS": "16", "PE_HOSTFILE": "x"}, ("Grid Engine", 16, "NSLOTS")),
    "a file that is gone": ({"PBS_NODEFILE": "/nowhere"}, None),
    "none": ({}, None),
}


@pytest.mark.parametrize("case", ALLOCATIONS)
def test_allocations_are_known(case):
    """Each scheduler tells its jobs how many slots they have."""
    environment, expected = ALLOCATIONS[case]
    assert allocation.allocation(environment) == expected


def test_the_slots_of_pbs_are_lines(tmp_path):
    """Its file of nodes has a line for each rank."""
    (tmp_path / "nodes").write_text("a\na\nb\n")
    assert allocation.allocation({"PBS_NODEFILE": str(tmp_path / "nodes")}) == ("PBS", 3, "lines of PBS_NODEFILE")


def test_kinds_of_file_systems_are_read(tmp_path):
    """The mount nearest to a path counts; without a table nothing is known."""
    table = tmp_path / "mounts"
    table.write_text("d / ext4 rw 0 0\ns:/home /home nfs4 rw 0 0\nt /home/me/tmp tmpfs rw 0 0\n")
    assert cache.file_system("/home/me/.cache", str(table)) == "nfs4"
    assert cache.file_system("/home/me/tmp/x", str(table)) == "tmpfs"
    assert cache.file_system("/homes", str(table)) == "ext4"
    assert cache.file_system("/", str(tmp_path / "none")) == ""


def test_more_ranks_than_slots_are_refused():
    """The message names argument, value and rule."""
    from distdl.cluster.hosts import Host

    with pytest.raises(ArgumentError, match=r"`ranks` \(=3\) must be at most 2, the slots"):
        Request(3, [Host("a", 2)])

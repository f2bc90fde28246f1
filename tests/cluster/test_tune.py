"""What `distdl tune` tries, what it makes of the trials, and how it shows them."""

import json

import pytest

from distdl.cluster import tune as module
from distdl.cluster.hosts import Host
from distdl.cluster.tune import Request, show, to_json, tune
from distdl.core import threads
from distdl.core.errors import ArgumentError, LaunchError
from distdl.parallel.trial import MARK

HOSTS = (Host("a", 4), Host("b", 6))

SCRIPT = __file__
"""Any file: jobs are stood in for."""


def test_divisions_use_all_cores_of_each_host(monkeypatch):
    """Ranks x threads are the cores of the smallest host on each; threads are powers of two, or all."""
    assert Request(hosts=HOSTS).divisions() == [(8, 1), (4, 2), (2, 4)]
    assert Request(hosts=HOSTS, ranks=4).divisions() == [(4, 2)]
    assert Request(hosts=HOSTS).on(4) == [Host("a", 2), Host("b", 2)]
    monkeypatch.setattr(threads, "cores", lambda: list(range(96)))
    assert Request().divisions() == [(96, 1), (48, 2), (24, 4), (12, 8), (6, 16), (3, 32), (1, 96)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranks": 3}, r"`ranks` \(=3\) must be a multiple of 2, the number of hosts"),
        ({"ranks": 10}, r"`ranks` \(=10\) must be at most 8, the cores of all hosts"),
        ({"ranks": 0}, r"`ranks` \(=0\)"),
        ({"steps": 0}, r"`steps` \(=0\)"),
        ({"script": ["gone.py"]}, r"`script` \(='gone\.py'\) must be a file"),
    ],
)
def test_what_cannot_be_tried_is_refused(options, message):
    """The error names argument, value and rule, before anything is started."""
    with pytest.raises(ArgumentError, match=message):
        Request(hosts=HOSTS, **options)


class Jobs:
    """Stands in for jobs of ranks: a model of how long steps take, and a record of what was run."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.run = []

    def __call__(self, ranks, words, mark, limit, hosts, remote_shell, variables):
        self.run.append((ranks, [host.slots for host in hosts], words[1:], variables))
        if mark != MARK:
            return (
                [{"bytes": 4096, "gradients": 0.1, "messages": 0.2, "mpi": 0.3}] if words[-1] == "measure" else "done"
            )
        overlap, size = variables.get("DISTDL_OVERLAP") == "1", int(variables.get("DISTDL_BUCKET_BYTES", 25 << 20))
        count = int(variables["DISTDL_NUM_THREADS"])
        how = {"overlap": overlap, "bucket_bytes": size}
        seconds = self.seconds(ranks, overlap, size)
        return {
            "ranks": ranks,
            "threads": count,
            "rows": 32.0 * ranks,
            "seconds": seconds,
            "gradient_bytes": 2 << 20,
            **how,
        }


def tuned(monkeypatch, seconds, **options):
    jobs = Jobs(seconds)
    monkeypatch.setattr(module, "answer", jobs)
    return tune(Request([SCRIPT, "--lr", "1"], hosts=HOSTS, **options)), jobs.run


def test_the_fastest_way_is_kept(monkeypatch):
    """Of ranks and threads the most rows a second, of buckets the fastest; a last job stores that for these ranks."""
    result, run = tuned(
        monkeypatch, lambda ranks, overlap, size: (ranks == 8) + 1.0 - 0.2 * (overlap and size == 1 << 20)
    )
    assert run[0] == (8, [4, 4], [SCRIPT, "--lr", "1"], {"DISTDL_TRIAL_STEPS": "30", "DISTDL_NUM_THREADS": "1"})
    # 8 ranks take twice as long for twice the rows: the first of equals counts as best.
    assert [(found.ranks, found.threads) for found in result.divisions] == [(8, 1), (4, 2), (2, 4)]
    assert (result.kept.overlap, result.kept.bucket_bytes) == (True, 1 << 20)
    assert run[-1][2][1:] == ["distdl.cluster.tuner", "keep", str(2 << 20), "1", str(1 << 20)]
    # A bucket of more bytes than there are gradients is not tried.
    assert [found.bucket_bytes for found in result.reducing] == [25 << 20, 1 << 18, 1 << 20]


def test_what_is_hardly_faster_is_not_kept(monkeypatch):
    """Within the noise of trials gradients are reduced after backward()."""
    result, _ = tuned(monkeypatch, lambda ranks, overlap, size: 1.0 - 0.02 * overlap, ranks=4)
    assert not result.kept.overlap


def test_it_is_shown(monkeypatch):
    """A table of each kind of trial, and the command to use; JSON holds the same."""
    result, _ = tuned(monkeypatch, lambda ranks, overlap, size: 0.5 - 0.1 * overlap, ranks=4)
    assert show(result).splitlines() == [
        "ranks and threads     ms a step  rows a step  rows a second",
        "4 ranks x 2 threads     500.000          128            256",
        "",
        "  reductions, ms   gradients    messages   MPI alone",
        "           4 KiB       0.100       0.200       0.300",
        "",
        "reduction                               ms a step  rows a step  rows a second",
        "after backward(), buckets of 25 MiB       500.000          128            256",
        "beside backward(), buckets of 256 KiB     400.000          128            320",
        "beside backward(), buckets of 1 MiB       400.000          128            320",
        "",
        "best: distdl launch -n 4, with DISTDL_NUM_THREADS=2",
        "kept for later jobs of 4 ranks here: beside backward(), buckets of 256 KiB",
    ]
    assert json.loads(to_json(result))["kept"]["bucket_bytes"] == 1 << 18


def test_a_script_that_does_not_answer_is_told(monkeypatch):
    """The error says what a trial takes."""

    def fail(*arguments):
        raise LaunchError("a job of 8 ranks came to its end without an answer")

    monkeypatch.setattr(module, "answer", fail)
    with pytest.raises(LaunchError, match=r"without an answer\. A trial takes a script that makes at least 33 steps"):
        tune(Request([SCRIPT], hosts=HOSTS))

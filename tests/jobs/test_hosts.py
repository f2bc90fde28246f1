"""Jobs on several hosts with a network between them, under both MPIs."""

import json
import os
import re
import signal
import subprocess

import pytest

from tests.faults.running import Fit
from tests.jobs.launching import mpis, run, strays, wait_for
from tests.jobs.virtual_network import VirtualNetwork, is_possible

pytestmark = [pytest.mark.job, pytest.mark.skipif(not is_possible(), reason="hosts take root and iproute2")]

HOSTS, SLOTS = 2, 2


@pytest.fixture(params=mpis(), ids=lambda path: path.parent.name)
def binaries(request):
    """The directory of mpiexec and Python, of each MPI."""
    return request.param


@pytest.fixture
def net(tmp_path):
    """Two hosts."""
    with VirtualNetwork(HOSTS, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The digest of a fit on one rank that nobody disturbs."""
    fit = Fit(mpis()[0], 1, tmp_path_factory.mktemp("whole"))
    assert fit.wait() == 0, fit.text
    return fit.digest


def start(net, binaries, directory, *options, settings=(), **fit):
    """Start a fit on all hosts, two ranks each, from the first of them."""
    launch = ["--hostfile", str(net.host_file(SLOTS)), "--remote-shell", str(net.remote_shell), *options]
    before = net.command("node1")
    ranks = HOSTS * SLOTS
    return Fit(
        binaries, ranks, directory, options={**net.environment(), **dict(settings)}, launch=launch, before=before, **fit
    )


PLACES = """
import os, numpy as np, distdl
comm = distdl.world()
names = comm.allgather_object(os.uname().nodename)
array = comm.zeros(250_000)
array += comm.rank + 1
comm.allreduce(array)
comm.print("places", comm.local_size, *names, *sorted(set(array.tolist())))
"""


def test_ranks_share_memory_on_a_host_and_the_wire_between(net, binaries, tmp_path):
    """Each host gets its ranks; what crosses the wire is little more than one array each way, whatever the slots."""
    script = tmp_path / "places.py"
    script.write_text(PLACES)
    words = ["launch", "--hostfile", str(net.host_file(SLOTS)), "--remote-shell", str(net.remote_shell), str(script)]
    before = [net.bytes_sent(name) for name in net.names]
    done = subprocess.run(
        net.command("node1", str(binaries / "python"), "-m", "distdl", *words),
        env={**os.environ, **net.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"places {SLOTS} node1 node1 node2 node2 10.0" in done.stdout, done.stdout
    sent = [net.bytes_sent(name) - start for name, start in zip(net.names, before, strict=True)]
    assert all(1_000_000 < count < 1_300_000 for count in sent), sent


def test_a_fit_over_a_network_ends_with_the_same_bits(net, binaries, tmp_path, expected):
    """Four ranks on two hosts train as one rank does."""
    fit = start(net, binaries, tmp_path)
    assert fit.wait(90) == 0, fit.text
    assert fit.digest == expected
    assert min(map(net.bytes_sent, net.names)) > 100_000


def test_a_host_that_drops_off_the_net_is_named_and_the_job_goes_on(net, binaries, tmp_path, expected):
    """The job ends at the time-out of stalls, and the supervisor starts it again on the host that is left."""
    settings = {"DISTDL_STALL_TIMEOUT": "9"}
    options = ["--max-restarts", "2", "--min-ranks", "2", "--end-timeout", "5"]
    fit = start(net, binaries, tmp_path, *options, settings=settings, every=4, seconds=0.2)
    try:
        fit.reach(9)
        net.unplug("node2")
        assert fit.wait(120) == 0, fit.text
    finally:
        for process in strays(fit.mark, 0):
            os.kill(int(process), signal.SIGKILL)
        wait_for(lambda: not strays(fit.mark, 0), 10)
    assert fit.digest == expected, fit.text
    assert re.search(r"node2.* cannot be reached: 2 of 4 ranks, on the hosts that are left", fit.text), fit.text
    assert re.search(r"rank 2 \(node2, process \d+\) does not answer.*the time-out of 9 s", fit.text), fit.text


def test_an_unreachable_host_is_named_before_the_start(net, binaries, tmp_path):
    """No rank is started."""
    net.unplug("node2")
    fit = start(net, binaries, tmp_path)
    assert fit.wait(60) == 2, fit.text
    assert "node2 cannot be reached by" in fit.text
    assert fit.steps == []


def test_the_check_up_names_the_host_with_the_slow_link(tmp_path):
    """Of three hosts one has a cable of 50 Mbit/s, and all see one directory."""
    with VirtualNetwork(3, tmp_path) as net:
        net.limit("node3", 50)
        options = [
            "--hostfile",
            str(net.host_file(1)),
            "--remote-shell",
            str(net.remote_shell),
            "--shared",
            str(tmp_path),
        ]
        words = [str(mpis()[0] / "python"), "-m", "distdl", "doctor", "--json", *options]
        ended = run(net.command("node1", *words), environment=net.environment())
    report = json.loads(ended.output)
    found = {finding["subject"]: (finding["state"], finding["text"]) for finding in report["findings"]}
    assert report["code"] == 0, found
    assert found["job of ranks"][1].endswith("3 ranks met on 3 hosts")
    assert found["shared directory"] == ("ok", f"all hosts see {tmp_path}")
    assert found["slow link"][0] == "warn", found
    assert found["slow link"][1].startswith("node3: ")

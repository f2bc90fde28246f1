"""`distdl plan`: what is asked, the best that is found, and how it is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distdl.cli.main import main
from distdl.cluster.planning import record, report
from distdl.cluster.planning.compression import ASSUMED
from distdl.cluster.planning.cost import Cluster, predict
from distdl.cluster.planning.network import NAMED, SHARED_MEMORY, Link
from distdl.cluster.planning.search import BUCKETS, Question, search, usual_batches, usual_ranks
from distdl.cluster.planning.workload import Workload
from distdl.core.errors import ArgumentError, LaunchError
from distdl.parallel.plan import LARGE_BUCKET
from distdl.parallel.profile import load
from tests.cluster.profiles import made, reductions

GOLDEN = Path(__file__).parent / "golden" / "plan.txt"
HOOKS = [ASSUMED["bf16"], ASSUMED["topk"]]


def question(**changes):
    options = {
        "ranks": [1, 2, 4, 16],
        "per_node": 2,
        "within": SHARED_MEMORY,
        "networks": {"ethernet-1g": NAMED["ethernet-1g"], "ethernet-25g": NAMED["ethernet-25g"]},
        "batches": [100, 400],
        "compressions": HOOKS,
    }
    return Question(**{**options, **changes})


@pytest.fixture
def profile(tmp_path):
    """A file with a profile of two nodes."""
    path = tmp_path / "profile.json"
    path.write_text(made(spread=0.02, between=reductions(lambda nbytes: 1e-4 + nbytes * 8e-9)).to_json())
    return path


def test_the_table_is_as_it_was(capsys, profile):
    """Golden text: whatever is predicted says so."""
    words = ["plan", "--profile", str(profile), "--ranks", "1", "2", "8", "512", "4096", "--network", "profile"]
    assert main([*words, "ethernet-10g", "--cores", "4", "--ranks-per-node", "2"]) == 0
    assert capsys.readouterr().out == GOLDEN.read_text()


def test_json_says_what_is_measured_and_what_is_predicted(capsys, profile):
    """The same answer for programs, up to 4,096 ranks by default."""
    assert main(["plan", "--profile", str(profile), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"][0]["compute"] == pytest.approx(0.031)
    assert [entry["ranks"] for entry in found["predicted"]] == [1 << shift for shift in range(13)]
    for entry in found["predicted"]:
        assert entry["step"] == pytest.approx(entry["compute"] + entry["waiting"] + entry["exposed"])


def test_a_picture_is_drawn(capsys, profile, tmp_path):
    """As PNG or SVG; another format is refused, and so is a directory that is not there."""
    for name in ("plan.png", "plan.svg"):
        assert main(["plan", "--profile", str(profile), "--ranks", "1", "4", "--picture", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert "predicted" in (tmp_path / "plan.svg").read_text().lower()
    assert main(["plan", "--profile", str(profile), "--picture", str(tmp_path / "plan.doc")]) == 2
    assert main(["plan", "--profile", str(profile), "--picture", str(tmp_path / "gone" / "plan.png")]) == 2
    told = capsys.readouterr().err
    assert "has a format that cannot be drawn" in told
    assert "there is no directory" in told


def test_the_smallest_batch_that_is_efficient_is_best():
    """Where none is, the greatest; a global batch leaves nothing to choose."""
    workload = Workload([made()])
    rows = search(workload, question(networks={"fast": NAMED["ethernet-100g"], "slow": Link(1e-3, 1e-7)}, per_node=1))
    assert {(row.network, row.ranks): row.choice.batch for row in rows if row.ranks in (1, 16)} == {
        ("fast", 1): 100,
        ("fast", 16): 100,
        ("slow", 1): 100,
        ("slow", 16): 400,
    }
    shared = search(workload, question(global_batch=1600))
    assert [row.choice.batch for row in shared[:4]] == [1600, 800, 400, 100]


def test_nothing_that_can_be_chosen_is_better():
    """Of buckets and overlap the quickest is taken, but for a hundredth."""
    workload = Workload([made(cores=8)])
    for row in search(workload, question()):
        cluster = Cluster(row.nodes, row.ranks // row.nodes, SHARED_MEMORY, question().networks[row.network])
        for size in BUCKETS:
            for overlap in (False, True):
                other = replace(row.choice, bucket_bytes=size, overlap=overlap)
                assert predict(workload, cluster, other).step >= 0.989 * row.prediction.step


def test_what_changes_nothing_is_left_as_it_is():
    """On one node there is no wire to compress for; one gradient has nothing to overlap with."""
    workload = Workload([made(parameters=[(1 << 20, 1.0)])])
    for row in search(workload, question()):
        assert not row.choice.overlap
        assert row.choice.bucket_bytes == LARGE_BUCKET
        assert (row.compressed == row.choice) == (row.nodes == 1 or row.network == "ethernet-25g")


def test_compression_helps_slow_networks_most():
    """What it saves grows with the bytes' time; without hooks there is none."""
    workload = Workload([made()])
    saved = {}
    for row in search(workload, question(ranks=[16])):
        saved[row.network] = row.compressed_efficiency / row.efficiency
    assert saved["ethernet-1g"] > saved["ethernet-25g"] >= 1
    assert all(row.compressed == row.choice for row in search(workload, question(compressions=())))


def test_efficiency_falls_with_ranks_and_rises_with_the_rate():
    """For one batch: whatever the number of ranks."""
    workload = Workload([made(spread=0.03)])
    rows = search(workload, question(ranks=usual_ranks(1), per_node=1, batches=[100]))
    slow, fast = ([row.efficiency for row in rows if row.network == name] for name in question().networks)
    assert slow == sorted(slow, reverse=True)
    assert fast == sorted(fast, reverse=True)
    assert all(a <= b for a, b in zip(slow, fast, strict=True))
    assert (slow[0], len(slow)) == (1.0, 13)


def test_usual_questions():
    """Ranks double within a node, then nodes do; batches grow from the one profiled."""
    assert usual_ranks(1) == [1 << shift for shift in range(13)]
    assert usual_ranks(6)[:6] == [1, 2, 4, 6, 12, 24]
    assert usual_batches(Workload([made()])) == [100, 200, 400, 800]
    assert usual_batches(Workload([made(batch=0.0)])) == [0.0]


def test_an_unknown_batch_stays():
    """It cannot be chosen, and is not shown."""
    workload = Workload([made(batch=0.0)])
    rows = search(workload, question(batches=[0.0]))
    assert rows[0].samples == 0
    assert "the batch stays as it was profiled" in report.table(workload, question(batches=[0.0]), rows)
    for changes in ({"batches": [10]}, {"global_batch": 100}):
        with pytest.raises(ArgumentError, match="`batch` cannot be chosen"):
            search(workload, question(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": [0]}, r"`ranks` \(=0\) must be >= 1"),
        ({"ranks": [5000]}, r"`ranks` \(=5000\) must be <= 4096"),
        ({"ranks": [5]}, r"`ranks` \(=5\) must be a multiple of the 2 ranks of a node"),
        ({"per_node": 0}, r"`ranks-per-node` \(=0\) must be >= 1"),
        ({"target": 1.0}, r"`efficiency` \(=1.0\) must be < 1"),
        ({"global_batch": 3}, r"`global-batch` \(=3\) must be at least 16, a row for each rank"),
        ({"batches": [-1]}, r"`batch` \(=-1.0\) must be >= 0"),
    ],
)
def test_bad_questions_are_named(changes, message):
    """The message has the argument, the value and the rule."""
    with pytest.raises(ArgumentError, match=message):
        question(**changes)


def test_bad_input_of_the_command_is_one_line(capsys, tmp_path, profile):
    """No profile, no file, another file, a script that is none."""
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    for words, message in (
        ([], "distdl plan: `profile` is missing: give --profile FILE, or a script to profile: -- train.py\n"),
        (["--profile", str(tmp_path / "gone")], f"distdl plan: {tmp_path}/gone: no such file\n"),
        (["--profile", str(damaged)], f"{damaged}: is no profile: `format` (=None) must be 1: profile again\n"),
        (["--", str(tmp_path / "gone.py")], f"distdl plan: `script` (='{tmp_path}/gone.py') must be a file\n"),
        (["--profile", str(profile), "--rate", "fast"], "must be a rate above 0, such as 300mbit or 25gbit\n"),
    ):
        assert main(["plan", *words]) == 2
        assert capsys.readouterr().err.endswith(message)


def test_a_job_without_a_profile_is_told(capsys, monkeypatch, tmp_path):
    """The message says how many steps it takes, and what became of the job."""
    script = tmp_path / "train.py"
    script.write_text("")

    def fails(*args):
        raise LaunchError("a job of 2 ranks came to its end without an answer")

    monkeypatch.setattr(record, "answer", fails)
    assert main(["plan", "--", str(script)]) == 2
    assert capsys.readouterr().err == (
        f"distdl plan: no profile of {script}, which takes some hundred training steps: "
        "a job of 2 ranks came to its end without an answer\n"
    )


def test_a_job_is_profiled_where_it_is_to_run(capsys, monkeypatch, tmp_path):
    """On as many ranks as hosts have slots; the profile may be kept."""
    script, hosts, kept = tmp_path / "train.py", tmp_path / "hosts.txt", tmp_path / "kept.json"
    script.write_text("")
    hosts.write_text("a:2\nb:2\n")
    asked = []

    def answer(*words):
        asked.append(words)
        return made().to_dict()

    monkeypatch.setattr(record, "answer", answer)
    words = ["plan", "--hostfile", str(hosts), "--save", str(kept), "--ranks", "1", "--", str(script), "--epochs", "9"]
    assert main(words) == 0
    ranks, command, _, _, found, remote_shell, variables = asked[0]
    assert (ranks, command[1:], remote_shell) == (4, [str(script), "--epochs", "9"], "ssh")
    assert [host.name for host in found] == ["a", "b"]
    assert variables == {"DISTDL_PROFILE": "-", "DISTDL_OVERLAP": "0"}
    assert load(kept) == made()
    assert main(["plan", "--save", str(tmp_path / "gone" / "kept.json"), "--", str(script)]) == 2
    assert asked[1][0] == 2
    assert "there is no directory" in capsys.readouterr().err

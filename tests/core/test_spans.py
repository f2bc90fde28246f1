"""The timeline: which spans there are, how they are named, and what becomes of them."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim
from distdl.core import spans
from distdl.core.errors import ArgumentError
from distdl.core.spans import Span
from distdl.core.trace import table


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        return x + self.inner(x) + nn.Sequential(nn.Sigmoid())(x)


def labels(timeline, phase):
    return [span.label for span in timeline.spans if span.phase == phase]


@pytest.fixture
def x():
    return distdl.tensor(np.ones((2, 4), np.float32))


def test_nothing_is_recorded_while_none_is_open(x):
    """Without a timeline there is no recorder, and spans of users and loaders go nowhere."""
    assert spans.recorder is None
    with spans.span("evaluation"):
        assert list(spans.waits([1, 2], "next")) == [1, 2]
    with distdl.timeline() as timeline:
        pass
    nn.Linear(4, 4)(x)
    assert timeline.spans == []
    assert timeline.summary() == "the timeline is empty"


def test_spans_are_named_by_layer_and_pass(x):
    """Operations go by the dotted name of the module that ran them, in both passes; what no module ran by its own."""
    model = nn.Sequential(nn.Linear(4, 4), Block())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with distdl.timeline() as timeline:
        loss = (model(x) * 2.0).sum()
        loss.backward()
        optimizer.step()
    forward = ["0.linear", "1.inner.0.linear", "1.inner.1.tanh", "1.add", "1.Sequential.Sigmoid.sigmoid"]
    assert labels(timeline, "forward") == [*forward, "1.add", "multiply", "sum"]
    backward = labels(timeline, "backward")
    assert backward[:2] == ["sum", "multiply"]
    assert sorted(backward) == sorted([*forward, "1.add", "multiply", "sum"])
    assert labels(timeline, "step") == ["SGD.step"]
    assert "1.inner.Sequential" in labels(timeline, "module")
    assert all(span.start <= span.end for span in timeline.spans)


def test_an_error_leaves_the_names_in_order(x):
    """After a forward() that raised, the next one is named from the start."""

    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("broken")

    with distdl.timeline() as timeline:
        with pytest.raises(KeyError):
            nn.Sequential(nn.Identity(), Broken())(x)
        nn.Sequential(nn.Tanh())(x)
    assert labels(timeline, "forward") == ["0.tanh"]


def test_waits_for_data_are_spans():
    """Each batch that a loader hands out was waited for."""
    loader = data.DataLoader(data.ArrayDataset(np.zeros((5, 2), np.float32)), batch_size=2)
    with distdl.timeline() as timeline:
        assert len(list(loader)) == 3
    assert labels(timeline, "data")[:3] == ["next batch"] * 3


def test_threads_have_rows_of_their_own(x, tmp_path):
    """Names of modules in one thread do not mix with those in another, and the trace names the threads."""
    model = nn.Sequential(nn.Tanh())
    with distdl.timeline(tmp_path / "trace.json") as timeline, spans.span("main"):
        threads = [threading.Thread(target=lambda: [model(x) for _ in range(50)], name=f"worker {i}") for i in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(labels(timeline, "forward")) == {"0.tanh"}
    assert {span.thread for span in timeline.spans if span.phase == "forward"} <= {0, 1}
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    named = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert named == {"MainThread", "worker a", "worker b"}


def test_the_trace_is_what_chrome_reads(x, tmp_path):
    """Complete events in microseconds, with name, category, process and thread."""
    path = tmp_path / "trace.json"
    with distdl.timeline(path) as timeline:
        nn.Linear(4, 4)(x)
    events = json.loads(path.read_text())["traceEvents"]
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["rank 0", "MainThread"]
    complete = [event for event in events if event["ph"] == "X"]
    assert len(complete) == len(timeline.spans) == 2
    for event, span in zip(complete, timeline.spans, strict=True):
        assert event["name"] == span.label
        assert event["cat"] == span.phase
        assert event["ts"] == span.start / 1000
        assert event["dur"] == (span.end - span.start) / 1000
        assert (event["pid"], event["tid"]) == (0, 0)


def test_each_rank_writes_a_file_of_its_own(tmp_path):
    """With several ranks the rank stands in the file's name, and is the process of the trace."""
    spans.set_rank(1, 2)
    try:
        with distdl.timeline(tmp_path / "trace.json"), spans.span("work"):
            pass
    finally:
        spans.set_rank(0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.1.json"]
    assert {event["pid"] for event in json.loads((tmp_path / "trace.1.json").read_text())["traceEvents"]} == {1}


def test_timelines_nest():
    """The inner one records within its block, the outer one goes on afterwards."""
    with distdl.timeline() as outer:
        with distdl.timeline() as inner, spans.span("a"):
            pass
        with spans.span("b"):
            pass
    assert labels(inner, "user") == ["a"]
    assert labels(outer, "user") == ["b"]
    assert spans.recorder is None


def test_what_exceeds_the_limit_is_counted():
    """A timeline that is left open for long does not fill the memory."""
    with distdl.timeline(limit=3) as timeline:
        for _ in range(5):
            with spans.span("work"):
                pass
    assert len(timeline.spans) == 3
    assert "2 later spans were dropped" in timeline.summary()


def test_the_table_adds_up():
    """Time within an inner span counts for it alone; rows are sorted by their time; passes have columns."""
    ms = 1_000_000
    text = table(
        [
            Span("Linear", "0", "module", 0, 0, 10 * ms),
            Span("linear", "0", "forward", 0, 1 * ms, 9 * ms),
            Span("linear", "0", "backward", 0, 10 * ms, 26 * ms),
            Span("SGD.step", "", "step", 0, 30 * ms, 44 * ms),
            Span("bucket 0", "", "reduce", 0, 31 * ms, 41 * ms),
            Span("other thread", "", "user", 1, 0, 60 * ms),
        ]
    )
    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows[0][:5] == ["other", "thread", "60.00", "60.0%", "60.00"]
    assert rows[1] == ["0.linear", "24.00", "24.0%", "8.00", "16.00", "1"]
    assert rows[2] == ["bucket", "0", "10.00", "10.0%", "10.00", "1"]
    assert rows[3] == ["SGD.step", "4.00", "4.0%", "4.00", "1"]
    assert rows[4][-4:] == ["2.00", "2.0%", "2.00", "1"]
    assert rows[5] == ["all", "100.00"]


def test_the_file_must_have_a_place(tmp_path):
    """A directory that is missing is found before the work, not after it."""
    with pytest.raises(ArgumentError, match="directory that exists"):
        distdl.timeline(tmp_path / "nowhere" / "trace.json")


def test_the_environment_records_the_whole_process(tmp_path):
    """DISTDL_TIMELINE writes at the end of the process; one that did nothing writes nothing."""
    path = tmp_path / "trace.json"
    work = "import distdl, numpy as np; distdl.nn.Linear(4, 4)(distdl.tensor(np.ones((2, 4), 'f4')))"
    for code, count in (("import distdl; distdl.nn", 0), (work, 2)):
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "DISTDL_TIMELINE": str(path)})
        assert path.exists() == (count > 0)
    assert sum(event["ph"] == "X" for event in json.loads(path.read_text())["traceEvents"]) == count

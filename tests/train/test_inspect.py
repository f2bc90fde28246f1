"""The command that looks at checkpoints."""

import numpy as np
import pytest

from distdl.cli.main import main
from distdl.train.checkpoint import write_checkpoint

STATE = {"epoch": 1, "step_in_epoch": 3, "is_within": True, "ranks": 2, "seed": 5, "history": [{"loss": 0.5}]}


@pytest.fixture
def run(tmp_path):
    """A directory with two checkpoints that differ in one value."""
    for step in (10, 20):
        weights = np.zeros((2, 3), np.float32)
        weights[1, 2] = step
        write_checkpoint(tmp_path, step, {"model": {"weight": weights}, "optimizer": {}}, {**STATE, "step": step})
    return tmp_path


def told(capsys, *arguments):
    code = main(["checkpoint", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_show(run, capsys):
    """A directory, or one checkpoint."""
    code, text = told(capsys, "show", run)
    assert code == 0
    assert text.index("step 20") < text.index("step 10")
    code, text = told(capsys, "show", run / "checkpoint-0000000010")
    assert code == 0
    assert "epoch 2, after 3 steps of it; written by 2 ranks; seed 5" in text
    assert "weight  float32 (2, 3)" in text
    assert '{"loss": 0.5}' in text


def test_verify(run, capsys):
    """The code says whether all are whole."""
    assert told(capsys, "verify", run)[0] == 0
    (run / "checkpoint-0000000010" / "model.safetensors").write_bytes(b"")
    code, text = told(capsys, "verify", run)
    assert code == 1
    assert "checkpoint-0000000020: good" in text
    assert "model.safetensors: has 0 bytes" in text
    (run / "checkpoint-0000000010" / "manifest.json").write_bytes(b"{")
    code, text = told(capsys, "show", run)
    assert (code, "damaged" in text) == (1, True)


def test_diff(run, capsys):
    """Arrays and state."""
    code, text = told(capsys, "diff", run / "checkpoint-0000000010", run / "checkpoint-0000000020")
    assert code == 1
    assert "model: weight: 1 of 6 values differ, by up to 10" in text
    assert "state: step: 10 and 20" in text
    assert told(capsys, "diff", run, run) == (0, "no difference\n")


def test_mistakes_are_named(run, capsys):
    """No checkpoint there; one path for two."""
    code, text = told(capsys, "show", run / "nowhere")
    assert (code, "no such checkpoint" in text) == (2, True)
    code, text = told(capsys, "diff", run)
    assert (code, "must be 2 for diff" in text) == (2, True)

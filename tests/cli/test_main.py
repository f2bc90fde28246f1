"""The distdl command."""

import os
import subprocess
import sys

import pytest

from distdl.cli.main import main


def test_version(capsys):
    """--version prints the version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("distdl 0.")


def test_errors_are_one_line(capsys):
    """What a user did wrong is told in one line, with exit code 2."""
    assert main(["launch", "-n", "2", "no_such_script.py"]) == 2
    error = capsys.readouterr().err
    assert error == "distdl launch: `script` (='no_such_script.py') must be a file\n"


def test_doctor_prints_its_report(capsys):
    """The check-up of this machine, which has an MPI, ends well."""
    assert main(["doctor"]) == 0
    assert "MPI library" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `distdl convolutions | head`: no traceback, and the exit code that shells give."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "distdl", "convolutions"]
    with open(writer, "wb") as output:
        ended = subprocess.run(words, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (141, b"")

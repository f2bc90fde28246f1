"""Where a process runs."""

import os
import subprocess
import sys

from distdl.comm import system

ASK = "from distdl.comm import system; print(system.machine(), system.network(), sep='|')"


def test_processes_of_a_machine_agree():
    """Another process names the same machine and network."""
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{system.machine()}|{system.network()}"


def test_names_of_hosts_stand_in(monkeypatch):
    """Where the system does not tell, as beside Linux."""

    def fail(*args, **options):
        raise FileNotFoundError

    monkeypatch.setattr(system.Path, "read_text", fail)
    monkeypatch.setattr(system.os, "readlink", fail)
    assert system.machine() == system.network() == os.uname().nodename

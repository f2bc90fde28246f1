"""Jobs of worker processes, one for each rank, which do what they are told to and wait in between."""

import contextlib
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distdl.cluster.hosts import Host
from distdl.cluster.launch import exported, find_mpi, find_mpiexec, launch_command

if TYPE_CHECKING:
    from tests.jobs.virtual_network import VirtualNetwork

PATIENCE = 900.0
"""Seconds until a job that does not answer is given up: compiling all kernels takes some."""


# Hosts of a virtual network have all ports to themselves; jobs that are open at once take different ones.
_ports = itertools.count(29500)


class Job:
    """A job of one side.

    Args:
        side: "ours" or "torch".
        ranks: how many processes.
        threads: of each.
        environment: added to this process'.
        network: hosts that share the ranks equally; None: this machine.
        options: what the side takes, see `ours.py` and `theirs.py`.
    """

    def __init__(
        self,
        side: str,
        ranks: int = 1,
        threads: int = 1,
        environment: dict[str, str] | None = None,
        network: "VirtualNetwork | None" = None,
        **options: Any,
    ):
        self.side, self.ranks = side, ranks
        options = {"model": "", **options}
        # A file is a way into hosts that have a network of their own.
        self._directory = tempfile.TemporaryDirectory()
        path = os.path.join(self._directory.name, "orders")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen(ranks)
        self._server.settimeout(1.0)
        command = [sys.executable, "-m", "benchmarks.worker", path, side, json.dumps(options)]
        base = {**os.environ, **_environment(threads), **(environment or {})}
        start = _start if network is None else functools.partial(_start_on, network)
        self._processes = start(side, ranks, command, base)
        self._lines: list[Any] = []
        self.started = sorted(self._accept(), key=lambda answer: int(answer["rank"]))

    def _accept(self) -> Iterator[dict[str, Any]]:
        """Wait for all ranks, or for the first process that ends."""
        deadline = time.monotonic() + PATIENCE
        while len(self._lines) < self.ranks:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                ended = [process.returncode for process in self._processes if process.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(f"the job of {self.side} did not start (exit codes {ended})") from None
                continue
            connection.settimeout(PATIENCE)
            self._lines.append(connection.makefile("rw"))
        for lines in self._lines:
            yield self._read(lines)

    def _read(self, lines: Any) -> Any:
        line = lines.readline()
        if not line:
            raise RuntimeError(f"a rank of the job of {self.side} has ended before its answer; see what it printed")
        return json.loads(line)

    def ask(self, do: str, **options: Any) -> list[Any]:
        """Tell all ranks at once to do something, and return what they answer."""
        for lines in self._lines:
            print(json.dumps({"do": do, **options}), file=lines, flush=True)
        return [self._read(lines) for lines in self._lines]

    def steps(self, count: int) -> float:
        """Return the seconds of so many steps: those of the slowest rank."""
        return max(self.ask("steps", count=count))

    def close(self) -> None:
        for lines in self._lines:
            with contextlib.suppress(OSError):
                print(json.dumps({"do": "end"}), file=lines, flush=True)
                lines.close()
        self._lines = []
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        self._server.close()
        self._directory.cleanup()

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _environment(threads: int) -> dict[str, str]:
    scripts, root = Path(__file__).parent.parent, Path(__file__).parent.parent.parent
    count = str(threads)
    return {
        "PYTHONPATH": os.pathsep.join([str(scripts), str(root), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
        "OMP_NUM_THREADS": count,
        "DISTDL_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
    }


def _start(side: str, ranks: int, command: list[str], environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    if ranks == 1:
        return [subprocess.Popen(command, env=environment)]
    if side == "ours":
        return [subprocess.Popen(launch_command(ranks, *_mpiexec(), command), env=environment)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    return [subprocess.Popen(command, env={**environment, **meeting, "RANK": str(rank)}) for rank in range(ranks)]


def _start_on(
    network: "VirtualNetwork", side: str, ranks: int, command: list[str], environment: dict[str, str]
) -> list[subprocess.Popen[bytes]]:
    slots = ranks // len(network.names)
    base = {**environment, **network.environment()}
    if side == "ours":
        hosts = [Host(name, slots) for name in network.names]
        words = launch_command(
            ranks, *_mpiexec(), command, hosts, str(network.remote_shell), exported(network.environment())
        )
        return [subprocess.Popen(network.command(network.names[0], *words), env=base)]
    meeting = {"MASTER_ADDR": network.addresses[0], "MASTER_PORT": str(next(_ports)), "WORLD_SIZE": str(ranks)}
    return [
        subprocess.Popen(
            network.command(network.names[rank // slots], *command),
            env={**base, **meeting, "RANK": str(rank), "GLOO_SOCKET_IFNAME": "eth0"},
        )
        for rank in range(ranks)
    ]


@functools.cache
def _mpiexec() -> tuple[str, str]:
    mpi = find_mpi()
    return find_mpiexec(mpi), mpi.family

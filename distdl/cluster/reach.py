"""Which hosts answer the remote shell."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..core.errors import LaunchError
from .hosts import Host

SECONDS = 10


def reachable(hosts: Sequence[Host], remote_shell: str) -> tuple[list[Host], list[str]]:
    """Return the hosts that answer, and the names of those that do not.

    Raises:
        LaunchError: the remote shell cannot be run.
    """
    if not hosts:
        return [], []
    with ThreadPoolExecutor(min(32, len(hosts))) as pool:
        answers = list(pool.map(lambda host: is_local(host) or _answers(host, remote_shell), hosts))
    gone = [host.name for host, is_there in zip(hosts, answers, strict=True) if not is_there]
    return [host for host in hosts if host.name not in gone], gone


def is_local(host: Host) -> bool:
    """Say whether a host is this machine, by its name."""
    return host.name in ("localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn())


def _answers(host: Host, remote_shell: str) -> bool:
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={SECONDS}"] if remote_shell == "ssh" else []
    try:
        done = subprocess.run(
            [remote_shell, *options, host.name, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    except OSError as error:
        raise LaunchError(f"{remote_shell}, the way to other hosts, cannot be run: {error.strerror}") from error
    return done.returncode == 0

"""Recording a profile: a job of the user's script that ends after some steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...core import checks
from ...core.errors import LaunchError
from ...parallel.profile import Profile
from ...parallel.profiler import MARK
from ..hosts import Host
from ..rank_job import answer

RECORD_SECONDS = 600.0
"""After which the job is ended: it may compile kernels."""


def record(script: Sequence[str], ranks: int | None, hosts: Sequence[Host], remote_shell: str) -> Profile:
    """Run a Python script until it has taken the steps of a profile, and return that.

    Args:
        script: path and arguments.
        ranks: how many; None: as many as the hosts have slots, 2 where there are none.
        hosts, remote_shell: see `launch`.

    Raises:
        ArgumentError: the script does not exist.
        LaunchError: the job fails, or ends without a profile.
    """
    checks.file("script", script[0])
    count = sum(host.slots for host in hosts) or 2 if ranks is None else ranks
    variables = {"DISTDL_PROFILE": "-", "DISTDL_OVERLAP": "0"}
    words = [sys.executable, *script]
    try:
        return Profile.parse(answer(count, words, MARK, RECORD_SECONDS, hosts, remote_shell, variables))
    except LaunchError as error:
        raise LaunchError(f"no profile of {script[0]}, which takes some hundred training steps: {error}") from error

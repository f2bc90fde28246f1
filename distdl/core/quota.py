"""How much processor time a container may take: cores that it sees may be more than it is given."""

from __future__ import annotations

import contextlib
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def cpu_quota(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float | None:
    """Return the cores' worth of time that this process' control groups allow; None if they do not say.

    The least of a group and its parents counts (Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max;
    cgroup-v1: cpu.cfs_quota_us by cpu.cfs_period_us).

    Args:
        groups: the file that names the groups of this process.
        mount: where their files are.
    """
    found = []
    with contextlib.suppress(OSError):
        for line in groups.read_text().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0" and not controllers:
                found += _quotas(mount, path)
            elif "cpu" in controllers.split(","):
                found += _quotas(mount / controllers, path) + _quotas(mount / "cpu", path)
    return min(found, default=None)


def _quotas(root: Path, path: str) -> list[float]:
    # Within a container the path may be that of the host, which is not to be seen here: the root stands for it then.
    place = root / path.strip("/")
    found = []
    for directory in (place, *place.parents):
        if directory == root or root in directory.parents:
            found += [quota for quota in (_second_version(directory), _first_version(directory)) if quota]
    return found


def _second_version(directory: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        quota, period = (directory / "cpu.max").read_text().split()[:2]
        return int(quota) / int(period)
    return None


def _first_version(directory: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        return quota / int((directory / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    return None

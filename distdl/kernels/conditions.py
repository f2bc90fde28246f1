"""What bits of results depend on, beside the program and its input: kind of CPU, libraries and their versions."""

import platform
from importlib import metadata


def conditions() -> dict[str, str]:
    """Return the kind of CPU, the BLAS libraries in use, and the versions of what computes."""
    from threadpoolctl import threadpool_info

    from .cpu import CPU_KIND, cpu_name

    blas = {
        f"{info['internal_api']} {info['version']} {info.get('architecture', '')}".strip()
        for info in threadpool_info()
        if info["user_api"] == "blas"
    }
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "llvmlite", "scipy")}
    return {
        "cpu": f"{platform.machine()} {cpu_name()} {CPU_KIND}",
        "blas": ", ".join(sorted(blas)),
        "python": platform.python_version(),
        **versions,
    }

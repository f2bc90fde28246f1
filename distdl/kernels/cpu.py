"""The CPU that kernels are compiled for: this one, or another that Numba was told of."""

from typing import Any

import numba
from llvmlite import binding

config: Any = numba.config


def cpu_name() -> str:
    """Return LLVM's name of the CPU."""
    return str(config.CPU_NAME or binding.get_host_cpu_name())


def cpu_features() -> str:
    """Return the features that Numba compiles for: another CPU's name alone leaves it those of this one."""
    chosen = config.CPU_FEATURES
    return str(binding.get_host_cpu_features().flatten() if chosen is None else chosen)


# 32 vector registers of sixteen floats, or what stands for all CPUs with 16 registers of eight floats.
CPU_KIND = "avx512" if "+avx512f" in cpu_features() else "avx2"
"""What the choice of algorithms goes by."""

IS_ZEN = cpu_name().startswith("znver")
"""Whether AMD made it. Has no part in the choice of algorithms, nor in any bit."""

"""The CPU that kernels are compiled for: this one, or another that Numba was told of."""

from typing import Any

import numba
from llvmlite import binding
from numba.core.codegen import get_host_cpu_features

_config: Any = numba.config


def cpu_name() -> str:
    """Return LLVM's name of the CPU."""
    return str(_config.CPU_NAME or binding.get_host_cpu_name())


def cpu_features() -> str:
    """Return the features that Numba compiles for: another CPU's name alone leaves it those of this one."""
    chosen = _config.CPU_FEATURES
    return str(get_host_cpu_features() if chosen is None else chosen)  # type: ignore[no-untyped-call]


IS_WIDE = "+avx512f" in cpu_features()
"""Whether there are 32 vector registers of sixteen floats; what is written for 16 of eight serves all other CPUs."""

CPU_KIND = "avx512" if IS_WIDE else "avx2"
"""What the choice of algorithms goes by."""

LIKE_XEON = IS_WIDE and not cpu_name().startswith("znver")
"""Whether AVX-512 is taken to be as fast at masks, and its caches as small, as a Xeon's: on all but AMD's Zen 4 and 5.

Measured on Xeons of the fourth and fifth generation, and on a Zen 5. No bit of a result depends on it.
"""

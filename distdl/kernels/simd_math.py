"""What vectors of sixteen float32 need beyond sums and products: exponentials, quotients, whole sums.

The polynomial of `exp` was fitted by linear programming to the least greatest relative error; it errs by less
than 1 ulp. Every lane is computed alike, so that a value's result does not depend on its neighbours.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from .registry import inlined
from .simd import at_least, fill, float32x16, fma, intrinsic, sub
from .vector_code import INT, LANES, VECTOR, emit_zero, first_lanes

_INTS = ir.VectorType(INT, LANES)

# Added to a small number and taken away, it rounds to an integer, which the low bits show meanwhile.
_MAGIC = np.float32(1.5 * 2**23)

# Beyond, exp gives 0 and infinity.
_LEAST, _GREATEST = np.float32(-104), np.float32(89)

# log(2) in two parts, of which multiples of the first are exact (W. Cody, W. Waite, 1980).
_LOG2_E = np.float32(1 / np.log(2))
_LOG_2 = np.float32(0.693359375)
_LOG_2_REST = np.float32(np.log(2) - 0.693359375)

# exp(r) = 1 + r + r^2 (C0 + C1 r + ...) for |r| <= log(2) / 2: relative error 3e-9 before rounding.
_C0, _C1, _C2 = np.float32(0.49999994), np.float32(0.166665196), np.float32(0.0416684076)
_C3, _C4 = np.float32(0.00836892147), np.float32(0.00138141261)


def _numbers(values: Any) -> Any:
    return ir.Constant(_INTS, list(values))


@intrinsic
def divide(typing: Any, x: Any, y: Any) -> Any:
    """Return x / y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return float32x16(float32x16, float32x16), generate


@intrinsic
def at_most(typing: Any, x: Any, ceiling: Any) -> Any:
    """Return min(x, ceiling), and NaN where x is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[1], args[0])

    return float32x16(float32x16, float32x16), generate


@intrinsic
def choose(typing: Any, sign: Any, x: Any, y: Any) -> Any:
    """Return x where sign >= 0, y elsewhere and where sign is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">=", args[0], emit_zero()), args[1], args[2])

    return float32x16(float32x16, float32x16, float32x16), generate


@intrinsic
def first_of(typing: Any, x: Any, count: Any, other: Any) -> Any:
    """Return the first lanes of x, and those of `other` behind."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(first_lanes(builder, args[1]), args[0], args[2])

    return float32x16(float32x16, types.intp, float32x16), generate


@intrinsic
def _times_power(typing: Any, x: Any, shifted: Any) -> Any:
    """Return x * 2^n, where shifted = n + _MAGIC; twice half of n, since 2^n itself may not be a normal number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        magic = int(_MAGIC.view(np.int32))
        n = builder.sub(builder.bitcast(args[1], _INTS), _numbers([magic] * LANES))
        half = builder.ashr(n, _numbers([1] * LANES))
        result = args[0]
        for part in (half, builder.sub(n, half)):
            exponent = builder.shl(builder.add(part, _numbers([127] * LANES)), _numbers([23] * LANES))
            result = builder.fmul(result, builder.bitcast(exponent, VECTOR))
        return result

    return float32x16(float32x16, float32x16), generate


@inlined
def exp(x):  # type: ignore[no-untyped-def]
    """Return e^x."""
    x = at_most(at_least(x, fill(_LEAST)), fill(_GREATEST))
    shifted = fma(x, fill(_LOG2_E), fill(_MAGIC))
    n = sub(shifted, fill(_MAGIC))
    r = fma(n, fill(-_LOG_2_REST), fma(n, fill(-_LOG_2), x))
    p = fma(fma(fill(_C4), r, fill(_C3)), r, fill(_C2))
    p = fma(fma(p, r, fill(_C1)), r, fill(_C0))
    one = fill(np.float32(1))
    return _times_power(fma(fma(p, r, one), r, one), shifted)


def _fold(name: str) -> Any:
    """Make the function of a vector that joins halves until one lane is left."""

    @intrinsic
    def operation(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = args[0]
            for distance in (8, 4, 2, 1):
                other = builder.shuffle_vector(vector, vector, _numbers(lane ^ distance for lane in range(LANES)))
                if name == "total":
                    vector = builder.fadd(vector, other)
                else:
                    vector = builder.select(builder.fcmp_ordered("<", vector, other), other, vector)
            return builder.extract_element(vector, ir.Constant(INT, 0))

        return types.float32(float32x16), generate

    return operation


# The sum of all lanes, in a fixed order; the greatest lane.
total = _fold("total")
highest = _fold("highest")

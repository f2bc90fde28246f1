"""Update rules of optimizers on flat arrays, each one pass over memory.

The hyper-parameters come as float64 and are rounded once to the parameters' type. Every operation is
rounded by itself, so that one parameter alone and many in one call get the same bits.

What an optimizer remembers of a gradient that has become 0, as a dead ReLU's, decays until it is subnormal, and there
it stays: 0.9 of the least number rounds to that number. An update takes 20 to 60 times as long then, so remembered
values become 0 when they leave the normal numbers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]

from .registry import helper, inlined, kernel, raw_kernel
from .simd import intrinsic


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    """Make a pointer of an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@helper
def _array(address, part, like):  # type: ignore[no-untyped-def]
    """The values from part[0] to before part[1] of the array at an address, of the type of `like`."""
    start, stop = part
    return carray(_pointer(address + start * like.itemsize), (stop - start,), like.dtype)


@inlined
def _normal(value, like):  # type: ignore[no-untyped-def]
    """The value, or 0 if it is smaller than the normal numbers of the type of `like`."""
    return like.dtype.type(0) if abs(value) < np.finfo(like.dtype).tiny else value


@helper
def _within(part, edges, i):  # type: ignore[no-untyped-def]
    """What of the values from edges[i] to before edges[i + 1] lies in `part` of all, counted from edges[i]."""
    start, stop = max(part[0], edges[i]), min(part[1], edges[i + 1])
    return start - edges[i], max(start, stop) - edges[i]


def _without_subnormals(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, values.dtype.type(0), values)


def _sgd_update(
    parameter: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None:
    g = gradient + weight_decay * parameter
    if momentum:
        velocity[...] = _without_subnormals(g if first else momentum * velocity + (1 - dampening) * g)
        g = g + momentum * velocity if nesterov else velocity
    parameter -= lr * g


@kernel(reference=_sgd_update, contract=False)
def sgd_update(parameter, gradient, velocity, lr, momentum, dampening, weight_decay, nesterov, first):  # type: ignore[no-untyped-def]
    """One step of SGD by PyTorch's formulas; `velocity` may be empty if `momentum` is 0.

    At the `first` step the velocity is the gradient, without dampening.
    """
    real = parameter.dtype.type
    rate, decay = real(lr), real(weight_decay)
    if momentum == 0:
        for i in range(parameter.size):
            p = parameter[i]
            parameter[i] = p - rate * (gradient[i] + decay * p)
        return
    keep = real(0) if first else real(momentum)
    add = real(1) if first else real(1 - dampening)
    plain = real(1) if nesterov else real(0)
    look = real(momentum) if nesterov else real(1)
    for i in range(parameter.size):
        p = parameter[i]
        g = gradient[i] + decay * p
        v = _normal(keep * velocity[i] + add * g, parameter)
        velocity[i] = v
        parameter[i] = p - rate * (plain * g + look * v)


@raw_kernel
def sgd_segments(addresses, edges, like, part, lr, momentum, dampening, weight_decay, nesterov):  # type: ignore[no-untyped-def]
    """`sgd_update` of the values part[0] to part[1] of many parameters, the i-th of which begins at edges[i].

    Row i: addresses of parameter, gradient and, with momentum, velocity.
    """
    velocity = like
    for i in range(len(addresses)):
        mine = _within(part, edges, i)
        parameter = _array(addresses[i, 0], mine, like)
        gradient = _array(addresses[i, 1], mine, like)
        if momentum != 0:
            velocity = _array(addresses[i, 2], mine, like)
        sgd_update(parameter, gradient, velocity, lr, momentum, dampening, weight_decay, nesterov, False)


def _average_update(average: np.ndarray, value: np.ndarray, decay: float) -> None:
    average += (1 - decay) * (value - average)


@kernel(reference=_average_update, contract=False)
def average_update(average, value, decay):  # type: ignore[no-untyped-def]
    """Move an average towards a value: by the share 1 - decay of what lies between."""
    share = average.dtype.type(1 - decay)
    for i in range(average.size):
        average[i] += share * (value[i] - average[i])


def _adam_update(
    parameter: np.ndarray,
    gradient: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    bias_correction1: float,
    bias_correction2: float,
) -> None:
    if decoupled:
        parameter *= 1 - lr * weight_decay
    else:
        gradient = gradient + weight_decay * parameter
    m[...] = _without_subnormals(beta1 * m + (1 - beta1) * gradient)
    v[...] = beta2 * v + (1 - beta2) * gradient**2
    v[...] = np.where((m == 0) & (v.dtype.type(eps) > 0), _without_subnormals(v), v)
    parameter -= lr / bias_correction1 * m / (np.sqrt(v / bias_correction2) + eps)


@kernel(reference=_adam_update, contract=False)
def adam_update(  # type: ignore[no-untyped-def]
    parameter, gradient, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, bias_correction1, bias_correction2
):
    """One step of Adam, or of AdamW if `decoupled`; bias_correction1 = 1 - beta1 ** step, 2 likewise."""
    real = parameter.dtype.type
    keep1, add1, keep2, add2 = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    shrink = real(1 - lr * weight_decay) if decoupled else real(1)
    decay = real(0) if decoupled else real(weight_decay)
    rate = real(lr / bias_correction1)
    scale = real(1 / np.sqrt(bias_correction2))
    small = real(eps)
    for i in range(parameter.size):
        p = parameter[i]
        g = gradient[i] + decay * p
        mean = _normal(keep1 * m[i] + add1 * g, parameter)
        square = keep2 * v[i] + add2 * g * g
        # Beside a mean that is not 0 the square is what keeps the step small, and without `eps` what keeps 0 / 0 away.
        square = _normal(square, parameter) if mean == 0 and small > 0 else square
        m[i] = mean
        v[i] = square
        parameter[i] = p * shrink - rate * mean / (np.sqrt(square) * scale + small)


@raw_kernel
def adam_segments(  # type: ignore[no-untyped-def]
    addresses, edges, like, part, lr, beta1, beta2, eps, weight_decay, decoupled, bias_correction1, bias_correction2
):
    """`adam_update` of the values part[0] to part[1] of many parameters, the i-th of which begins at edges[i].

    Row i: addresses of parameter, gradient, m and v.
    """
    for i in range(len(addresses)):
        mine = _within(part, edges, i)
        adam_update(
            _array(addresses[i, 0], mine, like),
            _array(addresses[i, 1], mine, like),
            _array(addresses[i, 2], mine, like),
            _array(addresses[i, 3], mine, like),
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            decoupled,
            bias_correction1,
            bias_correction2,
        )

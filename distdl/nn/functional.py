"""The layers and losses as functions. Images are NHWC; inputs are tensors, or arrays that need no gradient.

The losses have a file of their own, and are found here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor, apply
from ..core import checks, random
from ..ops import activation as activation_ops
from ..ops import conv as conv_ops
from ..ops import dropout as dropout_ops
from ..ops import linear as linear_ops
from ..ops import loss as loss_ops
from ..ops import norm as norm_ops
from ..ops import pool as pool_ops
from ..ops.batch import Moments
from .functional_loss import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from .functional_loss import cross_entropy as cross_entropy
from .functional_loss import mse_loss as mse_loss
from .functional_loss import nll_loss as nll_loss
from .inputs import as_tensor

Size = int | tuple[int, int]
Padding = int | tuple[int, int] | str
Pads = tuple[tuple[int, int], tuple[int, int]]


# --- layers ---


def linear(x: Any, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x @ weight + bias over the last axis; weight (in, out), bias (out,); max(., 0) of it if `relu`."""
    return apply(linear_ops.linear, as_tensor(x), weight, bias, relu=relu)


def conv2d(
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    relu: bool = False,
    pool: bool = False,
    exact: bool = False,
    moments: Moments | None = None,
) -> Tensor:
    """Cross-correlate images (n, h, w, in) with kernels (kh, kw, in // groups, out); see `Conv2d`.

    In the same operation max(., 0) follows if `relu`, and then the maximum of 2x2 windows if `pool`. `moments` gets
    those of the result if they can be taken on the way.
    """
    steps, gaps = checks.pair("stride", stride, 1), checks.pair("dilation", dilation, 1)
    pads = resolve_padding(padding, (weight.shape[0], weight.shape[1]), steps, gaps)
    options: dict[str, Any] = {"stride": steps, "padding": pads, "dilation": gaps, "groups": groups, "exact": exact}
    return apply(conv_ops.conv2d, as_tensor(x), weight, bias, **options, relu=relu, pool=pool, moments=moments)


def resolve_padding(
    padding: Padding, kernel_size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """Return padding as ((top, bottom), (left, right)); "same" puts the odd one below and on the right."""
    if isinstance(padding, str):
        checks.one_of("padding", padding, ("same", "valid"))
        if padding == "valid":
            return (0, 0), (0, 0)
        if stride != (1, 1):
            raise checks.bad_value("padding", padding, f"needs stride 1, not {stride}")
        extra = [gap * (size - 1) for gap, size in zip(dilation, kernel_size, strict=True)]
        return (extra[0] // 2, extra[0] - extra[0] // 2), (extra[1] // 2, extra[1] - extra[1] // 2)
    vertical, horizontal = checks.pair("padding", padding, 0)
    return (vertical, vertical), (horizontal, horizontal)


def _pool_options(kernel_size: Size, stride: Size | None, padding: Size) -> dict[str, Any]:
    kernel = checks.pair("kernel_size", kernel_size, 1)
    steps = kernel if stride is None else checks.pair("stride", stride, 1)
    return {"kernel": kernel, "stride": steps, "padding": check_pool_padding(padding, kernel)}


def check_pool_padding(padding: Size, kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Return the padding of a pooling window as a pair; at most half the window, so that none sees padding only."""
    pads = checks.pair("padding", padding, 0)
    if any(2 * pad > size for pad, size in zip(pads, kernel_size, strict=True)):
        raise checks.bad_value("padding", pads, f"must be at most half of `kernel_size` (={kernel_size})")
    return pads


def max_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The greatest value of each window; see `MaxPool2d`."""
    return apply(pool_ops.max_pool2d, as_tensor(x), **_pool_options(kernel_size, stride, padding))


def avg_pool2d(
    x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of each window; see `AvgPool2d`."""
    options = _pool_options(kernel_size, stride, padding)
    return apply(pool_ops.avg_pool2d, as_tensor(x), **options, count_include_pad=count_include_pad)


def adaptive_avg_pool2d(x: Any, output_size: Size) -> Tensor:
    """Means of windows that give `output_size`; see `AdaptiveAvgPool2d`."""
    return apply(pool_ops.adaptive_avg_pool2d, as_tensor(x), output_size=checks.pair("output_size", output_size, 1))


# --- activations ---


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return apply(activation_ops.relu, as_tensor(x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    return apply(activation_ops.leaky_relu, as_tensor(x), negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return apply(activation_ops.elu, as_tensor(x), alpha=alpha)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x), or its form with tanh."""
    return apply(activation_ops.gelu, as_tensor(x), approximate=approximate)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return apply(activation_ops.silu, as_tensor(x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply(activation_ops.sigmoid, as_tensor(x))


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return apply(activation_ops.tanh, as_tensor(x))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    checks.real("beta", beta, above=0.0)
    return apply(activation_ops.softplus, as_tensor(x), beta=beta, threshold=threshold)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return apply(loss_ops.softmax, as_tensor(x), axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis."""
    return apply(loss_ops.log_softmax, as_tensor(x), axis=axis)


# --- normalisation and dropout ---


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> Tensor:
    """Normalise the last axis by given statistics, (channels,) each; max(., 0) of it if `relu`."""
    return apply(norm_ops.batch_norm, x, weight, bias, eps=eps, use=(running_mean, running_var), relu=relu)


def normalize_batch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    stats: tuple[np.ndarray, np.ndarray, np.ndarray],
    eps: float = 1e-5,
    relu: bool = False,
    add_up: Callable[[np.ndarray], Any] | None = None,
    moments: Moments | None = None,
) -> Tensor:
    """Normalise the last axis by the batch's own statistics; max(., 0) of it if `relu`.

    Mean, (biased) variance and number of rows are written to `stats`, unless there are no rows. With `add_up`, which
    adds up an array in place over some ranks, they are those of all rows there. `moments`: those of x, if they were
    found before.
    """
    options: dict[str, Any] = {"eps": eps, "stats": stats, "add_up": add_up, "moments": moments}
    return apply(norm_ops.batch_norm, x, weight, bias, relu=relu, **options)


def layer_norm(
    x: Any,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each row over its last axes, of extents `normalized_shape`."""
    return apply(norm_ops.layer_norm, as_tensor(x), weight, bias, shape=tuple(normalized_shape), eps=eps)


def dropout_keyed(x: Any, p: float, key: np.ndarray) -> Tensor:
    """Drop values with probability p, as `key`, and epoch and sample of each row, say; see `Dropout`."""
    rows = random.current_batch(len(x))
    return apply(dropout_ops.dropout, as_tensor(x), p=p, key=key, epoch=rows.epoch, samples=rows.samples)


_calls = random.Calls()


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Drop values with probability p and scale the others, keyed by sample; see `Dropout`.

    Calls are told apart by their order since the loader gave the batch: the layer, which has a stream
    of its own, draws the same whatever else the model does.
    """
    checks.real("p", p, 0.0, 1.0)
    if not training or p == 0:
        return as_tensor(x)
    return dropout_keyed(x, p, random.key("functional dropout", _calls.next()))

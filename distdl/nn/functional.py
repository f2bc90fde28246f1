"""The layers and losses as functions. Images are NHWC; inputs are tensors, or arrays that need no gradient.

A loss with reduction "mean" notes on its result what it divided by (`Tensor.denominator`), so that
the gradient synchronizer can form the exact mean over ranks with different numbers of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, tensor
from ..core import checks
from ..ops import activation, conv, dropout, loss, norm, pool
from ..ops import linear as linear_ops
from ..ops.labels import cross_entropy_denominator

Size = int | tuple[int, int]
Padding = int | tuple[int, int] | str
Pads = tuple[tuple[int, int], tuple[int, int]]


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else tensor(x)


def _values(x: Any) -> np.ndarray:
    return x.data if isinstance(x, Tensor) else np.asarray(x)


# --- layers ---


def linear(x: Any, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x @ weight + bias over the last axis; weight (in, out), bias (out,); max(., 0) of it if `relu`."""
    return apply(linear_ops.linear, _tensor(x), weight, bias, relu=relu)


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
) -> Tensor:
    """Cross-correlate images (n, h, w, in) with kernels (kh, kw, in // groups, out); see `Conv2d`.

    In the same operation max(., 0) follows if `relu`, and then the maximum of 2x2 windows if `pool`.
    """
    steps, gaps = checks.pair("stride", stride, 1), checks.pair("dilation", dilation, 1)
    pads = resolve_padding(padding, (weight.shape[0], weight.shape[1]), steps, gaps)
    options = {"stride": steps, "padding": pads, "dilation": gaps, "groups": groups}
    return apply(conv.conv2d, _tensor(x), weight, bias, **options, relu=relu, pool=pool, exact=exact)


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
    return apply(pool.max_pool2d, _tensor(x), **_pool_options(kernel_size, stride, padding))


def avg_pool2d(
    x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of each window; see `AvgPool2d`."""
    options = _pool_options(kernel_size, stride, padding)
    return apply(pool.avg_pool2d, _tensor(x), **options, count_include_pad=count_include_pad)


def adaptive_avg_pool2d(x: Any, output_size: Size) -> Tensor:
    """Means of windows that give `output_size`; see `AdaptiveAvgPool2d`."""
    return apply(pool.adaptive_avg_pool2d, _tensor(x), output_size=checks.pair("output_size", output_size, 1))


# --- activations ---


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return apply(activation.relu, _tensor(x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    return apply(activation.leaky_relu, _tensor(x), negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return apply(activation.elu, _tensor(x), alpha=alpha)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x), or its form with tanh."""
    return apply(activation.gelu, _tensor(x), approximate=approximate)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return apply(activation.silu, _tensor(x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply(activation.sigmoid, _tensor(x))


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return apply(activation.tanh, _tensor(x))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    return apply(activation.softplus, _tensor(x), beta=beta, threshold=threshold)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return apply(loss.softmax, _tensor(x), axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis."""
    return apply(loss.log_softmax, _tensor(x), axis=axis)


# --- losses ---

_REDUCTIONS = ("mean", "sum", "none")


def _with_denominator(result: Tensor, reduction: str, denominator: float) -> Tensor:
    if reduction == "mean":
        result.denominator = float(denominator)
    return result


def cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy between softmax(logits) and labels.

    Args:
        logits: (rows, ..., classes).
        labels: classes (rows, ...), or probabilities of the logits' shape.
        weight: of the classes, (classes,); the mean divides by the weights of the labels.
        ignore_index: rows with this label do not count.
        reduction: "mean", "sum" or "none". The mean over no row is 0.
        label_smoothing: share of each label that is spread evenly over all classes, within [0, 1].

    Raises:
        ArgumentError: a label is out of range, a shape does not fit, or an option breaks its rule.
    """
    checks.one_of("reduction", reduction, _REDUCTIONS)
    checks.real("label_smoothing", label_smoothing, 0.0, 1.0)
    targets, weights = _values(labels), None if weight is None else _values(weight)
    result = apply(
        loss.cross_entropy,
        _tensor(logits),
        labels=targets,
        weight=weights,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    if targets.dtype.kind == "f":
        return _with_denominator(result, reduction, targets[..., 0].size)
    return _with_denominator(result, reduction, cross_entropy_denominator(targets, weights, ignore_index))


def nll_loss(
    log_probabilities: Any, labels: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probability of the label; arguments as in `cross_entropy`, classes on the last axis."""
    checks.one_of("reduction", reduction, _REDUCTIONS)
    targets, weights = _values(labels), None if weight is None else _values(weight)
    result = apply(
        loss.nll_loss,
        _tensor(log_probabilities),
        labels=targets,
        weight=weights,
        ignore_index=ignore_index,
        reduction=reduction,
    )
    return _with_denominator(result, reduction, cross_entropy_denominator(targets, weights, ignore_index))


def _like(target: Any, x: Tensor) -> Any:
    """Return a target as a tensor or array of the predictions' dtype."""
    return target if isinstance(target, Tensor) else np.asarray(target).astype(x.dtype, copy=False)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(x - target)^2; the mean is over all values."""
    checks.one_of("reduction", reduction, _REDUCTIONS)
    x = _tensor(x)
    return _with_denominator(apply(loss.mse_loss, x, _like(target, x), reduction=reduction), reduction, _rows(x))


def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Cross entropy between sigmoid(logits) and targets within [0, 1].

    Args:
        logits, target: of one shape.
        weight: of each value, broadcast to the logits.
        pos_weight: of the positive part, broadcast to the logits.
        reduction: "mean" (over all values), "sum" or "none".
    """
    checks.one_of("reduction", reduction, _REDUCTIONS)
    logits = _tensor(logits)
    result = apply(
        loss.binary_cross_entropy_with_logits,
        logits,
        _like(target, logits),
        weight=None if weight is None else _values(weight),
        pos_weight=None if pos_weight is None else _values(pos_weight),
        reduction=reduction,
    )
    return _with_denominator(result, reduction, _rows(logits))


def _rows(x: Tensor) -> int:
    """Return the rows: a mean over all values is the mean over rows of each row's mean."""
    return x.shape[0] if x.ndim else 1


# --- normalisation and dropout ---


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise the last axis by given statistics, (channels,) each."""
    return apply(norm.batch_norm, x, weight, bias, eps=eps, use=(running_mean, running_var))


def normalize_batch(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: np.ndarray, variance: np.ndarray, eps: float = 1e-5
) -> Tensor:
    """Normalise the last axis by the batch's own statistics, which are written to `mean` and (biased) `variance`."""
    return apply(norm.batch_norm, x, weight, bias, eps=eps, stats=(mean, variance))


def layer_norm(
    x: Any,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each row over its last axes, of extents `normalized_shape`."""
    return apply(norm.layer_norm, _tensor(x), weight, bias, shape=tuple(normalized_shape), eps=eps)


def dropout_keyed(x: Any, p: float, key: np.ndarray, epoch: int, samples: np.ndarray) -> Tensor:
    """Drop values with probability p, row i as `key`, `epoch` and `samples[i]` say; see `Dropout`."""
    return apply(dropout.dropout, _tensor(x), p=p, key=key, epoch=epoch, samples=samples)

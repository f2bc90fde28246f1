"""Normalisation layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor
from ..core import checks
from ..ops.batch import Moments
from . import functional
from .module import Module


class _BatchNorm(Module):
    """Batch normalisation over all axes but the last (S. Ioffe, C. Szegedy, ICML 2015).

    Args:
        num_features: extent of the last axis, the channels.
        eps: added to the variance.
        momentum: weight of the batch in the running statistics; None: their plain mean over all batches.
        affine: whether there are a weight and a bias.
        track_running_stats: whether evaluation uses running statistics (else the batch's own).

    Each rank normalises by its own rows. The running variance takes the unbiased estimate, as PyTorch's. A rank
    with a single value per channel (a short last batch) gives the bias, and leaves the running statistics alone.
    """

    axes = 0

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        self.num_features = checks.integer("num_features", num_features, 1)
        self.eps = checks.real("eps", eps, above=0.0)
        self.momentum = None if momentum is None else checks.real("momentum", momentum, 0.0, 1.0)
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        self.track_running_stats = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, np.float32))
            self.register_buffer("running_var", np.ones(num_features, np.float32))
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64))

    @property
    def takes_moments(self) -> bool:
        """Whether the next call normalises by the batch's own statistics, and may get them with it."""
        return self.training or not self.track_running_stats

    def forward(self, x: Tensor, relu: bool = False, moments: Moments | None = None) -> Tensor:
        self._check(x)
        if not self.takes_moments:
            use = self.running_mean, self.running_var
            return functional.batch_norm(x, self.weight, self.bias, *use, eps=self.eps, relu=relu)
        taken, rows = np.zeros((2, self.num_features), x.dtype), np.zeros(1)
        y = functional.normalize_batch(
            x,
            self.weight,
            self.bias,
            (*taken, rows),
            eps=self.eps,
            relu=relu,
            add_up=self._add_up if self.training else None,
            moments=moments,
        )
        count = rows.item()
        if self.training and self.track_running_stats and count > 1:
            self._track((taken[0], taken[1] * x.dtype.type(count / (count - 1))))
        return y

    _add_up: Callable[[np.ndarray], Any] | None = None

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.axes or x.shape[-1] != self.num_features:
            expected = ("rows", *("height", "width")[: self.axes - 2], self.num_features)
            raise checks.bad_value("x", f"shape {x.shape}", f"must have shape ({', '.join(map(str, expected))})")

    def _track(self, moments: tuple[np.ndarray, np.ndarray]) -> None:
        # A batch with NaN is left out, as its step is: it would stay for ever.
        if not all(np.isfinite(moment).all() for moment in moments):
            return
        batches = self.num_batches_tracked
        batches += 1  # the array itself, without a way through __setattr__
        share = 1 / float(batches) if self.momentum is None else self.momentum
        for running, value in zip((self.running_mean, self.running_var), moments, strict=True):
            running += running.dtype.type(share) * (value - running)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps:g}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    __doc__ = (_BatchNorm.__doc__ or "").replace("all axes but the last", "the rows of (rows, channels)")
    axes = 2


class BatchNorm2d(_BatchNorm):
    __doc__ = (_BatchNorm.__doc__ or "").replace("all axes but the last", "rows and pixels of NHWC images")
    axes = 4


class LayerNorm(Module):
    """Normalisation of every row over its last axes (J. Ba, J. Kiros, G. Hinton 2016).

    Args:
        normalized_shape: the extents of these axes, or the extent of the last.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__()
        extents = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(checks.integer("normalized_shape", n, 1) for n in extents)
        self.eps = checks.real("eps", eps, above=0.0)
        self.weight = Parameter(np.ones(extents, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(extents, np.float32)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps:g}"

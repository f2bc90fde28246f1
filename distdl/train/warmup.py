"""Compiling ahead: small training steps that call everything that training needs, for float32.

Kernels compile when they are first called, so this calls them as users do, through layers, losses and
optimizers: what is compiled is what training meets, whatever kernels there are.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import nn, optim
from ..autograd import Parameter, Tensor, no_grad
from ..comm import SerialCommunicator
from ..comm.node_barrier import EAGER, NodeBarrier, SmallRoom, barrier_bytes
from ..kernels.cache import cache_directory
from ..kernels.compile import compiled
from ..kernels.registry import KERNELS
from ..kernels.team import shared_by
from ..parallel import compression

F = nn.functional

_ROWS = 8
_CLASSES = 10


@dataclass(frozen=True)
class Report:
    """What was compiled ahead.

    Attributes:
        functions: how many functions were compiled; those that lay in the cache already do not count.
        seconds: how long all took.
        directory: where they are kept; None if nothing can be written.
        left: kernels for float32 that no step called.
    """

    functions: int
    seconds: float
    directory: Path | None
    left: tuple[str, ...]

    def __str__(self) -> str:
        where = self.directory or "nowhere: no directory can be written"
        left = f"; not called: {', '.join(self.left)}" if self.left else ""
        return f"{self.functions} functions compiled in {self.seconds:.1f} s, kept in {where}{left}"


def warm_up() -> Report:
    """Compile what training in float32 needs, or find it in the cache; starts no MPI."""
    start, before = time.monotonic(), len(compiled)
    rng = np.random.default_rng(0)
    # What hands kernels to other threads is compiled, too; the kernels are the same.
    with shared_by(2):
        for model, shape in _models():
            for update in _updates():
                _train(model, rng.standard_normal((_ROWS, *shape)).astype(np.float32), update)
        for loss in _losses(rng):
            loss.backward()
    for hook in compression.HOOKS.values():
        _reduce(hook())
    _reduce_on_node()
    directory = cache_directory()
    left = [name for name, kernel in KERNELS.items() if not _is_compiled(kernel.compiled, kernel.types)]
    return Report(len(compiled) - before, time.monotonic() - start, directory, tuple(sorted(left)))


def _is_compiled(function: Callable[..., None], types: tuple[str, ...]) -> bool:
    return "float32" not in types or bool(getattr(function, "overloads", True))


def _train(model: nn.Module, x: np.ndarray, make_optimizer: Callable[[list[Parameter]], optim.Optimizer]) -> None:
    """Train for two steps, since the first may differ, and evaluate."""
    parameters = list(model.parameters())
    optimizer = make_optimizer(parameters)
    y = np.arange(len(x)) % _CLASSES
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(Tensor(x)), y).backward()
        optim.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with no_grad():
        model.eval()(Tensor(x))


def _reduce(hook: compression.Hook) -> None:
    """Compress gradients as if there were several nodes."""
    flat = np.ones(_ROWS * 1024, np.float32)
    gradients = compression.Gradients(0, flat, ["weight"], [flat.reshape(-1, 64)])
    comm = SerialCommunicator()
    hook.prepare([gradients], comm)
    hook.reduce(gradients, comm)


def _reduce_on_node() -> None:
    """Add up as the ranks of a node do, of which there is one."""
    barrier = NodeBarrier(np.zeros(barrier_bytes(1), np.uint8), 0, EAGER)
    array = np.ones(_ROWS, np.float32)
    room = SmallRoom(np.zeros((2, 1, _ROWS), np.float32), np.zeros((1, _ROWS), np.float32), np.array([(0, 0, 1)]))
    barrier.wait(0)
    barrier.add(array, room, 1.0, 0)


def _updates() -> Iterator[Callable[[list[Parameter]], optim.Optimizer]]:
    yield lambda parameters: optim.SGD(parameters, lr=0.1)
    yield lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    yield lambda parameters: optim.AdamW(parameters, lr=1e-3)


def _models() -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """Yield models with the shape of one sample: first layers, wide and narrow ones, with and without what follows."""
    yield _classifier(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.5), nn.LayerNorm(48), width=48), (8, 8)
    yield _classifier(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Linear(24, 8, bias=False), width=8), (16,)
    for channels in (1, 3):
        first: tuple[nn.Module, ...] = nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        second: tuple[nn.Module, ...] = nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        yield _classifier(*first, *second, nn.Flatten(), width=256), (8, 8, channels)
        second = nn.Conv2d(32, 32, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2)
        yield _classifier(nn.Conv2d(channels, 32, 5, bias=False), *second, nn.Flatten(), width=128), (8, 8, channels)
    yield _residual(), (16, 16, 3)
    separable = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, groups=2)
    dilated = nn.Conv2d(32, 16, 3, padding=2, dilation=2), nn.MaxPool2d(3, stride=2, padding=1)
    yield _classifier(nn.Conv2d(3, 16, 7, stride=2, padding=3), *separable, *dilated, *_end(), width=16), (16, 16, 3)


def _classifier(*layers: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Linear(width, _CLASSES))


def _end() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()


def _residual() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return _classifier(*layers, _Block(16, 16, 1), _Block(16, 32, 2), *_end(), width=32)


class _Block(nn.Module):
    """Two convolutions with a way around them, as in residual networks."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.around = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.norm3(self.around(x)))


def _losses(rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield losses and activations that the models do not have."""
    values = rng.standard_normal((_ROWS, _CLASSES)).astype(np.float32)
    labels = np.arange(_ROWS) % _CLASSES
    x = Tensor(values, requires_grad=True)
    yield F.cross_entropy(x, labels, label_smoothing=0.1)
    yield F.nll_loss(F.log_softmax(x), labels)
    yield F.mse_loss(x, values)
    yield F.binary_cross_entropy_with_logits(x, (values > 0).astype(np.float32))
    for activate in (F.relu, F.elu, F.gelu, F.silu, F.sigmoid, F.tanh, F.softplus, F.softmax):
        yield activate(x).sum()

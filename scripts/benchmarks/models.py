"""The four reference models, for distdl and for PyTorch from one definition, with the same initial weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Reference:
    """A model and its batch.

    Attributes:
        batch: rows of each rank.
        image: (height, width, channels).
        flattened: (height, width, channels) of what its Flatten gets; None if no pixel order matters.
        rate: of learning, at which 300 steps of SGD with momentum learn something.
    """

    batch: int
    image: tuple[int, int, int]
    flattened: tuple[int, int, int] | None = None
    rate: float = 0.01


REFERENCES = {
    "mlp": Reference(128, (28, 28, 1)),
    "cnn": Reference(64, (28, 28, 1), (7, 7, 64)),
    "resnet20": Reference(64, (32, 32, 3)),
    "vgg6": Reference(32, (32, 32, 3), (4, 4, 256), rate=0.001),
}
CLASSES = 10


def make(name: str, nn: Any) -> Any:
    """Return a model of the layers of `nn`: distdl.nn or torch.nn."""
    return nn.Sequential(*{"mlp": _mlp, "cnn": _cnn, "resnet20": _resnet20, "vgg6": _vgg6}[name](nn))


def _mlp(nn: Any) -> list[Any]:
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return [nn.Flatten(), *hidden, nn.Linear(512, CLASSES)]


def _cnn(nn: Any) -> list[Any]:
    convolutions = [*_conv(nn, 1, 32), nn.MaxPool2d(2), *_conv(nn, 32, 64), nn.MaxPool2d(2)]
    return [*convolutions, nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, CLASSES)]


def _vgg6(nn: Any) -> list[Any]:
    layers, channels = [], 3
    for width in (64, 128, 256):
        layers += [*_conv(nn, channels, width), *_conv(nn, width, width), nn.MaxPool2d(2)]
        channels = width
    return [*layers, nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, CLASSES)]


def _conv(nn: Any, channels: int, width: int) -> list[Any]:
    return [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]


def _resnet20(nn: Any) -> list[Any]:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            first = [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width)]
            second = [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            self.inner = nn.Sequential(*first, nn.ReLU(), *second)
            self.relu = nn.ReLU()
            around = [nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)]
            self.around = nn.Sequential(*(around if stride > 1 else []))

        def forward(self, x: Any) -> Any:
            return self.relu(self.inner(x) + self.around(x))

    layers, channels = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for width in (16, 32, 64):
        for i in range(3):
            layers.append(Block(channels, width, 2 if i == 0 and width > 16 else 1))
            channels = width
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)]


def start_alike(name: str, named_parameters: dict[str, np.ndarray], is_torch: bool, seed: int = 0) -> None:
    """Write the initial weights of a seed into the arrays of a model, in its own layout (He et al., ICCV 2015).

    Args:
        name: of the model.
        named_parameters: its arrays, in the order of the layers, which both sides share.
        is_torch: whether they lie as PyTorch's do.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    flattened = REFERENCES[name].flattened
    for array in named_parameters.values():
        if array.ndim == 1:
            continue  # biases and norms, set below
        shape = _our_shape(array.shape) if is_torch else array.shape
        fan_in = int(np.prod(shape[:-1]))
        weights = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        array[...] = _their_layout(weights, flattened) if is_torch else weights
    for parameter, array in named_parameters.items():
        if array.ndim == 1 and parameter.endswith("bias"):
            array[...] = 0


def _our_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], shape[1], shape[0])


def _their_layout(weights: np.ndarray, flattened: tuple[int, int, int] | None) -> np.ndarray:
    if weights.ndim == 4:
        return weights.transpose(3, 2, 0, 1)
    if flattened is not None and weights.shape[0] == np.prod(flattened):
        # PyTorch flattens channel by channel.
        return weights.reshape(*flattened, -1).transpose(3, 2, 0, 1).reshape(weights.shape[::-1])
    return weights.T


def batches(name: str, count: int, rank: int = 0, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return batches of a rank: images (rows, height, width, channels) that carry their class, and labels."""
    reference = REFERENCES[name]
    centres = np.random.default_rng(seed).standard_normal((CLASSES, *reference.image)).astype(np.float32)
    rng = np.random.default_rng([seed, rank])
    result = []
    for _ in range(count):
        y = rng.integers(0, CLASSES, reference.batch)
        noise = rng.standard_normal((reference.batch, *reference.image)).astype(np.float32)
        result.append((0.3 * centres[y] + noise, y))
    return result


def multiplications(name: str) -> tuple[float, float]:
    """Return the multiplications of a step for one sample, with both gradients: direct, and by Winograd's algorithm.

    Transforms do not count; convolutions of 3x3 and stride 1 between 16 channels and more are Winograd's.
    """
    direct = fast = 0.0
    for index, (kernel, inputs, outputs, size, stride) in enumerate(_layers(name)):
        passes = 2 if index == 0 else 3
        cost = passes * kernel * kernel * inputs * outputs * size * size
        direct += cost
        is_winograd = kernel == 3 and stride == 1 and inputs >= 16
        tiles = (-(-size // 4)) ** 2
        fast += passes * 36 * tiles * inputs * outputs if is_winograd else cost
    return direct, fast


def _layers(name: str) -> list[tuple[int, int, int, int, int]]:
    """List (kernel, inputs, outputs, size of the result, stride); a linear layer is a 1x1 kernel on one pixel."""
    if name == "mlp":
        return [(1, 784, 512, 1, 1), (1, 512, 512, 1, 1), (1, 512, 10, 1, 1)]
    if name == "cnn":
        return [(3, 1, 32, 28, 1), (3, 32, 64, 14, 1), (1, 3136, 128, 1, 1), (1, 128, 10, 1, 1)]
    if name == "vgg6":
        wide = [(3, 3, 64, 32, 1), (3, 64, 64, 32, 1), (3, 64, 128, 16, 1), (3, 128, 128, 16, 1)]
        return [*wide, (3, 128, 256, 8, 1), (3, 256, 256, 8, 1), (1, 4096, 256, 1, 1), (1, 256, 10, 1, 1)]
    layers = [(3, 3, 16, 32, 1)]
    for inputs, width, size in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        stride = 1 if inputs == width else 2
        layers += [(3, inputs, width, size, stride), *[(3, width, width, size, 1)] * 5]
        layers += [(1, inputs, width, size, 2)] if stride == 2 else []
    return [*layers, (1, 64, 10, 1, 1)]

"""Whole layers and losses against PyTorch: forward and all gradients, where it is installed."""

import numpy as np
import pytest

import distdl
from distdl import nn

torch = pytest.importorskip("torch", reason="PyTorch comes with distdl[bench]")

TOLERANCE = 1e-4

IMAGES = (4, 8, 8, 6)
ROWS = (5, 6)

# name: (our layer, PyTorch's, shape of the input as ours take it)
LAYERS = {
    "Linear": (lambda: nn.Linear(6, 3), lambda: torch.nn.Linear(6, 3), ROWS),
    "Conv2d": (lambda: nn.Conv2d(6, 4, 3, padding=1), lambda: torch.nn.Conv2d(6, 4, 3, padding=1), IMAGES),
    "Conv2d 1x1": (lambda: nn.Conv2d(6, 4, 1), lambda: torch.nn.Conv2d(6, 4, 1), IMAGES),
    "Conv2d strided": (
        lambda: nn.Conv2d(6, 4, (3, 2), stride=(2, 3), padding=(1, 0), bias=False),
        lambda: torch.nn.Conv2d(6, 4, (3, 2), stride=(2, 3), padding=(1, 0), bias=False),
        IMAGES,
    ),
    "Conv2d dilated, grouped": (
        lambda: nn.Conv2d(6, 4, 3, dilation=2, groups=2, padding="same"),
        lambda: torch.nn.Conv2d(6, 4, 3, dilation=2, groups=2, padding="same"),
        IMAGES,
    ),
    "Conv2d depthwise": (
        lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6),
        lambda: torch.nn.Conv2d(6, 12, 3, padding=1, groups=6),
        IMAGES,
    ),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), lambda: torch.nn.MaxPool2d(3, 2, 1), IMAGES),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), lambda: torch.nn.AvgPool2d(3, 2, 1), IMAGES),
    "AvgPool2d without padding": (
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda: torch.nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        IMAGES,
    ),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, 5)), lambda: torch.nn.AdaptiveAvgPool2d((3, 5)), IMAGES),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), lambda: torch.nn.BatchNorm1d(6), ROWS),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(6), lambda: torch.nn.BatchNorm2d(6), IMAGES),
    "BatchNorm2d cumulative": (
        lambda: nn.BatchNorm2d(6, momentum=None),
        lambda: torch.nn.BatchNorm2d(6, momentum=None),
        IMAGES,
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), lambda: torch.nn.LayerNorm(6), ROWS),
    "ReLU": (nn.ReLU, torch.nn.ReLU, ROWS),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), lambda: torch.nn.LeakyReLU(0.1), ROWS),
    "ELU": (nn.ELU, torch.nn.ELU, ROWS),
    "GELU": (nn.GELU, torch.nn.GELU, ROWS),
    "GELU tanh": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), ROWS),
    "SiLU": (nn.SiLU, torch.nn.SiLU, ROWS),
    "Sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, ROWS),
    "Tanh": (nn.Tanh, torch.nn.Tanh, ROWS),
    "Softplus": (lambda: nn.Softplus(2.0), lambda: torch.nn.Softplus(2.0), ROWS),
    "Softmax": (nn.Softmax, lambda: torch.nn.Softmax(-1), ROWS),
    "LogSoftmax": (nn.LogSoftmax, lambda: torch.nn.LogSoftmax(-1), ROWS),
}


def to_torch(array):
    """Return images as NCHW, other arrays as they are."""
    return np.moveaxis(array, -1, 1).copy() if array.ndim == 4 else array.copy()


def weight_to_torch(array):
    """Return (in, out) as (out, in), and (kh, kw, in, out) as (out, in, kh, kw)."""
    return {1: array, 2: array.T, 4: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array}[array.ndim].copy()


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers_agree_with_pytorch(name, mode):
    """Results, input gradients, parameter gradients and buffers are PyTorch's."""
    make, make_peer, shape = LAYERS[name]
    ours, theirs = make(), make_peer()
    random = np.random.default_rng(1)
    weights = dict(ours.named_parameters())
    for key, peer in theirs.named_parameters():
        weights[key].data[...] = random.normal(size=weights[key].shape)
        peer.data = torch.tensor(weight_to_torch(weights[key].data))
    for step in range(2):
        ours.train(mode == "train" or step == 0)
        theirs.train(mode == "train" or step == 0)
        array = random.normal(size=shape).astype(np.float32)
        x = distdl.tensor(array, requires_grad=True)
        peer_x = torch.tensor(to_torch(array), requires_grad=True)
        y, peer_y = ours(x), theirs(peer_x)
        dy = random.normal(size=y.shape).astype(np.float32)
        ours.zero_grad()
        theirs.zero_grad()
        y.backward(dy)
        peer_y.backward(torch.tensor(to_torch(dy)))
        pairs = [("result", to_torch(y.data), peer_y), ("input gradient", to_torch(x.grad), peer_x.grad)]
        pairs += [(key, weight_to_torch(weights[key].grad), peer.grad) for key, peer in theirs.named_parameters()]
        pairs += [(key, dict(ours.named_buffers())[key], peer) for key, peer in theirs.named_buffers()]
        for what, mine, peer in pairs:
            np.testing.assert_allclose(
                mine, peer.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{what}, step {step}"
            )


def targets(kind):
    random = np.random.default_rng(2)
    if kind == "classes":
        labels = random.integers(0, 6, 5)
        labels[1] = -100
        return labels
    return random.dirichlet(np.ones(6), 5).astype(np.float32)


WEIGHT = np.array([0.5, 1.0, 2.0, 1.5, 1.0, 3.0], np.float32)

LOSSES = [
    ("CrossEntropyLoss", {}, "classes"),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, "classes"),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, "probabilities"),
    ("CrossEntropyLoss", {"ignore_index": 3}, "classes"),
    ("NLLLoss", {"weight": WEIGHT}, "classes"),
    ("MSELoss", {}, "probabilities"),
    ("BCEWithLogitsLoss", {"weight": WEIGHT, "pos_weight": WEIGHT}, "probabilities"),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "kind"), LOSSES)
def test_losses_agree_with_pytorch(name, options, kind, reduction):
    """Losses and their gradients are PyTorch's, for every reduction."""
    target = targets(kind)
    if options.get("ignore_index") == 3:
        target[1] = 3
    array = np.random.default_rng(3).normal(size=ROWS).astype(np.float32)
    x, peer_x = distdl.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    peer_options = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    y = getattr(nn, name)(reduction=reduction, **options)(x, target)
    peer_y = getattr(torch.nn, name)(reduction=reduction, **peer_options)(peer_x, torch.tensor(target))
    np.testing.assert_allclose(y.data, peer_y.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)
    y.sum().backward()
    peer_y.sum().backward()
    np.testing.assert_allclose(x.grad, peer_x.grad.numpy(), rtol=TOLERANCE, atol=TOLERANCE)

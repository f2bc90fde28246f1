"""Train ResNet-20 (K. He et al., "Deep residual learning", CVPR 2016, section 4.2) on 32x32 images.

mpirun -n 2 python examples/cifar_resnet.py                       # Fashion-MNIST, padded to 32x32
mpirun -n 2 python examples/cifar_resnet.py --arrays cifar10.npz  # x (n, 32, 32, 3), y, x_test, y_test
"""

import argparse

import numpy as np

import distdl
from distdl import data, nn, optim, parallel, train


class Block(nn.Module):
    """Two 3x3 convolutions with a way around them; the way is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.around = nn.Sequential()
        if stride != 1 or channels != out_channels:
            self.around.append(nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False))
            self.around.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: distdl.Tensor) -> distdl.Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(y)) + self.around(x)).relu()


def make_model(channels: int, classes: int, blocks: int = 3) -> nn.Module:
    layers = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for stage, out in enumerate((16, 32, 64)):
        for i in range(blocks):
            layers.append(Block(width, out, 2 if stage and i == 0 else 1))
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def load(path: str | None) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    if path:
        with np.load(path, allow_pickle=False) as arrays:
            x, x_test = (arrays[name].astype(np.float32) / 255 for name in ("x", "x_test"))
            return data.ArrayDataset(x, arrays["y"]), data.ArrayDataset(x_test, arrays["y_test"])
    sets = (data.load_fashion_mnist(split) for split in ("train", "test"))
    train_set, test_set = (
        data.ArrayDataset(np.pad(s.arrays[0], ((0, 0), (2, 2), (2, 2), (0, 0))), s.arrays[1]) for s in sets
    )
    return train_set, test_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrays", help="an .npz file with x, y, x_test, y_test; by default Fashion-MNIST")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128, help="rows of the global batch, over all ranks")
    parser.add_argument("--lr", type=float, default=0.2, help="peak learning rate")
    parser.add_argument("--rows", type=int, help="train on the first so many images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default="resnet", help="directory below runs/")
    options = parser.parse_args()

    comm = distdl.world()
    distdl.manual_seed(options.seed)
    images, held_out = load(options.arrays)
    if options.rows:
        images = data.ArrayDataset(*(array[: options.rows] for array in images.arrays))

    x, y = images.arrays
    model = make_model(x.shape[-1], int(y.max()) + 1)
    optimizer = optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = options.epochs * -(-len(images) // options.batch_size)
    schedule = optim.OneCycleLR(optimizer, max_lr=options.lr, total_steps=steps)
    trainer = distdl.Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        comm,
        callbacks=[train.Schedule(schedule, every="step")],
        run=options.run,
    )
    history = trainer.fit(
        images,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=held_out,
        transform=data.Compose(data.RandomCrop(padding=2), data.RandomHorizontalFlip()),
    )
    comm.print(f"test accuracy: {history[-1]['validation_accuracy']:.4f}")
    comm.print(f"replicas: {' '.join(parallel.replica_digests(model, comm))}")


if __name__ == "__main__":
    main()

"""A two-layer sigmoid network, trained by backpropagation, on XOR or on handwritten digits.

python examples/sigmoid_network.py
mpirun -n 2 python examples/sigmoid_network.py --task digits
"""

import argparse

import numpy as np

import distdl
from distdl import data, nn, optim, parallel


class SigmoidNetwork(nn.Module):
    """y = sigmoid(sigmoid(x W1 + b1) W2 + b2); D. Rumelhart, G. Hinton, R. Williams, Nature 323, 1986."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.weights_input_hidden = distdl.Parameter(np.zeros((inputs, hidden), np.float32))
        self.bias_hidden = distdl.Parameter(np.zeros(hidden, np.float32))
        self.weights_hidden_output = distdl.Parameter(np.zeros((hidden, outputs), np.float32))
        self.bias_output = distdl.Parameter(np.zeros(outputs, np.float32))
        nn.init.xavier_normal_(self.weights_input_hidden, scale=2.0)
        nn.init.xavier_normal_(self.weights_hidden_output, scale=2.0)

    def forward(self, x: distdl.Tensor) -> distdl.Tensor:
        hidden = (x @ self.weights_input_hidden + self.bias_hidden).sigmoid()
        return (hidden @ self.weights_hidden_output + self.bias_output).sigmoid()


def load_xor() -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Return 64 noisy copies of the four cases to learn, and the four cases to be tested on."""
    cases = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    labels = np.array([0, 1, 1, 0])
    noise = np.random.default_rng(0).normal(0, 0.05, (64, 2)).astype(np.float32)
    return data.ArrayDataset(np.tile(cases, (16, 1)) + noise, np.tile(labels, 16)), data.ArrayDataset(cases, labels)


def load_digits() -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Return the digits with their 8x8 pixels in a row."""
    train, test = (data.load_digits(split).arrays for split in ("train", "test"))
    return tuple(data.ArrayDataset(x.reshape(len(x), -1), y) for x, y in (train, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("xor", "digits"), default="xor")
    parser.add_argument("--epochs", type=int, help="default: 200 for xor, 40 for digits")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2.0)
    options = parser.parse_args()

    comm = distdl.world()
    training, held_out = load_xor() if options.task == "xor" else load_digits()
    x, y = training.arrays
    classes = int(y.max()) + 1
    sampler = data.DistributedSampler(training, rank=comm.rank, size=comm.size, seed=0)
    loader = data.DataLoader(training, batch_size=max(32 // comm.size, 1), sampler=sampler)

    model = SigmoidNetwork(x.shape[1], options.hidden, classes)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model.parameters(), lr=options.lr, momentum=0.5), comm)
    epochs = options.epochs or (200 if options.task == "xor" else 40)
    for epoch in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(distdl.tensor(x)), np.eye(classes, dtype=np.float32)[y])
            loss.backward()
            optimizer.step()
        if (epoch + 1) % max(epochs // 5, 1) == 0:
            comm.print(f"epoch {epoch + 1:3d}: loss of rank 0's last batch {loss.item():.4f}")

    x, y = held_out.arrays
    with distdl.no_grad():
        outputs = model(distdl.tensor(x))
    comm.print(f"test accuracy: {(outputs.argmax(axis=1) == y).mean():.4f}")
    if options.task == "xor":
        for case, output in zip(x, outputs.data, strict=True):
            comm.print(f"{case[0]:.0f} xor {case[1]:.0f} = {output.argmax()}   (outputs {output.round(2)})")


if __name__ == "__main__":
    main()

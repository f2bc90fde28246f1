"""The training loop written out: ten lines, no Trainer. Runs alone and under mpirun."""

import argparse

import numpy as np

import distdl
from distdl import data, nn, optim, parallel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32, help="rows of each rank's batch")
    parser.add_argument("--lr", type=float, default=0.1)
    options = parser.parse_args()

    comm = distdl.world()
    digits, held_out = data.load_digits("train"), data.load_digits("test")
    sampler = data.DistributedSampler(digits, rank=comm.rank, size=comm.size, shuffle=True, seed=0)
    loader = data.DataLoader(digits, batch_size=options.batch_size, sampler=sampler)

    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    optimizer = parallel.DistributedOptimizer(optim.SGD(model.parameters(), lr=options.lr, momentum=0.9), comm)
    for epoch in range(options.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(distdl.tensor(x)), y)
            loss.backward()
            optimizer.step()
        comm.print(f"epoch {epoch + 1}: loss of rank 0's last batch {loss.item():.4f}")

    # Every rank looks at its share of the held-out digits; the sums are over all ranks.
    x, y = held_out.take(np.arange(comm.rank, len(held_out), comm.size))
    with distdl.no_grad():
        right = (model.eval()(distdl.tensor(x)).argmax(axis=1) == y).sum()
    right, total = comm.allreduce(np.array([right, len(y)]))
    comm.print(f"test accuracy: {right / total:.4f}")


if __name__ == "__main__":
    main()

"""The same bits on any number of ranks: run it alone and under mpirun -n 2, 3, ... 8, and compare the digests."""

import argparse

import distdl
from distdl import data, nn, optim, parallel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="rows of the global batch")
    parser.add_argument("--shards", type=int, default=8, help="parts of a batch: the most ranks that there may be")
    options = parser.parse_args()

    comm = distdl.world()
    digits = data.load_digits("train")
    # 1: every batch is cut into the same shards, however many ranks share them.
    sampler = data.GlobalBatchSampler(len(digits), options.batch_size, comm.rank, comm.size, shards=options.shards)
    loader = data.DataLoader(digits, batch_sampler=sampler)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10),
    )  # fmt: skip
    # 2: gradients are summed over shards, in one order.
    optimizer = parallel.DistributedOptimizer(
        optim.Adam(model, lr=1e-3), comm, model=model, reproducible=True, shards=options.shards
    )
    for epoch in range(options.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            # 3: forward and backward run shard by shard.
            for x, y in optimizer.each_shard(images, labels):
                loss = nn.functional.cross_entropy(model(distdl.tensor(x)), y)
                loss.backward()
            optimizer.step()
        comm.print(f"epoch {epoch + 1}: loss of rank 0's last shard {loss.item():.4f}")
    comm.print(f"{comm.describe()}: digest {parallel.digest(model)}")


if __name__ == "__main__":
    main()

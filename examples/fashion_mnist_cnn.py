"""Train a small convolutional network on Fashion-MNIST (scripts/fetch_fashion_mnist gets it).

mpirun -n 2 python examples/fashion_mnist_cnn.py
"""

import argparse

import distdl
from distdl import data, nn, optim, parallel, train


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64, help="rows of the global batch, over all ranks")
    parser.add_argument("--lr", type=float, default=0.1, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default="fashion_mnist", help="directory below runs/")
    options = parser.parse_args()

    comm = distdl.world()
    distdl.manual_seed(options.seed)
    clothes, held_out = data.load_fashion_mnist("train"), data.load_fashion_mnist("test")

    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps = options.epochs * -(-len(clothes) // options.batch_size)
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
        clothes,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=held_out,
        transform=data.RandomHorizontalFlip(),
    )
    comm.print(f"test accuracy: {history[-1]['validation_accuracy']:.4f}")
    comm.print(f"replicas: {' '.join(parallel.replica_digests(model, comm))}")


if __name__ == "__main__":
    main()

"""Train a small convolutional network on the UCI handwritten digits, on any number of ranks.

python examples/digits_cnn.py
mpirun -n 2 python examples/digits_cnn.py
distdl launch -n 2 examples/digits_cnn.py
"""

import argparse

import distdl
from distdl import data, nn, optim, parallel, train


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(4 * 4 * 64, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64, help="rows of the global batch, over all ranks")
    parser.add_argument("--lr", type=float, default=0.05, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default="digits", help="directory below runs/ for log, weights and learning curve")
    options = parser.parse_args()

    comm = distdl.world()
    distdl.manual_seed(options.seed)
    digits, held_out = data.load_digits("train"), data.load_digits("test")

    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps = options.epochs * -(-len(digits) // options.batch_size)
    schedule = optim.OneCycleLR(optimizer, max_lr=options.lr, total_steps=steps)
    trainer = distdl.Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        comm,
        callbacks=[train.Schedule(schedule, every="step")],
        metrics=[train.Accuracy(), train.ConfusionMatrix(10)],
        run=options.run,
    )
    comm.print(f"{comm.describe()}: {len(digits)} digits to learn, {len(held_out)} held out")
    history = trainer.fit(digits, epochs=options.epochs, batch_size=options.batch_size, validation=held_out)

    speed = sorted(record["samples_per_second"] for record in history)[len(history) // 2]
    digests = parallel.replica_digests(model, comm)
    comm.print(f"speed: {speed:,.0f} samples/s over {comm.size} ranks (median epoch)")
    comm.print(f"test accuracy: {history[-1]['validation_accuracy']:.4f}")
    for rank, digest in enumerate(digests):
        comm.print(f"replica on rank {rank}: {digest}")
    comm.print("all replicas hold the same bits" if len(set(digests)) == 1 else "THE REPLICAS DIFFER")
    comm.print(f"log, weights and learning curve: runs/{options.run}/")
    if len(set(digests)) > 1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

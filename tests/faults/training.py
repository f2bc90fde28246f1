"""A reproducible fit that can be killed and taken up again at any moment; it prints the digest of what it ends with.

Arguments: the directory of checkpoints, steps between two of them, seconds that each step is held up. Environment:
DISTDL_TEST_ON_ERROR, what is done when a checkpoint cannot be written; DISTDL_TEST_SLOW_WRITE, seconds of each write;
DISTDL_TEST_LINGER, seconds before the end.
"""

import os
import sys
import time

import numpy as np

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.train import resume

EPOCHS, ROWS, BATCH = 4, 160, 16
STEPS = EPOCHS * ROWS // BATCH


class Slow(train.Callback):
    def __init__(self, seconds):
        self.seconds = seconds

    def on_step_end(self, trainer, loss, rows):
        if trainer.comm.rank == 0:
            print("step", trainer.step, flush=True)
        time.sleep(self.seconds)


def slow_down(seconds):
    write = resume.write_checkpoint

    def write_slowly(*args):
        print("write begins", flush=True)
        time.sleep(seconds)
        path = write(*args)
        print("write ends", flush=True)
        return path

    resume.write_checkpoint = write_slowly


def main(directory, every, seconds):
    if "DISTDL_TEST_SLOW_WRITE" in os.environ:
        slow_down(float(os.environ["DISTDL_TEST_SLOW_WRITE"]))
    distdl.manual_seed(3)
    random = np.random.default_rng(0)
    images = data.ArrayDataset(random.normal(size=(ROWS, 6, 6, 1)).astype(np.float32), random.integers(0, 3, ROWS))
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 3)
    )
    trainer = train.Trainer(
        model,
        optim.SGD(model, lr=0.05, momentum=0.9),
        nn.CrossEntropyLoss(),
        callbacks=[Slow(seconds)],
        reproducible=True,
        progress=False,
    )
    on_error = os.environ.get("DISTDL_TEST_ON_ERROR", "stop")
    trainer.fit(
        images, EPOCHS, BATCH, seed=2, checkpoints=directory, checkpoint_every=every, resume="auto",
        on_checkpoint_error=on_error,
    )  # fmt: skip
    trainer.comm.print("digest", parallel.digest(trainer.model))
    time.sleep(float(os.environ.get("DISTDL_TEST_LINGER", "0")))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

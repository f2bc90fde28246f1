"""Measure each algorithm for convolutions on this machine, and write what was found into the table that ships.

    python scripts/measure_convolutions.py

One thread; each figure is the shortest of many runs. The table of an older kind of CPU can be made on a newer
one: NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+fma OPENBLAS_CORETYPE=Haswell.
"""

import json
import time
from pathlib import Path

import numpy as np

from distdl.core import threads
from distdl.kernels.cpu import CPU_KIND
from distdl.ops import conv_algorithms
from distdl.ops.conv_ending import Ending
from distdl.ops.conv_geometry import Geometry
from distdl.ops.conv_table import Shape

TABLE = Path(__file__).parent.parent / "distdl" / "ops" / "conv_table.json"

# Products of one measurement: some milliseconds.
WORK = 1 << 28
ROUNDS = 5

CHANNELS = ((1, 32), (3, 16), (3, 64), (8, 8), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (128, 128), (256, 256))


def shapes() -> list[Shape]:
    """Return what is measured: kernel, stride, inputs, outputs, size of the results."""
    found = [Shape(3, 1, a, b, size) for a, b in CHANNELS for size in (4, 8, 14, 32)]
    found += [Shape(3, 2, a, b, size) for a, b in CHANNELS for size in (8, 16)]
    found += [Shape(1, stride, a, b, 16) for stride in (1, 2) for a, b in CHANNELS if a > 3]
    found += [Shape(5, 1, a, b, size) for a, b in ((1, 6), (6, 16), (16, 32), (64, 64)) for size in (8, 28)]
    return [*found, Shape(7, 2, 3, 64, 32), Shape(11, 4, 3, 64, 28)]


def measure(shape: Shape) -> dict[str, float]:
    """Return milliseconds for the same work by each algorithm that suits a shape."""
    rng = np.random.default_rng(0)
    pad = (shape.kernel - 1) // 2
    extent = (shape.size - 1) * shape.stride + shape.kernel - 2 * pad
    products = shape.size**2 * shape.kernel**2 * shape.inputs * shape.outputs
    images = int(np.clip(WORK // products, 4, 256))
    x = rng.standard_normal((images, extent, extent, shape.inputs)).astype(np.float32)
    w = rng.standard_normal((shape.kernel, shape.kernel, shape.inputs, shape.outputs)).astype(np.float32)
    g = Geometry(x.shape, w.shape, (shape.stride, shape.stride), ((pad, pad), (pad, pad)), (1, 1), 1)
    dy = rng.standard_normal((images, *g.out, shape.outputs)).astype(np.float32)
    dw = np.empty_like(w)
    names = conv_algorithms.suiting(g, x.dtype, exact=False)
    best = dict.fromkeys(names, float("inf"))
    for _ in range(ROUNDS):
        for name in names:
            algorithm = conv_algorithms.ALGORITHMS[name](g)
            ending = Ending(g, x.dtype, relu=True, pool=False)
            start = time.perf_counter()
            algorithm.forward(x, w, None, ending)
            algorithm.backward(x, w, ending, dy, shape.inputs > 3, dw)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return {name: round(value, 3) for name, value in best.items()}


def main() -> None:
    threads.apply(threads.Threads(1, "measuring"))
    whole = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    entries = []
    for shape in shapes():
        found = measure(shape)
        entries.append([[shape.kernel, shape.stride, shape.inputs, shape.outputs, shape.size], found])
        print(CPU_KIND, *entries[-1][0], found, flush=True)
    whole[CPU_KIND] = entries
    lines = [f'"{cpu}": [\n' + ",\n".join(json.dumps(entry) for entry in rows) + "\n]" for cpu, rows in whole.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

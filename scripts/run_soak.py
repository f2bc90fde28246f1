"""What takes too long for scripts/test: fits killed at random, the whole table of faults, changed files for readers."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.cells import CELLS  # noqa: E402
from tests.faults.kills import Kills  # noqa: E402
from tests.faults.mutants import MEMORY, READERS, attack_apart  # noqa: E402
from tests.faults.suites import run_suites  # noqa: E402
from tests.faults.trying import attempt  # noqa: E402
from tests.jobs.launching import mpis  # noqa: E402


def kill(fits: int, seed: int) -> None:
    """Kill fits at random moments, and compare what they end with."""
    start = time.monotonic()
    kills = Kills(seed)
    kills.run(fits)
    print(kills.summary())
    seconds = time.monotonic() - start
    print(f"{fits} of {fits} fits ended with the digest of the undisturbed one, {seconds:.0f} s", flush=True)


def try_faults(more: int, seed: int) -> None:
    """Try every fault under each MPI, and then some at random."""
    cells = [(cell, binaries) for binaries in mpis() for cell in CELLS if cell.code]
    cells += random.Random(seed).choices(cells, k=more)
    for cell, binaries in cells:
        with tempfile.TemporaryDirectory(prefix="distdl-soak-") as directory:
            seconds = attempt(cell, binaries, Path(directory))
        print(f"{binaries.parent.name:14} {cell.kind:12} {cell.fault:45} {seconds:5.1f} s, as promised", flush=True)
    run_suites()


def change_files(count: int, seed: int) -> None:
    """Give every reader so many changed files."""
    for name in READERS:
        tally = attack_apart(name, count, seed)
        assert tally.grown <= MEMORY, f"{name}: grown by {tally.grown} bytes"
        print(
            f"{name:12} {tally.count:,} changed files, {tally.refused:,} refused; "
            f"slowest {1000 * tally.slowest:.0f} ms, memory grown by {tally.grown / 1e6:.1f} MB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, metavar="N", help="kill so many fits, once or twice each")
    parser.add_argument("--faults", action="store_true", help="try the whole table of docs/faults.md")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="with --faults: so many more, at random")
    parser.add_argument("--mutants", type=int, metavar="N", help="give every reader so many changed files")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    options = parser.parse_args()
    if options.kills is None and options.mutants is None and not options.faults:
        options.kills, options.faults, options.random, options.mutants = 200, True, 50, 100_000
    if options.mutants is not None:
        change_files(options.mutants, options.seed)
    if options.faults:
        try_faults(options.random, options.seed)
    if options.kills is not None:
        kill(options.kills, options.seed)


if __name__ == "__main__":
    main()

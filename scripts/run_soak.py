"""Kills fits at random moments, and compares what they end with."""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.kills import Kills  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="fits that are killed, once or twice (200)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    options = parser.parse_args()
    start = time.monotonic()
    kills = Kills(options.seed)
    kills.run(options.kills)
    print(kills.summary())
    seconds = time.monotonic() - start
    print(f"{options.kills} of {options.kills} fits ended with the digest of the undisturbed one, {seconds:.0f} s")


if __name__ == "__main__":
    main()

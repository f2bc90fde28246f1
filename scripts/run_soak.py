"""Disturbs distdl for hours, and counts what held."""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.kills import Kills  # noqa: E402


def kill_fits(fits: int, seed: int) -> bool:
    """Kill fits at random moments; say whether each ended with the bits of one that nobody disturbed."""
    start = time.monotonic()
    kills = Kills(seed)
    kills.run(fits)
    print(kills.summary())
    print(f"{fits} of {fits} fits ended with the digest of the undisturbed one, {time.monotonic() - start:.0f} s")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, metavar="N", help="only this: kill N fits at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    options = parser.parse_args()
    kill_fits(options.kills or 200, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

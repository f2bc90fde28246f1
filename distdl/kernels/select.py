"""The elements of an array that are greatest by size, and sums of arrays that are zero elsewhere."""

import numpy as np

from .registry import kernel

_SIGNLESS = np.uint32(0x7FFFFFFF)
"""Without their signs, the bits of floats are ordered as their sizes are; NaN comes last."""

_SAMPLES = 1 << 12


def select_greatest(x: np.ndarray, places: np.ndarray, spare: np.ndarray) -> None:
    """places = where the elements of x lie that are greatest by size, rising; of equals the first; NaN is greatest.

    A sample says about where the limit lies, so that one pass leaves few to choose from; what is chosen does not depend
    on it.

    Args:
        x: flat, float32.
        places: int32, as many as are to be chosen.
        spare: int32, of the size of x; working memory.
    """
    wanted, words = len(places), x.view(np.uint32)
    if not wanted:
        return
    sample = words[:: max(1, len(words) // _SAMPLES) | 1] & _SIGNLESS
    expected = wanted * len(sample) / len(words)
    # More by some standard deviations than are expected in the sample above the limit.
    rank = int(1.1 * expected + 4 * np.sqrt(expected) + 2)
    found = np.zeros(1, np.int64)
    least = int(np.partition(sample, len(sample) - rank)[len(sample) - rank]) if rank < len(sample) else 0
    # Where most are 0, all but those.
    find_from(x, max(least, 1), spare, found)
    if found[0] < wanted:
        find_from(x, 0, spare, found)
    candidates = spare[: found[0]]
    sizes = words[candidates] & _SIGNLESS
    limit = np.partition(sizes, len(sizes) - wanted)[len(sizes) - wanted]
    is_chosen = sizes > limit
    # Of those at the limit as many as there is room for.
    is_chosen[np.flatnonzero(sizes == limit)[: wanted - np.count_nonzero(is_chosen)]] = True
    places[...] = candidates[is_chosen]


def _find_from(x: np.ndarray, least: int, places: np.ndarray, found: np.ndarray) -> None:
    where = np.flatnonzero((x.view(np.uint32) & _SIGNLESS) >= least)
    places[: len(where)] = where
    found[0] = len(where)


@kernel(reference=_find_from, types=("float32",))
def find_from(x, least, places, found):  # type: ignore[no-untyped-def]
    """places = where x is at least a size, given as bits; found[0] = how many those are. places: room for all of x."""
    words = x.view(np.uint32)
    count = 0
    for i in range(words.size):
        if words[i] & _SIGNLESS >= least:
            places[count] = i
            count += 1
    found[0] = count


def _add_at(places: np.ndarray, values: np.ndarray, total: np.ndarray) -> None:
    np.add.at(total, places, values)


@kernel(reference=_add_at, types=("float32",))
def add_at(places, values, total):  # type: ignore[no-untyped-def]
    """total[places[i]] += values[i], one after another."""
    for i in range(places.size):
        total[places[i]] += values[i]

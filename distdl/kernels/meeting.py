"""Ranks that meet in memory that they share, and small arrays that are added up there.

A rank says that it is here by a number in a place of its own, and waits until the others have said the same number. It
changes at every meeting, and takes its place in turn in two halves: whoever is at the next meeting overwrites nothing
that another may still look for, and who is at the one after that knows that all have left this one.
"""

from .registry import helper, raw_kernel
from .spin import look, pause, tell

PLACES = 8
"""Numbers of a rank's place: a cache line, which no other rank writes to."""


@helper
def _are_here(places, mine, half, number, looks):  # type: ignore[no-untyped-def]
    tell(places, mine * PLACES + half, number)
    for rank in range(places.size // PLACES):
        while look(places, rank * PLACES + half) != number:
            pause()
            looks -= 1
            if looks < 0:
                return False
    return True


@raw_kernel
def meet(places, mine, half, number, looks):  # type: ignore[no-untyped-def]
    """Say that rank `mine` is here, and whether all are after so many looks; to be called again until they are.

    `places` are `PLACES` int64 a rank, one after another; `half` is 0 or 1 in turn; `number` the same on all ranks.
    """
    return _are_here(places, mine, half, number, looks)


@raw_kernel
def add_small(array, places, mine, half, number, looks, shared, spare, steps, scale):  # type: ignore[no-untyped-def]
    """Add up the flat `array` of all ranks, times `scale`, unless not all are here after so many looks, see `meet`.

    Every rank adds up all: `shared` (2 halves, ranks, size) gets what each has, `spare` (rows, size) what they come to
    on the way. Rows of `steps` are left, right, out: operands by number, the ranks' before the spare ones; the last
    gives the result. That it is done without a second meeting is what the two halves are for.
    """
    given = shared[half]
    ranks = given.shape[0]
    for i in range(array.size):
        given[mine, i] = array[i]
    if not _are_here(places, mine, half, number, looks):
        return False
    for step in range(steps.shape[0]):
        left, right, out = steps[step]
        a = given[left] if left < ranks else spare[left - ranks]
        b = given[right] if right < ranks else spare[right - ranks]
        total = spare[out - ranks]
        for i in range(array.size):
            total[i] = a[i] + b[i]
    total, factor = spare[steps[-1, 2] - ranks], array.dtype.type(scale)
    for i in range(array.size):
        array[i] = total[i] * factor
    return True

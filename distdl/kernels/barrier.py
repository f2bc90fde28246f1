"""A barrier in memory that ranks share, and the sum of small arrays behind one.

Each rank has a cache line of flags. It sets one of them to the barrier's number, which is another at each, and waits
until the others' are the same. Barriers take two flags in turn, which are two halves of other memory, too: who is at
the next barrier overwrites nothing that others may still look at, and who is at the one after that knows that all
have left this one.
"""

from .registry import helper, raw_kernel
from .spin import look, pause, sched_yield, tell

LINE = 8
"""Flags, int64, in a cache line."""


@helper
def _are_here(flags, mine, half, number, looks, turns):  # type: ignore[no-untyped-def]
    if look(flags, mine * LINE + half) != number:
        tell(flags, mine * LINE + half, number)
    left = looks
    for rank in range(flags.size // LINE):
        while look(flags, rank * LINE + half) != number:
            pause()
            left -= 1
            if left == 0:
                turns -= 1
                if turns == 0:
                    return False
                left = looks
                sched_yield()
    return True


@raw_kernel
def barrier(flags, mine, half, number, looks, turns):  # type: ignore[no-untyped-def]
    """Say that rank `mine` is here, and whether all are; to be called again until they are.

    `flags` are `LINE` int64 a rank, one line after another; `half` is 0 or 1 in turn; `number` the same on all ranks.
    After so many `looks` the core is left to others, and after so many `turns` of that the function returns.
    """
    return _are_here(flags, mine, half, number, looks, turns)


@raw_kernel
def add_small(  # type: ignore[no-untyped-def]
    array, flags, mine, half, number, looks, turns, shared, spare, steps, scale
):
    """Add up the flat `array` of all ranks in place, times `scale`, behind a `barrier`; call it again until it is done.

    Every rank adds up all: `shared` (2 halves, ranks, size) gets what each has, `spare` (rows, size) what they come to
    on the way. Rows of `steps` are left, right, out: operands by number, the ranks' before the spare ones; the last
    gives the result. No second barrier is needed, since the next sum takes the other half.
    """
    given = shared[half]
    ranks = given.shape[0]
    if look(flags, mine * LINE + half) != number:
        for i in range(array.size):
            given[mine, i] = array[i]
    if not _are_here(flags, mine, half, number, looks, turns):
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

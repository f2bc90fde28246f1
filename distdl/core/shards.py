"""How a global batch is cut into shards, and the shards are given to ranks: the same shards on any number of ranks."""

from . import checks


def check_shards(shards: int, size: int) -> int:
    """Return the number of shards, or raise if so many ranks cannot share it."""
    checks.integer("shards", shards, 1)
    if shards & (shards - 1):
        raise checks.bad_value("shards", shards, "must be a power of two")
    if shards < size:
        raise checks.bad_value("shards", shards, f"must be >= the number of ranks, {size}")
    return shards


def shards_of(shards: int, rank: int, size: int) -> range:
    """Return the shards of a rank: neighbours, as many as the others have, or one more or fewer."""
    return range(shards * rank // size, shards * (rank + 1) // size)


def rows_of(rows: int, shards: int) -> list[int]:
    """Return how many rows each of a rank's neighbouring shards has, if together they have so many.

    Shard s of S has the rows s, s + S, s + 2 S, ... of the global batch: the first ones may have one more.
    """
    each, more = divmod(rows, shards)
    return [each + (i < more) for i in range(shards)]

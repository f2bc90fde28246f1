"""What compressing gradients on the wire changes: fewer bytes between nodes, for some time of a core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...core import checks
from .traffic import Traffic, across

Way = Literal["tree", "pieces", "gathered"]
"""How what is compressed travels: sums along the tree of nodes; each node sums a piece of all others' and gives it to
all; or each gets all that others have sent, since the places of values differ."""


@dataclass(frozen=True)
class Compression:
    """A way to send gradients between nodes in fewer bytes. One rank of each node does it for all of them.

    Attributes:
        name: of the hook.
        factor: bytes on the wire for a byte of gradients.
        seconds_per_byte: of a core, to compress and restore a byte of gradients.
        way: how they travel.
    """

    name: str
    factor: float = 1.0
    seconds_per_byte: float = 0.0
    way: Way = "tree"

    def traffic(self, nbytes: float, nodes: int) -> Traffic:
        """Return what a node sends of so many bytes of gradients."""
        sent, others = self.factor * nbytes, nodes - 1
        if nodes == 1 or self.way == "tree":
            return across(sent, nodes)
        doublings = others.bit_length()
        if self.way == "gathered":
            return Traffic(doublings, others * sent, others * sent)
        return Traffic(others + doublings, 2 * sent * others / nodes, sent * others / nodes)


NONE = Compression("none")

ASSUMED = {
    compression.name: compression
    for compression in (
        NONE,
        Compression("bf16", 0.5, 4e-10, "pieces"),
        Compression("fp16", 0.5, 6e-10, "pieces"),
        Compression("powersgd", 0.03, 1e-9),
        Compression("topk", 0.02, 1e-9, "gathered"),
    )
}
"""By name. Assumed: `powersgd` of rank 4 for matrices of some hundred rows and columns, `topk` of one value in a
hundred with its place; times as on one core of a server of 2024."""


def parse(text: str) -> Compression:
    """Return the compression that NAME or NAME=FACTOR:SECONDS_PER_BYTE says; a name of one's own needs the numbers.

    Raises:
        ArgumentError: a name without numbers is unknown, or a number breaks its rule.
    """
    name, has_numbers, numbers = text.partition("=")
    if not has_numbers:
        found: Compression = ASSUMED[checks.one_of("compression", name, ASSUMED)]
        return found
    factor, _, cost = numbers.partition(":")
    try:
        values = float(factor), float(cost)
    except ValueError:
        raise checks.bad_value("compression", text, "must be NAME or NAME=FACTOR:SECONDS_PER_BYTE") from None
    return Compression(
        name,
        checks.real("compression factor", values[0], maximum=1.0, above=0.0),
        checks.real("compression cost", values[1], 0.0),
        ASSUMED[name].way if name in ASSUMED else "tree",
    )

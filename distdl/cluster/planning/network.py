"""What a message costs: links that are known by name, of a given rate, or fitted to a profile's reductions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core import checks
from ...parallel.profile import Profile, Reduction
from .traffic import Traffic, across, barriers

PAYLOAD = 1448 / 1514
"""Share of a rate that TCP over Ethernet, in frames of 1500 bytes with time stamps, leaves to the data."""

_SMALL, _LARGE = 1 << 14, 1 << 19
"""Up to so many bytes a reduction is latency; from so many on it is bytes."""

_LEAST_BURST = 1 << 15
"""Bytes: what a fit finds below that is no token bucket."""

_ROUNDS = 5
"""Until latency and bytes agree."""


@dataclass(frozen=True)
class Link:
    """A link between two places, each way at the same time.

    Attributes:
        latency: seconds of a short message, one way; within a node, of a barrier.
        seconds_per_byte: of a long one.
        burst: bytes that pass at once after a pause, as many as the link could have carried in it at most: how token
            buckets shape it. 0: none do.
        patience: seconds that a message takes longer beside backward(), where ranks sleep while they wait.
        drag: by which factor bytes take longer there.
        handling: seconds of a core for a byte there.
    """

    latency: float
    seconds_per_byte: float
    burst: float = 0.0
    patience: float = 0.0
    drag: float = 1.0
    handling: float = 0.0

    def beside(self) -> Link:
        """Return the link as reductions beside backward() find it."""
        return replace(self, latency=self.latency + self.patience, seconds_per_byte=self.seconds_per_byte * self.drag)

    def at(self, bits: float | None = None, latency: float | None = None) -> Link:
        """Return a link as this one with another rate (bits a second) or latency."""
        changed = self
        if bits is not None:
            changed = replace(changed, seconds_per_byte=8 / (checks.real("rate", bits, above=0.0) * PAYLOAD))
        if latency is not None:
            changed = replace(changed, latency=checks.real("latency", latency, 0.0))
        return changed


_PATIENCE, _HANDLING = 1e-4, 5e-10
"""Of links that nobody has measured: a sleep of the system, and copies by TCP."""


def _named(bits: float, latency: float, payload: float = PAYLOAD, handling: float = _HANDLING) -> Link:
    return Link(latency, 8 / (bits * payload), patience=_PATIENCE, handling=handling)


NAMED = {
    "ethernet-1g": _named(1e9, 5e-5),
    "ethernet-10g": _named(1e10, 3e-5),
    "ethernet-25g": _named(2.5e10, 2e-5),
    "ethernet-100g": _named(1e11, 1.5e-5),
    "infiniband-edr": _named(1e11, 2e-6, 0.95, 0.0),
    "infiniband-hdr": _named(2e11, 2e-6, 0.95, 0.0),
}
"""Nominal figures: line rates less what frames take, and latencies of TCP (Ethernet) or RDMA (InfiniBand)."""


SHARED_MEMORY = Link(2e-6, 1e-10)
"""Within a node, where nobody has measured it."""

_USUAL = ("ethernet-1g", "ethernet-10g", "ethernet-25g", "infiniband-hdr")

PROFILED = "profile"
"""Name of the link that was profiled."""


def choose(
    names: Sequence[str] | None, profiles: Sequence[Profile], rate: str | None = None, latency: str | None = None
) -> dict[str, Link]:
    """Return links between nodes by name, in words that say what was changed.

    Args:
        names: of `NAMED`, or "profile"; None: that, else some usual ones.
        profiles: the first that had several nodes says what "profile" is.
        rate, latency: of all of them instead, such as "300mbit" and "50us".

    Raises:
        ArgumentError: a name is unknown, no profile had several nodes, or a rate or time is none.
    """
    fitted = next((link for link in map(fit_between, profiles) if link is not None), None)
    if names is None:
        names = _USUAL if fitted is None else [PROFILED]
    bits = None if rate is None else bits_per_second("rate", rate)
    trip = None if latency is None else seconds("latency", latency)
    changes = " ".join(text for text in (rate, latency) if text is not None)
    found = {}
    for name in names:
        checks.one_of("network", name, (PROFILED, *NAMED))
        link = fitted if name == PROFILED else NAMED[name]
        if link is None:
            raise checks.bad_value("network", name, "needs a profile of ranks on several nodes")
        found[f"{name} at {changes}" if changes else name] = link.at(bits, trip)
    return found


def bits_per_second(name: str, text: str) -> float:
    """Return the bits a second that a text such as "300mbit" or "25gbit" says; `name` is the argument's."""
    found = re.fullmatch(r"([0-9.]+)\s*(k|m|g|t)?bit", text.strip().lower())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if not found or number <= 0:
        raise checks.bad_value(name, text, "must be a rate above 0, such as 300mbit or 25gbit")
    return number * {None: 1e0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[found[2]]


def seconds(name: str, text: str) -> float:
    """Return the seconds that a text such as "50us", "0.2ms" or "1s" says; `name` is the argument's."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(us|ms|s)", text.strip().lower())
    if not found:
        raise checks.bad_value(name, text, "must be a time, such as 50us, 0.2ms or 1s")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]


def fit_between(profile: Profile) -> Link | None:
    """Return the link between nodes that a profile's reductions show; None where it had one node only."""
    if not profile.between:
        return None
    traffics = [across(reduction.nbytes, profile.nodes) for reduction in profile.between]
    return _fit(profile.between, traffics, profile, has_burst=True)


def fit_within(profile: Profile) -> Link | None:
    """Return the link that stands for a node's shared memory; None where no node had several ranks."""
    if not profile.within:
        return None
    ranks = profile.ranks // profile.nodes
    # What is added there is part of a byte's time.
    traffics = [Traffic(barriers(ranks), reduction.nbytes, 0.0) for reduction in profile.within]
    return _fit(profile.within, traffics, profile, has_burst=False)


def _fit(reductions: Sequence[Reduction], traffics: Sequence[Traffic], profile: Profile, has_burst: bool) -> Link:
    """Fit latency to short arrays and bytes to long ones, where each counts by its relative error."""
    short = [i for i, reduction in enumerate(reductions) if reduction.nbytes <= _SMALL]
    long = [i for i, reduction in enumerate(reductions) if reduction.nbytes >= _LARGE]
    if not short or len(long) < 2:
        raise checks.bad_value(
            "reductions", [r.nbytes for r in reductions], f"must have a size up to {_SMALL}, and two from {_LARGE} on"
        )
    messages, sent, added = np.array(traffics).T
    beside = np.array([reduction.beside for reduction in reductions])
    # What disturbs a measurement makes it longer, whoever waits for it, and no reduction is quicker than its messages.
    seconds = np.minimum([reduction.seconds for reduction in reductions], beside)
    moved = seconds - profile.combine * added
    latency = max(float((moved / messages).min()), 0.0)
    slope, ahead = _line(sent[long], (moved - latency * messages)[long], seconds[long])
    burst = -ahead / slope if slope > 0 else 0.0
    if burst < _LEAST_BURST or not has_burst:
        burst = 0.0
        for _ in range(_ROUNDS):
            slope = _slope(sent[long], (moved - latency * messages)[long], seconds[long])
            latency = max(float(((moved - slope * sent) / messages).min()), 0.0)
    if slope <= 0:
        raise checks.bad_value("reductions", seconds.tolist(), "must take longer for more bytes")
    processor = np.array([reduction.processor for reduction in reductions])
    handling = float(np.median(((processor - profile.polling * beside) / sent)[long]))
    patience = float(np.median(((beside - seconds) / messages)[short]))
    drag = max(1.0, float(np.median(((beside - patience * messages) / seconds)[long])))
    return Link(latency, slope, burst, patience, drag, max(handling, 0.0))


def _line(x: np.ndarray, y: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Fit y = slope x + constant, with errors relative to `size`."""
    slope, constant = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1) / size[:, None], y / size, rcond=None)[0]
    return float(slope), float(constant)


def _slope(x: np.ndarray, y: np.ndarray, size: np.ndarray) -> float:
    """Fit y = slope x, with errors relative to `size`."""
    return float((x * y / size**2).sum() / (x * x / size**2).sum())

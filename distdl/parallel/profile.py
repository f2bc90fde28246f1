"""`Profile`: what was measured of a training step and of reductions, a file of JSON. `distdl plan` predicts from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..core import checks, files
from ..core.errors import ArgumentError
from ..core.file_errors import StrPath, bad_file
from ..core.json_files import parse_json

FORMAT = 1
"""Of the file; greater when its numbers mean something else."""


@dataclass(frozen=True)
class Reduction:
    """One size of array, reduced again and again; times are lower quartiles of those of the slowest rank.

    Attributes:
        nbytes: of the array.
        seconds: while the ranks do nothing else.
        beside: in a thread of its own, which sleeps while it waits, while the ranks compute.
        processor: seconds of a core that the latter takes, from the computation where that has all cores.
    """

    nbytes: int
    seconds: float
    beside: float
    processor: float


@dataclass(frozen=True)
class Profile:
    """A few steps of a script, and reductions between its ranks. Times are seconds.

    Attributes:
        script: its name.
        ranks, nodes: how many.
        sharing: ranks on one machine; more than `ranks` / `nodes` where several nodes are namespaces of one machine.
        cores: of that machine that they may use, and `threads` of each rank.
        batch: rows of a rank in a step; 0 where the loss does not say.
        steps: how many were measured.
        forward: from the end of a step to backward(), data included; `backward` without reductions; `update` from the
            last reduction to the end of the step. Medians over steps, means over ranks.
        measured: these three together with the median of what reductions and waiting take; so never less than
            `compute`, and not quite the median step.
        spread: standard deviation of a rank's step, without reductions, relative to its mean over ranks and steps.
        parameters: bytes of each gradient, and the share of backward() after which it is final, in the model's order.
        combine: seconds to add a byte of what has arrived.
        polling: share of a core that a rank takes while it waits, beside backward(), for what has not come.
        within: reductions among the ranks of one node; empty where that is one.
        between: reductions among one rank of each node; empty where that is one.
    """

    script: str
    ranks: int
    nodes: int
    sharing: int
    cores: int
    threads: int
    batch: float
    steps: int
    forward: float
    backward: float
    update: float
    measured: float
    spread: float
    parameters: list[tuple[int, float]]
    combine: float
    polling: float
    within: list[Reduction]
    between: list[Reduction]

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients."""
        return sum(nbytes for nbytes, _ in self.parameters)

    @property
    def compute(self) -> float:
        """Seconds of a step without reductions."""
        return self.forward + self.backward + self.update

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON is to hold."""
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """Make one of what JSON holds.

        Raises:
            ArgumentError: a field is missing, or breaks its rule.
        """
        if data.get("format") != FORMAT:
            raise checks.bad_value("format", data.get("format"), f"must be {FORMAT}: profile again")
        missing = [field.name for field in fields(cls) if field.name not in data]
        if missing:
            raise ArgumentError(f"has no {', '.join(missing)}")
        values: dict[str, Any] = {name: checks.integer(name, data[name], 1) for name in _COUNTS}
        values |= {name: checks.real(name, data[name], 0.0) for name in _TIMES}
        checks.real("backward", data["backward"], above=0.0)
        if values["ranks"] % values["nodes"]:
            raise checks.bad_value("nodes", values["nodes"], f"must divide the {values['ranks']} ranks")
        values["parameters"] = [
            (checks.integer("parameters", nbytes, 1), checks.real("parameters", ready, 0.0, 1.0))
            for nbytes, ready in map(_pair, _rows("parameters", data["parameters"]))
        ]
        if not values["parameters"]:
            raise checks.bad_value("parameters", [], "must not be empty")
        for name in ("within", "between"):
            values[name] = [_reduction(name, entry) for entry in _rows(name, data[name])]
        return cls(script=str(data["script"]), **values)


_COUNTS = ("ranks", "nodes", "sharing", "cores", "threads", "steps")
_TIMES = ("batch", "forward", "backward", "update", "measured", "spread", "combine", "polling")


def load(path: StrPath) -> Profile:
    """Read a profile.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is damaged, or no profile.
    """
    data = parse_json(path, files.read_bounded(path))
    try:
        return Profile.parse(data)
    except (TypeError, ValueError) as error:
        raise bad_file(path, f"is no profile: {error}") from error


def _rows(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise checks.bad_type(name, value, "must be a list")
    return value


def _pair(entry: Any) -> tuple[Any, Any]:
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        raise checks.bad_value("parameters", entry, "must be pairs: bytes, and the share of backward()")
    return entry[0], entry[1]


def _reduction(name: str, entry: Any) -> Reduction:
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(Reduction)}:
        raise checks.bad_value(name, entry, "must hold nbytes, seconds, beside and processor")
    times = {key: checks.real(key, entry[key], 0.0) for key in ("seconds", "beside", "processor")}
    return Reduction(checks.integer("nbytes", entry["nbytes"], 1), **times)

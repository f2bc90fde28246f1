"""Fills in the templates of job scripts. `launch/` holds what comes out by default; a test keeps the two equal."""

from __future__ import annotations

import json
import re
import shlex
import string
from dataclasses import dataclass
from importlib import resources

from ...core import checks
from .request import NOTICE_SECONDS, Request, clock

_EXAMPLE = ("examples/fashion_mnist_cnn.py", "--epochs", "5")
_IN_THE_IMAGE = ("/opt/distdl/examples/digits_cnn.py", "--epochs", "5")
_HINTS = (
    "# module load openmpi            # or the MPI of your cluster",
    "# source ~/distdl/bin/activate   # an environment with distdl",
)
_COMMENT = re.compile(r"(?P<text>.*@@.*?\S)(?P<gap>\s{2,})(?P<comment>#.*)")


class _Template(string.Template):
    # The scripts are full of $.
    delimiter = "@@"


@dataclass(frozen=True)
class Kind:
    """A way to run jobs.

    Attributes:
        file: of the template, and in `launch/`.
        program: what takes the job script.
        default: what is asked for if the user does not say.
        places: lines that name account and queue, as the scheduler takes them.
        usage: how the job script is given a script to run; "": it names one itself.
        name: what the scheduler takes as a name beyond the rule of `Request`, and that in words.
    """

    file: str
    program: str
    default: Request
    places: tuple[str, str] = ("", "")
    usage: str = ""
    name: tuple[str, str] = (".*", "")


_SLURM = ("#SBATCH --account=", "#SBATCH --partition=")

KINDS = {
    "mpirun": Kind(
        "mpirun.sh",
        "mpiexec",
        Request(nodes=1, ranks=2, cores=1, name="", python="python3", setup=()),
        usage="launch/mpirun.sh",
    ),
    "slurm": Kind("slurm.sbatch", "sbatch", Request(), _SLURM, "sbatch launch/slurm.sbatch"),
    "slurm-array": Kind("slurm_array.sbatch", "sbatch", Request(nodes=1), _SLURM, "sbatch launch/slurm_array.sbatch"),
    "pbs": Kind("pbs.sh", "qsub", Request(), ("#PBS -A ", "#PBS -q "), name=(".{1,15}", "must have <= 15 letters")),
    "lsf": Kind("lsf.sh", "bsub", Request(), ("#BSUB -P ", "#BSUB -q ")),
    "sge": Kind("sge.sh", "qsub", Request(), ("#$ -A ", "#$ -q "), "qsub launch/sge.sh"),
    "k8s": Kind(
        "k8s.yaml",
        "kubectl",
        Request(),
        name=("[a-z]([a-z0-9-]{0,50}[a-z0-9])?", "must be lower-case letters, digits and - for Kubernetes"),
    ),
}


def render(kind: str, request: Request | None = None) -> str:
    """Return a job script.

    Args:
        kind: one of `KINDS`.
        request: what to fill in; None: the defaults, which give the text of `launch/`.

    Raises:
        ArgumentError: there is no such kind, or its scheduler does not take a value.
    """
    if kind not in KINDS:
        raise checks.bad_value("kind", kind, f"must be one of {', '.join(KINDS)}")
    chosen = KINDS[kind]
    request = chosen.default if request is None else request
    pattern, rule = chosen.name
    if not re.fullmatch(pattern, request.name):
        raise checks.bad_value("name", request.name, rule)
    if kind == "k8s" and (request.account or request.queue or request.setup):
        raise checks.bad_value("kind", kind, "takes no account, queue or setup")
    if kind == "mpirun" and (request.account or request.queue or request.nodes > 1 or request.cores > 1):
        raise checks.bad_value(
            "kind", kind, "takes no account, queue, nodes or cores: hosts come from HOSTS, a host file"
        )
    values, usual = _values(chosen, request), _values(chosen, chosen.default)
    lines = []
    for line in _read(chosen.file).splitlines():
        filled = _fill(line, values, usual)
        # A line that is nothing but a value goes if there is none.
        if filled or not line:
            lines += [filled]
    return "\n".join(lines) + "\n"


def _fill(line: str, values: dict[str, str], usual: dict[str, str]) -> str:
    found = _COMMENT.fullmatch(line)
    if found is None:
        return _Template(line).substitute(values)
    # Comments stay in their column.
    text, column = _substitute(found["text"], values), len(_substitute(found["text"], usual)) + len(found["gap"])
    return f"{text:{column - 2}}  {found['comment']}"


def _substitute(text: str, values: dict[str, str]) -> str:
    return _Template(text).substitute(values)


def _values(kind: Kind, request: Request) -> dict[str, str]:
    ranks, cores = request.nodes * request.ranks, request.ranks * request.cores
    values = {
        name: str(getattr(request, name)) for name in ("nodes", "ranks", "cores", "time", "name", "python", "image")
    }
    values |= {
        "all_ranks": str(ranks),
        "node_cores": str(cores),
        "all_cores": str(request.nodes * cores),
        "seconds": str(request.seconds),
        "notice_time": clock(request.seconds - NOTICE_SECONDS),
        "hours_minutes": clock(request.seconds)[:-3],
        "places": "\n".join(
            f"{line}{value}" for line, value in zip(kind.places, (request.account, request.queue), strict=True) if value
        ),
        "setup": "\n".join(_HINTS if request.setup is None else request.setup),
        "words": _words(kind, request),
        "yaml_words": json.dumps([*(request.command or _IN_THE_IMAGE)]),
        "wait": _read("wait.part").rstrip(),
    }
    return values | {"slurm": _Template(_read("slurm.part").rstrip()).substitute(values)}


def _words(kind: Kind, request: Request) -> str:
    if not request.command and kind.usage:
        return f': "${{1:?usage: {kind.usage} script.py [arguments]}}"'
    return f"set -- {shlex.join(request.command or _EXAMPLE)}   # the script and its arguments"


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")

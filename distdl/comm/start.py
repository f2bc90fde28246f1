"""Where the control channel of a job is set up, and leaving with it."""

from __future__ import annotations

import contextlib
import secrets
import socket

from ..core import settings
from .control import Hub, Link, Message
from .hooks import Hooks
from .leaving import Leaving, Referee
from .mpi import MPICommunicator
from .stalls import Stalls
from .system import network
from .telling import tell
from .waiting import Waiting

LOOPBACK = "127.0.0.1"


def watch(world: MPICommunicator, places: list[str]) -> Leaving:
    """Connect all ranks by a control channel, and watch how they leave.

    Where a rank cannot reach rank 0, the job goes on without: rank 0 says so, and a rank that
    finishes early is not noticed.

    Args:
        world: the communicator of all ranks.
        places: for each rank where it runs; given on rank 0.
    """
    first = world.broadcast_object(places[0] if world.rank == 0 else None)
    places = places if world.rank == 0 else [first]
    leaving = Leaving(world, places)
    waiting: Waiting | None = None

    def on_message(message: Message) -> None:
        if message["kind"] != "what do you do":
            leaving.on_message(message)
        elif leaving.link is not None and waiting is not None:
            leaving.link.send(waiting.report())

    one_host = world.all_equal(network())
    invitation, problem = None, ""
    if world.rank == 0:
        try:
            invitation = _open_hub(places, leaving, one_host)
        except OSError as error:
            problem = str(error)
    invitation = world.broadcast_object(invitation)
    if invitation is not None:
        addresses = [(host, invitation["port"]) for host in invitation["hosts"]]
        try:
            leaving.link = Link(addresses, invitation["token"], world.rank, on_message, leaving.on_hub_lost)
        except ConnectionError as error:
            problem = str(error)
    problems = []
    if world.allreduce(bool(problem), "max"):
        problems = [f"rank {rank}: {text}" for rank, text in enumerate(world.allgather_object(problem)) if text]
    if problems:
        _give_up(leaving, problems)
    else:
        waiting = Waiting(leaving, places)
    Hooks(leaving).install()
    return leaving


def _open_hub(places: list[str], leaving: Leaving, one_host: bool) -> dict[str, object]:
    told = settings.control_address()
    host, port = told or (LOOPBACK if one_host else "", 0)
    token = secrets.token_hex(16)
    referee = Referee(len(places), leaving.on_death)
    stalls = Stalls(places, leaving.on_stall)

    def on_message(rank: int, message: Message) -> None:
        referee.on_message(rank, message)
        stalls.on_message(rank, message)

    def on_tick() -> None:
        referee.on_tick()
        stalls.on_tick()

    hub = Hub(host, port, token, len(places), on_message, referee.on_lost, on_tick)
    referee.hub = stalls.hub = hub
    hosts = [host] if host else _addresses()
    leaving.referee = referee
    return {"hosts": hosts, "port": hub.port, "token": token}


def _addresses() -> list[str]:
    """List the addresses of this host that others may reach, the likeliest first."""
    name = socket.gethostname()
    found = [name]
    with contextlib.suppress(OSError):
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)] + found
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: asks which interface leads out.
        probe.connect(("192.0.2.1", 9))
        found.append(probe.getsockname()[0])
    return [address for address in dict.fromkeys(found) if not address.startswith("127.")]


def _give_up(leaving: Leaving, problems: list[str]) -> None:
    """Go on without a channel: on all ranks, or a rank would wait for one that tells it nothing."""
    if leaving.referee is not None:
        leaving.referee.disarm()
    leaving.world.barrier()
    if leaving.link is not None:
        leaving.link.close()
        leaving.link = None
    leaving.world.barrier()
    if leaving.referee is not None and leaving.referee.hub is not None:
        leaving.referee.hub.close()
    if leaving.world.rank == 0:
        tell(
            f"no control channel ({'; '.join(problems[:3])}); a rank that finishes early, "
            "stops, or calls another collective than the others may not be noticed. "
            "DISTDL_CONTROL_ADDRESS=HOST[:PORT] says where rank 0 can be reached"
        )

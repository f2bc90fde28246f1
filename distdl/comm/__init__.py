"""Communication between ranks: serial or MPI behind one interface."""

from .base import Communicator
from .serial import SerialCommunicator
from .world import world

__all__ = ["Communicator", "SerialCommunicator", "world"]

"""Handlers of signals for a while, and notes of those that come when nobody listens."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from distdl.core.signals import handle, note, take_note


def test_handlers_are_put_back():
    """Once: a later handler stays."""
    before = signal.getsignal(signal.SIGUSR1)
    heard = []
    restore = handle([signal.SIGUSR1], lambda number, frame: heard.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    restore()
    assert signal.getsignal(signal.SIGUSR1) is before
    later = handle([signal.SIGUSR1], lambda number, frame: None)
    during = signal.getsignal(signal.SIGUSR1)
    restore()
    assert signal.getsignal(signal.SIGUSR1) is during
    later()


def test_another_thread_changes_nothing():
    before = signal.getsignal(signal.SIGUSR1)
    thread = threading.Thread(target=lambda: handle([signal.SIGUSR1], lambda number, frame: None)())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.fixture
def unhandled():
    """Give SIGUSR1 its default action for the test."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("unhandled")
def test_a_note_is_taken_once():
    note(signal.SIGUSR1)
    assert not take_note(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert take_note(signal.SIGUSR1)
    assert not take_note(signal.SIGUSR1)


@pytest.mark.usefixtures("unhandled")
def test_a_handler_of_others_stays():
    own = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert own is signal.SIG_DFL
    note(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_a_signal_at_the_end_of_the_interpreter_is_no_death():
    """Where its default action would be back: after all that ends with the modules."""
    script = """
import os, signal
from distdl.core.signals import note
note(signal.SIGUSR1)
class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGUSR1):
        kill(me, number)
last = Last()
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

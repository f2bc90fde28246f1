"""Handlers of signals for a while."""

import os
import signal
import threading

from distdl.core.signals import handle


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

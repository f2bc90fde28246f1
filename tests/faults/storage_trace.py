"""System calls of a write, as strace shows them: counted, and broken off."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

STRACE = shutil.which("strace")

_ANYBODY = -1
_SET_PTRACER = 0x59616D61

_FINISHED = re.compile(r"(\w+)\(")


class Traced:
    """A forked child that does something while strace watches.

    Args:
        work: what it does; called with a function that tells that a point was reached.
        options: of strace.
        log: what strace writes.
    """

    def __init__(self, work, options, log):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            self._be_child(work, writing)
        os.close(writing)
        os.waitpid(child, os.WUNTRACED)
        tracer = subprocess.Popen(
            [STRACE, "-o", str(log), *options, "-p", str(child)], stderr=subprocess.PIPE, text=True
        )
        line = tracer.stderr.readline()
        assert "attached" in line, line
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
        tracer.communicate(timeout=60)
        with open(reading, "rb") as pipe:
            self.told = pipe.read() == b"x"
        self.was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert self.was_killed or os.waitstatus_to_exitcode(status) == 0, status

    @staticmethod
    def _be_child(work, writing):
        code = 1
        with contextlib.suppress(BaseException):
            # Only then may strace attach, where the kernel restricts that to descendants.
            ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(_ANYBODY & (1 << 64) - 1), 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work(lambda: os.write(writing, b"x"))
            code = 0
        os._exit(code)


def calls(log):
    """List the names of the system calls in a log of strace."""
    return [found[1] for line in Path(log).read_text().splitlines() if (found := _FINISHED.match(line))]

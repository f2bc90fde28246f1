"""The timeline: what took how long, by layer and pass.

    with distdl.timeline("trace.json") as timeline:
        ...                                # some steps
    print(timeline.summary())

Whoever does work asks the global `recorder`, which is None while no timeline is open: that one
question is all that the timeline costs then. Clocks are the machine's (nanoseconds since it
started), so that the files of ranks on one machine fit together.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from . import checks, settings

clock = time.monotonic_ns


class Span(NamedTuple):
    """One stretch of work.

    Attributes:
        name: what was done, an operation mostly.
        layer: dotted name of the module it belongs to, "" outside of modules.
        phase: "forward", "backward", "module", "pass", "reduce" (any collective), "wait", "step", "data", "between"
            (steps: evaluation and the like) or "user".
        thread: number of the thread, in the order in which they were seen.
        start, end: by `clock`, in nanoseconds.
        key: of what several ranks do together, the same on all of them.
    """

    name: str
    layer: str
    phase: str
    thread: int
    start: int
    end: int
    key: str = ""

    @property
    def label(self) -> str:
        """The name with that of the layer: "0.conv2d"."""
        return f"{self.layer}.{self.name}" if self.layer else self.name


class _Thread(threading.local):
    """What the recorder knows of the thread that asks."""

    number: int | None = None
    names: dict[int, str]  # of the modules within the outermost one that is running, by id()
    layers: tuple[str, ...] = ()  # of the modules that are running, innermost last


class Recorder:
    """Collects the spans of all threads.

    Args:
        limit: spans that are kept; what comes after them is only counted, in `dropped`.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.dropped = 0
        self.spans: list[Span] = []
        self.threads: list[str] = []
        self._thread = _Thread()
        self._lock = threading.Lock()

    def add(self, name: str, phase: str, start: int, layer: str | None = None, key: str = "") -> None:
        """Note a span of this thread that ends now; by default it belongs to the module that is running."""
        end = clock()
        if len(self.spans) >= self.limit:
            self.dropped += 1
            return
        number = self._thread.number
        if number is None:
            number = self._enter_thread()
        self.spans.append(Span(name, self.layer if layer is None else layer, phase, number, start, end, key))

    def _enter_thread(self) -> int:
        with self._lock:
            self._thread.number = len(self.threads)
            self.threads.append(threading.current_thread().name)
            return self._thread.number

    @property
    def layer(self) -> str:
        """Name of the module that is running in this thread, within the outermost one; "" if none is."""
        layers = self._thread.layers
        return layers[-1] if layers else ""

    def run_module(self, module: Any, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Call a function that belongs to a module: what it does goes by the module's name."""
        thread = self._thread
        outer = thread.layers
        if not outer:
            # Anew at each outermost call, as modules come and go.
            thread.names = {id(part): name for name, part in module.named_modules()}
        kind = type(module).__name__
        layer = thread.names.get(id(module), f"{outer[-1]}.{kind}".lstrip(".") if outer else "")
        thread.layers = (*outer, layer)
        start = clock()
        try:
            return function(*args, **options)
        finally:
            self.add(kind, "module", start)
            thread.layers = outer


recorder: Recorder | None = None
"""Of the timeline that is open, innermost if there are several; None if none is."""

_rank, _size = 0, 1


def set_rank(rank: int, size: int) -> None:
    """Say which rank this process is: each writes a file of its own."""
    global _rank, _size
    _rank, _size = rank, size


@contextlib.contextmanager
def span(name: str, phase: str = "user") -> Iterator[None]:
    """Note how long a block takes, if a timeline is open."""
    start = clock()
    try:
        yield
    finally:
        if recorder is not None:
            recorder.add(name, phase, start)


def waits(items: Iterable[Any], name: str, phase: str = "data") -> Iterator[Any]:
    """Yield what `items` yields; each wait for the next one is a span."""
    iterator = iter(items)
    while True:
        with span(name, phase):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


class timeline:
    """Record a timeline within the block, over all threads of this process.

    Args:
        path: file for the trace, written at the end of the block, to open in chrome://tracing or
            https://ui.perfetto.dev; None for none. With several ranks `trace.json` becomes `trace.0.json`,
            `trace.1.json` and so on.
        limit: spans that are kept, about 200 bytes each.

    Raises:
        ArgumentError: the file's directory does not exist.
    """

    def __init__(self, path: str | Path | None = None, limit: int = 500_000):
        self.path = None if path is None else Path(path)
        if self.path is not None and not self.path.parent.is_dir():
            raise checks.bad_value("path", str(path), "must be a file in a directory that exists")
        self.recorder = Recorder(checks.integer("limit", limit, 1))
        self._before: Recorder | None = None

    def __enter__(self) -> Self:
        global recorder
        self._before, recorder = recorder, self.recorder
        return self

    def __exit__(self, *exception: object) -> None:
        global recorder
        recorder = self._before
        if self.path is not None:
            self.save(self.path)

    @property
    def spans(self) -> list[Span]:
        """What was recorded so far, in the order in which it ended."""
        return self.recorder.spans

    def summary(self) -> str:
        """Return a table of time by layer and pass, greatest first."""
        from .trace import table

        return table(self.recorder.spans, self.recorder.dropped)

    def save(self, path: str | Path) -> Path:
        """Write a Chrome trace, and return its path: `path`, with this rank's number where there are several."""
        from .trace import write

        path = Path(path)
        if _size > 1:
            path = path.with_name(f"{path.stem}.{_rank}{path.suffix}")
        write(path, self.recorder.spans, self.recorder.threads, _rank)
        return path


def _record_process(path: Path) -> None:
    """Record from now to the end of this process."""
    whole = timeline(path).__enter__()

    def end() -> None:
        # A process that did nothing (a helper that inherited the environment) must not write over one that did.
        if whole.spans:
            whole.__exit__()

    atexit.register(end)


_path = settings.timeline_path()
if _path is not None:
    _record_process(_path)

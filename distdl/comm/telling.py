"""What a job tells its user on standard error."""

import contextlib
import sys

UNCAUGHT = "uncaught exception, the job ends"
"""What a rank says before the traceback that ends the job."""


def tell(news: str) -> None:
    """Print a line; a stream that is closed must not end the thread that watches the job."""
    with contextlib.suppress(OSError, ValueError):
        print(f"distdl: {news}", file=sys.stderr, flush=True)

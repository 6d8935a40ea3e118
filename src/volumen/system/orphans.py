"""A process that ends with its parent while it still imports, and has no thread then: it is to be forked."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LOOKS_SECONDS = 0.2


@contextmanager
def orphans_end() -> Iterator[None]:
    """A context in which this process looks every 0.2 s whether its parent is gone, and then ends; main thread only."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    parent = os.getppid()

    def look(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(1)

    before = signal.signal(signal.SIGALRM, look)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, LOOKS_SECONDS, LOOKS_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

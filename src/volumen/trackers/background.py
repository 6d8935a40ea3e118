"""A tracker behind a thread and a bounded queue, so that a run neither waits for it nor ends with it.

Offering a record never blocks: where the queue is full it is dropped and counted. What a tracker raises is caught; the
first failure is kept as one sentence for whoever asks (`failure`), the others are counted only. A tracker that cannot
be opened is tried again now and then. Each tracker has its own thread: one that hangs holds up no other.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from volumen.trackers.tracker import Tracker

MOST_WAITING = 256
"""Records."""
RETRY_SECONDS = 60.0
"""Between two tries to open a tracker."""
LONGEST_REASON = 300
GIVEN_UP: list[str] = []
"""Trackers that still hang in this process; what their libraries do at its end may hang, too."""
Record = Callable[[Tracker], None]


class Background:
    """A tracker that works in a thread of its own."""

    def __init__(self, name: str, opened: Callable[[], Tracker]) -> None:
        """Begin to open it.

        Args:
            name: For messages.
            opened: Gives the tracker; called in the thread.
        """
        self.name, self.hint = name, ""
        self._open = opened
        self._queue: queue.Queue[Record | None] = queue.Queue(MOST_WAITING)
        self._tracker: Tracker | None = None
        self._try_again = 0.0
        self._offered = self._sent = 0  # each is written by one thread only
        self._failure = ""
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    @property
    def unsent(self) -> int:
        """Records that were offered and have not been sent."""
        return self._offered - self._sent

    @property
    def failure(self) -> str:
        """What went wrong first; empty as long as nothing has."""
        return self._failure

    def offer(self, record: Record) -> None:
        """Have something sent, or dropped where too much is waiting already; returns at once."""
        self._offered += 1
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._fail(
                f"it takes longer than the run: {MOST_WAITING} records are waiting, and further ones are dropped"
            )

    def end(self) -> None:
        """Have it close when all that waits is sent; returns at once."""
        self._ending.set()
        with suppress(queue.Full):  # it is looked at after every record, too
            self._queue.put_nowait(None)

    def wait(self, seconds: float) -> bool:
        """Wait some seconds for that; whether it has closed."""
        self._thread.join(max(seconds, 0.0))
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Send nothing any more."""
        self._given_up.set()
        if self._thread.is_alive():
            GIVEN_UP.append(self.name)
            self._fail("it did not come to an end in time")

    def _work(self) -> None:
        while not self._given_up.is_set() and not (self._ending.is_set() and self._queue.empty()):
            record = self._queue.get()
            if record is None:
                continue
            tracker = self._opened()
            if tracker is not None and self._tried(partial(record, tracker)):
                self._sent += 1
        if self._tracker is not None and not self._given_up.is_set():
            self._tried(self._tracker.close)

    def _opened(self) -> Tracker | None:
        if self._tracker is None and time.monotonic() >= self._try_again:
            self._tried(self._open_it)
            self._try_again = time.monotonic() + RETRY_SECONDS
        return self._tracker

    def _open_it(self) -> None:
        self._tracker = self._open()
        self.hint = self._tracker.hint

    def _tried(self, act: Callable[[], None]) -> bool:
        """Whether it went well; a foreign library may make anything of a failure, even an exit."""
        try:
            act()
        except (Exception, SystemExit) as error:
            self._fail(" ".join(f"{type(error).__name__}: {error}".split()))
            return False
        return True

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason[:LONGEST_REASON]

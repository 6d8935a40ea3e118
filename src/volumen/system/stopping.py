"""Requests to stop: Ctrl-C, a scheduler's SIGTERM, a closed laptop's or a lost connection's SIGHUP.

A training takes them as a wish and saves first (`StopRequest`); between tiles, cases and blocks its long work asks
`raise_if_wanted`. Every other command ends where it stands by an exception, so that whatever it holds - processes,
locks, files half written - is given back on the way out (`interruptible`).
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
Handler = Callable[[int, FrameType | None], Any] | int | None


class InterruptedBySignal(BaseException):  # like KeyboardInterrupt: nobody who handles errors handles this
    """A signal ended the work where it stood."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class OutOfTime(BaseException):  # nobody who handles errors handles this
    """A block had no more time."""


class StopWanted(Exception):
    """Long work that may be left at any point was left, since somebody asked to stop."""


class StopRequest:
    """A context in which the signals set `requested` instead of ending the process; a second Ctrl-C ends it at once.

    Only the main thread of a process can take signals; in another one, such as a notebook's, nothing is changed.
    """

    _current: "StopRequest | None" = None

    def __init__(self) -> None:
        self.requested = False
        self.name = ""
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> "StopRequest":
        if _in_main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._ask)
        StopRequest._current = self
        return self

    def __exit__(self, *exception: object) -> None:
        StopRequest._current = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested, self.name = True, signal.Signals(number).name


def ask_to_stop(name: str) -> None:
    """As a signal would, for a program's own reasons; from any thread. Nothing where nobody takes requests."""
    current = StopRequest._current
    if current is not None:
        current.requested, current.name = True, current.name or name


def raise_if_wanted() -> None:
    """Leave long work that changes nothing, with StopWanted, where somebody asked to stop."""
    if StopRequest._current is not None and StopRequest._current.requested:
        raise StopWanted


@contextmanager
def interruptible() -> Iterator[None]:
    """A context in which the signals raise `InterruptedBySignal` in the main thread.

    Whatever error a library makes of it on its way out (compilers report everything as theirs), it leaves as itself.
    """
    if not _in_main_thread():
        yield
        return
    sent: list[InterruptedBySignal] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:  # on the way out nothing is interrupted again, but by SIGKILL
            signal.signal(other, signal.SIG_IGN)
        sent.append(InterruptedBySignal(signal.Signals(number).name))
        raise sent[0]

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:  # nohup wants it so
            signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if sent:
            raise sent[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """A context that is left by `OutOfTime` after some seconds, as soon as Python's own code runs.

    Only the main thread can be called by a clock, and not on every system: elsewhere a block that has begun is ended by
    itself.
    """
    if seconds <= 0:
        raise OutOfTime
    if seconds == float("inf") or not hasattr(signal, "setitimer") or not _in_main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

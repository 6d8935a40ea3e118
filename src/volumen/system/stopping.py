"""Requests to stop: Ctrl-C, a scheduler's SIGTERM, a closed laptop's or a lost connection's SIGHUP.

A training takes them as a wish and saves first (`StopRequest`); between tiles, cases and blocks its long work asks
`raise_if_wanted`. Every other command ends where it stands by an exception, so that whatever it holds - processes,
locks, files half written - is given back on the way out (`interruptible`). What whoever started the process wants
ignored is ignored by both: `nohup` says so of SIGHUP, a script's job in the background of SIGINT.
"""

import signal
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
REMINDS_SECONDS = 0.5
"""From an interruption until whoever has swallowed it gets it again."""
Handler = Callable[[int, FrameType | None], Any] | int | None


def heard() -> tuple[int, ...]:
    """Those of the signals that this process was not started to ignore."""
    return tuple(number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)


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
            for number in heard():
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
    Where it came to nothing (what a destructor or a callback from C raises is dropped), it is raised again.
    """
    if not _in_main_thread():
        yield
        return
    interruption = _Interruption()
    before = {number: signal.getsignal(number) for number in heard()}
    for number in before:
        signal.signal(number, interruption.answer)
    try:
        yield
    except Exception as error:
        if interruption.sent is not None:
            raise interruption.sent from error
        raise
    finally:
        interruption.end()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Interruption:
    """The answer to the first signal, repeated while nothing comes of it; on the way out nothing is interrupted."""

    def __init__(self) -> None:
        self.sent: InterruptedBySignal | None = None
        self._raised, self._over, self._reminding = 0.0, False, threading.Lock()
        self._report = sys.unraisablehook

    def answer(self, number: int, frame: FrameType | None) -> None:
        if self.sent is None:
            self.sent = InterruptedBySignal(signal.Signals(number).name)
            sys.unraisablehook = self._report_others
            with suppress(RuntimeError):  # no thread is to be had
                start_new_thread(self._remind, (number,))  # takes no lock of `threading`, which this thread may hold
        elif self._over or time.monotonic() - self._raised < REMINDS_SECONDS or _is_handled(self.sent):
            return
        self._raised = time.monotonic()
        raise self.sent

    def end(self) -> None:
        self._over = True
        with self._reminding:
            pass
        sys.unraisablehook = self._report

    def _remind(self, number: int) -> None:
        while not self._over:
            time.sleep(REMINDS_SECONDS)
            with self._reminding:
                if not self._over and hasattr(signal, "pthread_kill"):
                    signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _report_others(self, dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_value is not self.sent:
            self._report(dropped)


def _is_handled(wanted: BaseException) -> bool:
    """Whether an `except`, a `finally` or the end of a `with` runs here because of it, or of what became of it."""
    found, known = [sys.exception()], set[int]()
    while found:
        error = found.pop()
        if error is wanted:
            return True
        if error is not None and id(error) not in known:
            known.add(id(error))
            found += [error.__cause__, error.__context__]
    return False


@contextmanager
def held_back() -> Iterator[None]:
    """A context, of moments, at whose end the signals are answered that came in it: what it starts is known by then."""
    if not _in_main_thread():
        yield
        return
    came: dict[int, None] = {}
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
    for number in before:
        signal.signal(number, lambda number, frame: came.setdefault(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            before[number](number, None)


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

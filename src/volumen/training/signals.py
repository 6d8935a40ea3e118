"""SIGTERM and Ctrl-C ask a run to save and stop; a second Ctrl-C stops it at once."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopRequest:
    """A context in which the two signals set `requested` instead of ending the process."""

    def __init__(self) -> None:
        self.requested = False
        self.name = ""
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested, self.name = True, signal.Signals(number).name

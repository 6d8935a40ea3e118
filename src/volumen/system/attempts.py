"""A process that a supervisor started: how it ended, why, and what it said last."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volumen.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR
from volumen.system.names import one_line

_TAIL_BYTES = 32768
_LAST_WORDS = ("error:", "failed:", "interrupted")

Ending = Literal["done", "stopped", "failed", "refused", "died"]


@dataclass(frozen=True)
class Attempt:
    """A process of a job."""

    job: str
    step: str
    began: float
    """Seconds since 1970."""
    slot: str = ""
    """The device that it had to itself."""
    pid: int = 0
    seconds: float | None = None
    """None while it runs."""
    code: int | None = None
    """Its exit code; of a death by a signal the signal's number, negative."""
    said: str = ""
    """Its last words."""

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it runs."""
        if self.code is None:
            return None
        known: dict[int, Ending] = {
            0: "done",
            EXIT_INTERRUPTED: "stopped",
            EXIT_FAILURE: "failed",
            EXIT_USER_ERROR: "refused",
        }
        return known.get(self.code, "died")

    @property
    def why(self) -> str:
        """The ending in words."""
        if self.code is None:
            return "running"
        if self.code < 0:
            name = next((each.name for each in signal.Signals if each == -self.code), f"signal {-self.code}")
            return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        return self.said or f"ended with exit code {self.code}"


def last_words(log: Path, start: int) -> str:
    """What a process said last, as one line: its error where it named one, else nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    at = next((n for n in reversed(range(len(lines))) if lines[n].startswith(_LAST_WORDS)), None)
    if at is None:
        return ""
    first, *rest = (line.strip() for line in lines[at : at + 6])
    return one_line(" ".join([first.partition(": ")[2] or first, *rest]).strip(), 600)

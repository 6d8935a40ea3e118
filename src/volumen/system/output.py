"""What is printed reaches its reader, whatever letters the reader can take and however early the reader leaves."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing import parent_process

from volumen.system.names import printable

Progress = Callable[[str, int, int], None]
"""Told what is worked on, how much is done, and of how much."""
Tally = Callable[[int, int], None]
"""Told how much is done, and of how much, where there is one thing only."""
Warn = Callable[[str], None]
"""Told a sentence that a person should read."""
_ERRORS = "volumen.spelled"
_SPELLED = {"±": "+-", "·": ".", "…": "...", "×": "x", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "µ": "u"}


def unheard(*told: object) -> None:
    """A `Progress`, `Tally` or `Warn` for whom nobody listens."""


def spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that an encoding does not have: a sign's usual spelling, or the letter's number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        _SPELLED.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lost
    ), error.end


codecs.register_error(_ERRORS, spelled)


class Output(io.TextIOWrapper):
    """Standard output or error that spells out what it cannot encode, and is silent once its reader has left.

    Work that prints is not ended by `| head` or by a terminal that was closed: its results are in files.
    """

    def write(self, text: str) -> int:
        """Write, or not, where nobody reads any more."""
        try:
            return super().write(text)
        except OSError as error:
            return self._without_reader(error, len(text))

    def flush(self) -> None:
        """The same."""
        try:
            super().flush()
        except OSError as error:
            self._without_reader(error, 0)

    def _without_reader(self, error: OSError, written: int) -> int:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return written


def open_output() -> None:
    """Make this process's standard output and error such; called once, where a process is the command's own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed, and something else in a notebook
            made = Output(stream.buffer, stream.encoding, _ERRORS, None, stream.line_buffering, stream.write_through)
            setattr(sys, name, made)


def say(text: str, *, aside: bool = False, end: str = "\n") -> None:
    """Print text that may hold names and values of foreign origin, which a terminal gets as text only.

    `aside` goes to standard error, beside the results.
    """
    print(printable(text), file=sys.stderr if aside else sys.stdout, end=end)


@cache
def note_once(text: str) -> None:
    """Say something to who runs this, once, and not again from the processes that work for it."""
    if parent_process() is None:
        say(f"note: {text}", aside=True)


def counted(count: int, noun: str, several: str = "") -> str:
    """A number and its noun (the last of several words): `1 mask`, `2 masks`, `3 searches`.

    `several` is the noun for more, where the rule does not give it, as with a verb: `mask is`, `masks are`.
    """
    return f"{count} {noun if count == 1 else several or plural(noun)}"


def plural(noun: str) -> str:
    """A noun for several: `patches`, `probabilities`, `days`, `epochs`."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    hisses = noun.endswith(("s", "x", "z", "ch", "sh")) and not noun.endswith("och")
    return f"{noun}es" if hisses else f"{noun}s"


def duration(seconds: float) -> str:
    """A time span for people: 3.2 s, 42 s, 7 min 05 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.2g} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

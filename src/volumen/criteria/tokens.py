"""The words of a criterion and their places, and the error that points at one."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from volumen.errors import UserError
from volumen.system.names import one_line

LONGEST = 1000
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<sign>\.\.|<=|>=|[<>()%+-])"
)
_INSTEAD = {
    "=": "write <= or >=", "≤": "write <=", "≥": "write >=", "−": "write -", "–": "write .. for a range and - for less",
    "…": "write ..", "&": "write and", "|": "write or", "!": "write not", ".": "write a number as 0.5, a range as 3..6",
    ",": "write and between two criteria, and a number with a point",
}  # fmt: skip


class CriterionError(UserError):
    """A criterion that cannot be read, with its text and a mark below the place."""

    def __init__(self, text: str, start: int, reason: str, length: int = 1) -> None:
        """`start` and `length` in letters of `text`; `reason` says what is wrong and what would be right."""
        self.text, self.start, self.reason = text, start, reason
        line = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)
        before, marked = (sum(map(_columns, part)) for part in (line[:start], line[start : start + length]))
        super().__init__(f"{reason}\n    {line}\n    {' ' * before}{'^' * max(1, marked)}")

    @property
    def in_one_line(self) -> str:
        """The same without a mark: the letter's number, counted from 1."""
        return f"{one_line(self.text, 300)!r}, character {self.start + 1}: {self.reason}"


@dataclass(frozen=True)
class Token:
    """A word, a number or a sign, and where it stands."""

    kind: Literal["word", "number", "sign", "end"]
    text: str
    start: int


def tokens_of(text: str) -> list[Token]:
    """The tokens of a criterion; the last one is its end.

    Raises:
        CriterionError: A letter that no criterion has, or a text that is too long.
    """
    if len(text) > LONGEST:
        raise CriterionError(text[:60], 59, f"a criterion has at most {LONGEST} letters, this one {len(text)}")
    found: list[Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            instead = _INSTEAD.get(text[place], "use names, numbers, < <= > >= .. + - % and parentheses")
            raise CriterionError(text, place, f"{one_line(text[place])!r} has no meaning here: {instead}")
        for kind in ("word", "number", "sign"):
            if match[kind] is not None:
                found.append(Token(kind, match[kind], place))
        place = match.end()
    return [*found, Token("end", "", len(text.rstrip()) or len(text))]


def _columns(letter: str) -> int:
    """Columns of a terminal that a letter takes."""
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1

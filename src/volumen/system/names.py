"""Names are names, never paths: one rule for every case id, checkpoint, member and mask that a file names.

A record, an archive or a table may have been damaged or written by somebody else. What it calls a name is joined to a
folder of ours, read, written and deleted; `../../victim` must not get that far.
"""

import re
from collections.abc import Iterable

from volumen.errors import UserError

LONGEST_BYTES = 200
"""File systems take 255; endings and prefixes are added to a name."""
# Controls (of terminals too), halves of characters, and what turns or hides the text around it.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DEVICES = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def checked_name(name: object, what: str, where: object) -> str:
    """A name that is safe to join to a folder.

    `what` and `where` say in the error what it is called, such as `case id`, and where it comes from.

    Raises:
        UserError: It is no text, empty, a path, hidden, too long, or holds control characters.
    """
    problem = problem_of(name)
    if problem:
        raise UserError(f"{where}: the {what} {shown(name)} {problem}: a name of a file, without a folder, is expected")
    return str(name)


def problem_of(name: object) -> str:
    """What keeps a value from being a name, in words that follow it; empty for a name."""
    if not isinstance(name, str):
        return "is no text"
    if not name.strip() or name != name.strip():
        return "is empty" if not name.strip() else "begins or ends with a space"
    if "/" in name or "\\" in name:
        return "is a path"
    if name.startswith("."):
        return "begins with a dot"
    if not name.isprintable():
        return "holds characters that cannot be printed"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if length > LONGEST_BYTES:
        return f"is {length} bytes long, {LONGEST_BYTES} are allowed"
    if ":" in name or _DEVICES.match(name):
        return "is no file name on every system"
    return ""


def shown(value: object) -> str:
    """A value from somebody else's file for an error: one line, printable, short."""
    text = repr(value) if isinstance(value, str) else f"{type(value).__name__} {value!s:.60}"
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names of many for an error, and how many there are; `none` where there is none."""
    listed = [name if not problem_of(name) else shown(name) for name in names]
    more = f", ... ({len(listed)} of them)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more or "none"


def one_line(text: str, longest: int = 200) -> str:
    """Text of foreign origin for an error: what would break a line or steer a terminal is written out; cut if long."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: longest + 1])
    return line if len(line) <= longest else f"{line[:longest]}..."


def csv_text(text: str) -> str:
    """Text for a cell of a table that a spreadsheet may open: what it would take for a formula gets a quote before."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def printable(text: str) -> str:
    """A text that neither drives a terminal nor turns a line around: what would is said by its number, as `\\x1b`.

    Ends of lines and tabs stay.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)

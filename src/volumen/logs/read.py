"""Read the training log of any program: what it is, is known by its content."""

import codecs
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from volumen.errors import UserError
from volumen.files import is_regular_file
from volumen.logs.event_files import find_event_files, is_event_file, read_event_files
from volumen.logs.gather import Gathering
from volumen.logs.history import history_of
from volumen.logs.json_rows import MOST_BYTES, loads, read_lines, read_value
from volumen.logs.lines import LONGEST_LINE, TextReader
from volumen.logs.names import Meaning
from volumen.logs.numerals import prefers_comma
from volumen.logs.rows import Said, Tally
from volumen.logs.tables import find_header, read_table
from volumen.monitors.seen import History
from volumen.system.names import one_line

HEAD = 65536
"""Bytes by which a format is known."""
LONGEST_READ = 4 * LONGEST_LINE
"""Characters of a line that are kept; the rest of it is passed over."""
_STRANGE = re.compile("[\ufffd\x00-\x07\x0e-\x1a\x1c-\x1f]")
Known = Mapping[str, Meaning]
LOOKED_FOR = (
    "looked for TensorBoard events, CSV and other tables with a header, JSON, nnU-Net's log, and lines such as "
    "'Epoch 3 Val - Loss: 0.56 (dice: 0.48)'"
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_log_of(path: Path, *, mapping: Known | None = None, weights: Mapping[str, float] | None = None) -> History:
    """The history that a log of another program tells.

    Args:
        path: A file, or a folder of TensorBoard's event files.
        mapping: Meanings of names, of `names.parse_map`, where their rules do not give them.
        weights: Of the loss's terms, of `names.parse_weights`; else those that the log states.

    Raises:
        UserError: It cannot be read, or holds no record of a training: says what was looked for, and shows lines.
    """
    known = dict(mapping or {})
    if path.is_dir():
        found, faults = Gathering(), list[str]()
        files = find_event_files(path)
        if not files:
            raise UserError(f"{path} is a folder without TensorBoard event files: name the log file in it")
        read_event_files(files, path, known, found, faults)
    else:
        found, faults = _read_file(path, known)
    if found.is_empty:
        raise UserError(f"{path} holds no record of a training: {LOOKED_FOR}; {_examples(path)}")
    return history_of(found, str(path), weights, tuple(faults))


def _read_file(path: Path, known: Known) -> tuple[Gathering, list[str]]:
    try:
        if not is_regular_file(path, "name the file of a log"):
            raise UserError(f"{path} does not exist: check the path")
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        if not is_event_file(head):
            return _read_text(path, head, known)
        found, faults = Gathering(), list[str]()
        read_event_files([path], path.parent, known, found, faults)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    return found, faults


def _read_text(path: Path, head: bytes, known: Known) -> tuple[Gathering, list[str]]:
    """What the first reader that finds anything in a text reads, and what it could not."""
    encoding = _encoding_of(head)
    if encoding is None:
        raise UserError(f"{path} is no text and no TensorBoard event file: {LOOKED_FOR}")
    begun = head.decode(encoding, "replace")
    lines = begun.splitlines()[: -1 if len(head) == HEAD else None] or [begun]
    tally = Tally()
    for rows in _readers(path, begun, lines, known):
        found, tally = Gathering(), Tally()
        with path.open("r", encoding=encoding, errors="replace", newline="\n") as stream:
            found.take(rows(stream, tally))
        if not found.is_empty:
            break
    return found, list(tally.sentences())


Rows = Callable[[io.TextIOWrapper, Tally], Iterable[Said]]


def _readers(path: Path, begun: str, lines: list[str], known: Known) -> Iterator[Rows]:
    """Readers of a text that may be right by how it begins; of free text at last."""
    filled = [line for line in lines if line.strip()]
    if begun.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        if len(filled) > 1 and any(_is_object(line) for line in filled[:3]):
            yield lambda stream, tally: read_lines(_bounded(stream), known, tally)
        elif path.stat().st_size <= MOST_BYTES:
            yield lambda stream, tally: _whole_json(stream, known)
    header = find_header(lines[:40], known)
    if header is not None:
        yield lambda stream, tally: read_table(_bounded(stream), header, tally, known)
    comma = prefers_comma(begun)
    yield lambda stream, tally: TextReader(known, tally, comma=comma).read(_bounded(stream))


def _whole_json(stream: io.TextIOWrapper, known: Known) -> Iterator[Said]:
    """The rows of a file that is one value of JSON; none where it is not."""
    try:
        value = loads(stream.read().lstrip("\ufeff"))
    except ValueError:
        return
    yield from read_value(value, known)


def _is_object(line: str) -> bool:
    text = line.strip().lstrip("\ufeff").rstrip(",")
    if not (text.startswith("{") and text.endswith("}")):
        return False
    try:
        return isinstance(loads(text), dict)
    except ValueError:
        return False


def _encoding_of(head: bytes) -> str | None:
    """The encoding of a text; None where the bytes are none."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        half = len(head) // 2
        for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            if half and head[offset::2].count(0) > 0.7 * half:
                return name
        if head.count(0) > len(head) // 100:
            return None
    strange = len(_STRANGE.findall(head.decode("utf-8", "replace")))
    return "utf-8" if strange <= len(head) // 20 else None


def _bounded(stream: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text, of which each is cut where it is immense."""
    while line := stream.readline(LONGEST_READ):
        whole = line
        while whole and not whole.endswith("\n"):
            whole = stream.readline(HEAD)
        yield line


def _examples(path: Path) -> str:
    """Three lines of a file for an error, and how a line would have to look."""
    if path.is_dir():
        return "its event files hold no scalar that is known by its tag: say what one means with --map TAG=MEANING"
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if is_event_file(head):
        return "its scalars are not known by their tags: say what one means with --map TAG=MEANING"
    text = head.decode(_encoding_of(head) or "utf-8", "replace")
    shown = [one_line(line.strip(), 80) for line in islice((line for line in text.splitlines() if line.strip()), 3)]
    lines = "; ".join(f"'{line}'" for line in shown) if shown else "nothing, the file is empty"
    return f"its first lines are {lines}; say what a name means with --map NAME=MEANING"

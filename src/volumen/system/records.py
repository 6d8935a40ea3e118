"""Every record of ours is written with its check, and read in one way: bounded, verified, typed.

A record is a JSON object. Its `check` is a hash over all the rest and over the record's owner (a run's name for itself,
say), so that a flipped bit, an edited digit, a line cut off or a file of another run is told as such and never becomes
a number. A log is a file of such objects, one a line, numbered, so that a missing line shows as well.

What other programs wrote has no check; it is read with the same bounds by `parse_json`.
"""

import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from volumen.errors import DamagedError
from volumen.files import is_regular_file, strict_json, write_atomically
from volumen.system.names import one_line, shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What numbers and texts of records can be, where more is damage.
Count = Annotated[int, Field(ge=0, le=2**48)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=100_000)]

CHECK, LINE = "check", "line"
CHECK_DIGITS = 32
MOST_BYTES = 256 * 2**20
"""Of a record. The largest, a manifest of many thousand volumes, stays far below."""
DEEPEST = 64
_LOCKS_UNKNOWN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_CHUNK = 65536
_DIGITS = 20  # of a whole number; 2^64 has 20
_WITHOUT = "remove it, the rest of the folder can be read without it"
_ENDING = len(f',"{CHECK}":"') + CHECK_DIGITS + len('"}')


def read_bounded(path: Path, fix: str, most_bytes: int = MOST_BYTES) -> bytes:
    """A file's bytes; DamagedError where it cannot be read, or is larger than a record can be."""
    try:
        is_regular_file(path, fix)
        size = path.stat().st_size
        if size > most_bytes:
            raise DamagedError(f"{path} is damaged: it has {size} bytes, at most {most_bytes} are expected: {fix}")
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}): {fix}") from error


def parse_json(content: bytes | str, name: object, fix: str, *, unique_keys: bool = False) -> Any:
    """JSON of any origin, with bounds on depth and numbers.

    Args:
        content: The text.
        name: What errors call it, a path usually.
        fix: The way out, which ends every error.
        unique_keys: Refuse an object that says two things under one key; of no use for a record with a check.

    Raises:
        DamagedError: It is no strict JSON, nested deeper than 64 levels, or holds a number that no machine holds.
    """
    try:
        pairs = _unique if unique_keys else None
        value = json.loads(content, parse_int=_whole_number, parse_constant=_refuse_constant, object_pairs_hook=pairs)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else f"{error!s:.160}"
        raise DamagedError(f"{name} is damaged ({what}): {fix}") from error
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shown(next(key for key in keys if keys.count(key) > 1))} stands there twice")
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("a number that is too large")
        level = inner
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def check_of(record: Mapping[str, Any], owner: str = "") -> str:
    """The check of a record without its own `check`."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{owner}\n{text}".encode()).hexdigest()[:CHECK_DIGITS]


def sealed(record: Mapping[str, Any], owner: str = "") -> dict[str, Any]:
    """The record as strict JSON values, with its check at the end."""
    plain = strict_json(record)
    return {**plain, CHECK: check_of(plain, owner)}


def write_record(path: Path, record: Mapping[str, Any], *, owner: str = "") -> None:
    """Replace a record, with its check in it; an OSError leaves what was there before.

    Args:
        path: The file.
        record: Plain values; NaN and infinity become null as in `files.strict_json`.
        owner: Whom the record belongs to; reading it for another owner finds it damaged.
    """
    write_atomically(path, json.dumps(sealed(record, owner), indent=1) + "\n")


def open_record(content: bytes | str, name: object, fix: str, owner: str = "") -> dict[str, Any]:
    """The values of a record, verified; see `read_record`."""
    record = parse_json(content, name, fix)
    if not isinstance(record, dict):
        raise DamagedError(f"{name} is damaged (it holds {shown(record)}, not an object): {fix}")
    recorded = record.pop(CHECK, None)
    if recorded is None:
        raise DamagedError(f"{name} has no check: it is damaged, or an older volumen wrote it: {fix}")
    if recorded != check_of(record, owner):
        whose = ", or it is of another run or folder" if owner else ""
        raise DamagedError(f"{name} is damaged: its content is not what was written{whose}: {fix}")
    return record


def read_record(path: Path, kind: Any, fix: str, *, owner: str = "") -> Any:
    """A record that `write_record` wrote.

    Args:
        path: The file.
        kind: A type that pydantic can check (dataclass, TypedDict, `dict[str, Entry]`, ...).
        fix: What the user can do about a damaged one; it ends every error.
        owner: As it was written.

    Raises:
        DamagedError: It is not what was written, or not of that type.
    """
    return typed(open_record(read_bounded(path, fix), path, fix, owner), kind, path, fix)


def typed(value: Any, kind: Any, name: object, fix: str) -> Any:
    """Plain JSON values as a type, strictly: no text for a number, no unknown key where the type forbids them.

    Raises:
        DamagedError: They are of another type; says where, what was expected and what was found.
    """
    try:
        return _adapter(kind).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(
            part if isinstance(part, str) and part.isidentifier() else shown(part) for part in first["loc"]
        )
        found = f"{one_line(first['msg'], 300)}, got {shown(first.get('input'))}"
        raise DamagedError(f"{name} is damaged ({place or 'it'}: {found}): {fix}") from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class Log:
    """What a log holds."""

    records: tuple[dict[str, Any], ...]
    """Whole ones, in order."""
    damaged: int
    """Lines that are not what was written."""
    missing: int
    """Lines that should be there by the numbers of the others."""
    last: int
    """Number of the last line; 0 for an empty log."""

    def faults(self, name: str, written: int | None = None) -> tuple[str, ...]:
        """What is wrong with the log called `name`, in sentences; fewer lines than were `written` are a fault too."""
        missing = self.missing + max(0, (written or 0) - self.last)
        kinds = ((self.damaged, "damaged and left out"), (missing, "missing"))
        return tuple(f"{name}: {n} line{'s are' if n != 1 else ' is'} {what}" for n, what in kinds if n)


def append_record(path: Path, record: Mapping[str, Any], *, owner: str = "") -> int:
    """Append a record to a log as one line with its number and its check; returns the number.

    A torn last line that a crash left behind is cut off first; a line that does not fit is taken back, and the OSError
    passes. Several processes may append.
    """
    plain = strict_json(record)
    is_regular_file(path)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        _lock(descriptor)
        end, last = _end_of_whole_lines(descriptor, owner)
        number = _number_of(last) + 1
        line = _line_of(plain, number, owner)
        try:
            os.lseek(descriptor, end, os.SEEK_SET)
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes fitted", str(path))
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)  # gives up the lock
    return number


def _lock(descriptor: int) -> None:
    """Wait for the other writers, where the file system has locks; without them a file has one writer."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _LOCKS_UNKNOWN:
            raise


def _end_of_whole_lines(descriptor: int, owner: str) -> tuple[int, bytes]:
    """Where the next line begins, and the line before it; a torn last line is cut off."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    start, tail = size, b""
    while start > 0 and tail.count(b"\n") < 2:
        step = min(_CHUNK, start)
        start -= step
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, step) + tail
    whole, newline, torn = tail.rpartition(b"\n")
    if torn and _record_of(torn, owner) is not None:
        os.lseek(descriptor, size, os.SEEK_SET)
        return size + os.write(descriptor, b"\n"), torn
    if torn:
        os.ftruncate(descriptor, size - len(torn))
    return size - len(torn), whole.rpartition(b"\n")[2] if newline else b""


def _line_of(plain: Mapping[str, Any], number: int, owner: str) -> bytes:
    body = json.dumps({**plain, LINE: number}, allow_nan=False, separators=(",", ":")).encode()
    return body[:-1] + f',"{CHECK}":"{_line_check(body, owner)}"}}\n'.encode()


def _line_check(body: bytes, owner: str) -> str:
    return hashlib.sha256(owner.encode() + b"\n" + body).hexdigest()[:CHECK_DIGITS]


def _number_of(line: bytes) -> int:
    """The number that a line gives itself, damaged or not; 0 where it gives none."""
    _, found, rest = line.rpartition(f'"{LINE}":'.encode())
    digits = rest.partition(b",")[0]
    return int(digits) if found and digits.isdigit() and len(digits) < _DIGITS else 0


def read_log(path: Path, *, owner: str = "") -> Log:
    """A log, empty where it is not there; damaged lines are counted, not believed."""
    if not is_regular_file(path):
        return Log((), 0, 0, 0)
    lines = read_bounded(path, _WITHOUT).split(b"\n")
    records: list[dict[str, Any]] = []
    damaged, missing, last = 0, 0, 0
    for line in lines if lines[-1] else lines[:-1]:  # without its end, a crash left the last one, or the file was cut
        record = _record_of(line, owner)
        number = last + 1 if record is None else record.pop(LINE)
        if record is None or number <= last:  # written twice, or out of order: a copy of a line is no new record
            damaged, last = damaged + 1, max(last, number)
            continue
        missing += number - last - 1
        last = number
        records.append(record)
    return Log(tuple(records), damaged, missing, last)


def mend_log(path: Path, *, owner: str = "") -> Log:
    """As `read_log`; a log with damaged or missing lines is replaced by its whole ones, so that this is said once.

    For logs that one process writes, or that nobody writes now. OSError where there is no room; the log is as before.
    """
    log = read_log(path, owner=owner)
    if log.damaged or log.missing:
        lines = [_line_of(record, number, owner) for number, record in enumerate(log.records, start=1)]
        write_atomically(path, b"".join(lines))
    return log


def read_log_from(path: Path, offset: int, *, owner: str = "") -> tuple[list[dict[str, Any]], int, int]:
    """What was added to a log, which others may be appending to, since it was last read; a torn last line is left.

    `offset` is what the last call returned, 0 at first; a log that has become shorter is read anew. Returns records,
    the number of damaged lines, and the next offset.

    Raises:
        DamagedError: It cannot be read.
    """
    try:
        is_regular_file(path)
        with path.open("rb") as file:
            start = file.seek(offset if offset <= path.stat().st_size else 0)
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}): {_WITHOUT}") from error
    *lines, torn = content.split(b"\n")
    found = [_record_of(line, owner) for line in lines]
    records = [record for record in found if record is not None]
    return records, len(found) - len(records), start + len(content) - len(torn)


def _record_of(line: bytes, owner: str) -> dict[str, Any] | None:
    """The record on a line with its number, without its check; None where it is not what was written."""
    body = line[:-_ENDING] + b"}"
    if line[-_ENDING:] != f',"{CHECK}":"{_line_check(body, owner)}"}}'.encode():
        return None
    try:
        record = parse_json(body, "a line", "")
    except DamagedError:
        return None
    return record if isinstance(record, dict) and type(record.get(LINE)) is int else None

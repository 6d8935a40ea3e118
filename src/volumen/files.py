"""Writing files so that a crash, a kill or a full disk never leaves half of one behind.

A whole file is written beside its place, synced and renamed; a line of a log is appended in one write under a lock, and
taken back if it did not fit. Readers of logs live with a torn last line, which only a power cut can still produce.
"""

import errno
import hashlib
import json
import math
import numbers
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from volumen.errors import UserError

if sys.platform != "win32":
    import fcntl

NON_FINITE = "non_finite"
"""Key under which a record lists its own keys whose value was NaN or infinite and stands as null."""

_LOCKS_UNKNOWN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_CHUNK = 65536


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Replace a file by `data` (text as UTF-8): afterwards it holds all of it, or on an error what it held before."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary file in the same folder, with the same ending, that takes `path`'s place when the block succeeds.

    The file is synced before the rename and the folder after it. When the block raises, the temporary file is removed
    and `path` is as before. A symbolic link keeps pointing where it did: what it points to is replaced.

    Raises:
        OSError: the folder does not exist, is not writable, or is full.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".partial-{secrets.token_hex(6)}-{target.name[-200:]}")
    # Created here and not by tempfile, which would leave the final file readable by its owner alone.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _sync(path: Path) -> None:
    # Open for writing: Windows refuses to sync a file that is open for reading only.
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the file system knows how to."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hexadecimal, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def append_json_line(path: Path | str, record: Mapping[str, Any]) -> None:
    """Append one record as one line of strict JSON.

    NaN and infinity, which JSON does not have, are written as null and their dotted keys listed under `non_finite`:
    a reader that only plots sees a gap, one that diagnoses sees which value broke. The line is written at once; if it
    does not fit on the disk the file is cut back to its last whole line. So is a torn line that a crash left behind.
    Several processes may append to one file.

    Raises:
        TypeError: a value is not text, a number, true, false, null, a list or a mapping.
        ValueError: the record has a `non_finite` key of its own.
        OSError: the line could not be written.
    """
    line = json.dumps(strict_json(record), allow_nan=False, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        _lock(descriptor)
        end = _end_of_whole_lines(descriptor)
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


def _lock(descriptor: int) -> None:
    """Wait for the other writers, where the file system has locks; without them a file has one writer."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _LOCKS_UNKNOWN:
            raise


def _end_of_whole_lines(descriptor: int) -> int:
    """Where the next line begins; cuts off a torn last line, and ends a whole one that lacks its newline."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(_CHUNK, start)
        start -= step
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, step) + tail
    last = tail.rpartition(b"\n")[2]
    if not last:
        return size
    if _parsed(last) is None:
        os.ftruncate(descriptor, size - len(last))
        return size - len(last)
    os.lseek(descriptor, size, os.SEEK_SET)
    return size + os.write(descriptor, b"\n")


def read_json_lines(path: Path | str) -> list[dict[str, Any]]:
    """Every record of a log, in order; a last line that a crash tore is left out.

    Raises:
        UserError: another line is not a JSON object.
        FileNotFoundError: there is no such file.
    """
    *lines, last = Path(path).read_bytes().split(b"\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        record = _parsed(line)
        if record is None:
            what = line[:60].decode(errors="replace")
            raise UserError(f"{path}:{number}: expected one JSON object on the line, got {what!r}: remove the line")
        records.append(record)
    torn_or_whole = _parsed(last)
    return records if torn_or_whole is None else [*records, torn_or_whole]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The object on a line, or None where there is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def strict_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as strict JSON values, NaN and infinity as null and listed under `non_finite`."""
    if NON_FINITE in record:
        raise ValueError(f"the key {NON_FINITE!r} is reserved for the keys whose value is not finite")
    lost: list[str] = []
    result = {str(key): _strict(item, str(key), lost) for key, item in record.items()}
    return {**result, NON_FINITE: lost} if lost else result


def _strict(value: Any, key: str, lost: list[str]) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _strict(item, f"{key}.{name}", lost) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_strict(item, f"{key}.{index}", lost) for index, item in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):  # NumPy's scalars too, without importing NumPy
        number = float(value)
        if math.isfinite(number):
            return number
        lost.append(key)
        return None
    raise TypeError(
        f"{key}: expected text, a number, true, false, null, a list or a mapping, got {type(value).__name__}"
    )


def refuse_existing(path: Path | str, what: str, fix: str) -> None:
    """Refuse to write over something.

    Args:
        path: the file or folder about to be written.
        what: what it would be, such as `the run folder`.
        fix: what the user can do instead, such as `choose another --name`.

    Raises:
        UserError: it exists, be it only as a broken link.
    """
    if os.path.lexists(path):
        raise UserError(f"{what} {path} already exists and is never overwritten: {fix}")

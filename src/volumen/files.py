"""Writing files so that a crash, a kill or a full disk never leaves half of one behind: beside its place, then renamed.

What records and logs hold, and how they are read, is `system.records`.
"""

import errno
import hashlib
import math
import numbers
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from volumen.errors import DamagedError, UserError

NON_FINITE = "non_finite"
"""Key under which a record lists its own keys whose value was NaN or infinite and stands as null."""

PARTIAL = ".partial-"
"""Beginning of the names of files that are being written; the process's number follows."""


def write_atomically(path: Path | str, data: bytes | memoryview | str) -> None:
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
    temporary = target.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(6)}{target.suffix[:16]}")
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


def is_regular_file(path: Path | str, fix: str = "remove it") -> bool:
    """Whether a file is there that can be read to its end; `fix` ends the error.

    Raises:
        DamagedError: Something else has its name: a folder, a pipe, which would be waited for, a device, or a link
            that leads nowhere.
    """
    try:
        mode = os.stat(path).st_mode  # asked once: another writer may make the file between two questions
    except OSError as error:  # not there, or not for us to see: to open it says which
        if os.path.islink(path) and error.errno in (errno.ENOENT, errno.ELOOP):
            raise DamagedError(f"{path} cannot be read (it is a link that leads nowhere): {fix}") from error
        return False
    if not stat.S_ISREG(mode):
        raise DamagedError(f"{path} cannot be read (it is a folder, a pipe or a device, expected a file): {fix}")
    return True


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a regular file's bytes, hexadecimal, read in pieces; DamagedError for anything else."""
    is_regular_file(path)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    """Refuse to write over something, be it a broken link.

    UserError naming `what` it would be, such as `the run folder`, and the `fix`, such as `choose another --name`.
    """
    if os.path.lexists(path):
        raise UserError(f"{what} {path} already exists and is never overwritten: {fix}")

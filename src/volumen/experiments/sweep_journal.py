"""The journal of a sweep: Optuna's journal file, with a check on each line, one writer at a time, and no half lines.

Optuna reads it as its own (`optuna.storages.JournalStorage`). Its own file class takes a line that a killed process
left half written for damage, and no reader gets past it; here only whole lines count, and the next writer cuts off what
a dead one left. Who decides something by what the journal holds keeps it locked until the decision stands in it.
"""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volumen.errors import DamagedError
from volumen.system.records import CHECK, check_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE, LOCK = "journal.log", "journal.lock"
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class SweepJournal:
    """What Optuna's storage asks for (`read_logs`, `append_logs`), in one folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self._lock = folder / FILE, folder / LOCK
        self._depth = 0
        self._read = (0, 0)  # lines and bytes that were read

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one that reads and writes; waits for the others. May be nested."""
        if self._depth:
            yield
            return
        descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            with self._locked(descriptor):
                self._depth = 1
                try:
                    self._cut_torn_line()
                    yield
                finally:
                    self._depth = 0
        finally:
            os.close(descriptor)  # gives up the lock

    @contextmanager
    def _locked(self, descriptor: int) -> Iterator[None]:
        """The system's lock, which a dead process does not hold; Optuna's lock file where there is none."""
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            else:
                yield
                return
        from optuna.storages.journal import JournalFileOpenLock

        lock = JournalFileOpenLock(str(self.path))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _cut_torn_line(self) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            size = end = os.lseek(descriptor, 0, os.SEEK_END)
            while end:
                start = max(0, end - 65536)
                os.lseek(descriptor, start, os.SEEK_SET)
                found = os.read(descriptor, end - start).rfind(b"\n")
                end = start + found + 1 if found >= 0 else start
                if found >= 0:
                    break
            if end < size:
                os.ftruncate(descriptor, end)
        finally:
            os.close(descriptor)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Whole lines from a number on, counted from 0.

        Raises:
            DamagedError: A line is not what was written.
        """
        number, offset = self._read if self._read[0] <= log_number_from else (0, 0)
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            content = b""
        *lines, torn = content.split(b"\n")
        found = [self._record(line, at) for at, line in enumerate(lines, number + 1)]
        self._read = number + len(lines), offset + len(content) - len(torn)
        yield from found[log_number_from - number :]

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
            check = record.pop(CHECK)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            record, check = {}, None
        if check is None or check != check_of(record):
            raise DamagedError(
                f"{self.path} is damaged in line {number}: which trial is which is not known any more: put a copy of "
                "it back, or begin the sweep anew in another folder with --out"
            )
        return dict(record)

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Add records, all or none of them; an OSError leaves the journal as before."""
        lines = (json.dumps({**log, CHECK: check_of(log)}, separators=(",", ":"), allow_nan=False) for log in logs)
        content = "".join(f"{line}\n" for line in lines).encode()
        with self.held():
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                try:
                    written = os.write(descriptor, content)
                    if written != len(content):
                        raise OSError(errno.ENOSPC, f"{written} of {len(content)} bytes fitted", str(self.path))
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)

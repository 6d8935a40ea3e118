"""One process at a time in a folder, and the second is told who holds it.

The lock is the operating system's on an open file, so a process that dies, however it dies, holds nothing any more.
Where a file system has no such locks, the file itself is the lock, and counts as long as the process that it names is
alive on the machine that it names.
"""

import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from volumen.errors import UserError
from volumen.files import PARTIAL
from volumen.system.places import refusal, writable_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class HeldError(UserError):
    """Another process works in the folder."""


@contextmanager
def hold(folder: Path, work: str, *, fix: str = "wait until it ends, or stop it first") -> Iterator[None]:
    """Be the only process that does this work in a folder; the folder is made if need be.

    What processes that died there had not finished writing is swept up.

    Args:
        folder: The folder.
        work: What is done, such as `train`; different works do not exclude each other.
        fix: What the second can do.

    Raises:
        HeldError: A living process does it; names the process and since when.
        UserError: The folder cannot be made or written to; OSError where the disk is full.
    """
    path = _lock_of(folder, work)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise refusal(folder, error, "choose another place, or make it writable") from error
    try:
        if not _take(descriptor, path):
            raise HeldError(f"{folder} is in use by {_holder(path)}: {fix}")
        _write_holder(descriptor, work)
        try:
            sweep(folder)
            yield
        finally:
            with suppress(OSError):  # removed while it is held: a file without a holder never lies about
                path.unlink()
    finally:
        os.close(descriptor)


def is_held(folder: Path, work: str) -> bool:
    """Whether a living process does this work in a folder."""
    path = _lock_of(folder, work)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor, path)
    finally:
        os.close(descriptor)


def refuse_held(folder: Path, work: str) -> None:
    """Refuse, with a HeldError, to begin something long that could not be finished in this folder."""
    if is_held(folder, work):
        raise HeldError(
            f"{folder} is in use by {_holder(_lock_of(folder, work))}: wait until it ends, or stop it first"
        )


def _lock_of(folder: Path, work: str) -> Path:
    return folder / f".lock-{work}"


def sweep(folder: Path) -> None:
    """Remove what dead processes of this machine had not finished writing in a folder and directly below it."""
    for path in [*folder.glob(f"{PARTIAL}*"), *folder.glob(f"*/{PARTIAL}*")]:
        if _is_of_the_dead(path):
            with suppress(OSError):
                path.unlink()


@contextmanager
def folder_in_the_making(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which gets that name where the block succeeds, and is removed where it raises.

    What a process that was killed left of the same folder is removed first.

    Raises:
        UserError: `folder` cannot be made, or is there and is not an empty folder.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not an empty folder: name another folder or remove it first")
    except OSError as error:  # such as a name that is too long
        raise refusal(folder, error, "choose another place") from error
    writable_folder(folder.parent)
    kind = f"-{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}"  # as short for any name
    for left in folder.parent.glob(f"{PARTIAL}*"):
        if left.name.endswith(kind) and _is_of_the_dead(left):
            shutil.rmtree(left, ignore_errors=True)
    making = folder.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}{kind}")
    making.mkdir()
    try:
        yield making
        try:
            if folder.is_dir():
                folder.rmdir()  # not every system lets an empty folder give way
            making.rename(folder)
        except OSError as error:
            raise refusal(folder, error, "somebody else has filled it meanwhile: choose another place") from error
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _is_of_the_dead(path: Path) -> bool:
    process = path.name.removeprefix(PARTIAL).partition("-")[0]
    return process.isdigit() and len(process) < 10 and not _is_alive(int(process))


def _take(descriptor: int, path: Path) -> bool:
    """Try to lock an open file; False where somebody else has it, or has just removed it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    if fcntl is None:
        return not _named_holder_lives(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return not _named_holder_lives(path)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    try:  # the file may have been removed by its last holder between our opening and our locking it
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _write_holder(descriptor: int, work: str) -> None:
    holder = {"work": work, "process": os.getpid(), "machine": platform.node(), "since": time.time()}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())


def _read_holder(path: Path) -> tuple[str, int, str, float]:
    """Work, process, machine and beginning; the file was not necessarily written by us."""
    try:
        holder = json.loads(path.read_bytes()[:4096])
        return str(holder["work"])[:40], int(holder["process"]), str(holder["machine"])[:80], float(holder["since"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "another command", 0, "", 0.0


def _holder(path: Path) -> str:
    work, process, machine, since = _read_holder(path)
    if not process:
        return "another process"
    where = "" if machine == platform.node() else f" on {machine}"
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(max(since, 0.0), 2**32)))
    return f"`volumen {work}` (process {process}{where}, since {began})"


def _named_holder_lives(path: Path) -> bool:
    _, process, machine, _ = _read_holder(path)
    return process > 0 and process != os.getpid() and (machine != platform.node() or _is_alive(process))


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":
        return True  # nothing of a process that may be alive is taken away
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

"""Whether a result can be written is known before the work that makes it, and told by one sentence everywhere."""

import errno
import os
import secrets
from pathlib import Path

from volumen.errors import UserError
from volumen.files import PARTIAL


def writable_folder(folder: Path, fix: str = "choose another place, or make it writable") -> Path:
    """Make a folder that results go into, and try to write there.

    Raises:
        UserError: It cannot be made or written to; says why. OSError where the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{PARTIAL}{os.getpid()}-{secrets.token_hex(6)}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        probe.unlink()
    except OSError as error:
        raise refusal(folder, error, fix) from error
    return folder


def writable_file(path: Path, fix: str = "choose another place, or make it writable") -> Path:
    """As `writable_folder`, for the folder of a file that is about to be written or replaced.

    Raises:
        UserError: It is a folder, its name is too long, or its folder cannot be written to.
    """
    if os.path.isdir(path):  # which takes a name that is too long for none
        raise UserError(f"{path} is a folder, a file is to be written: {fix}")
    writable_folder(path.resolve().parent, fix)
    try:
        path.lstat()
    except FileNotFoundError:
        return path
    except OSError as error:  # such as a name that is too long
        raise refusal(path, error, fix) from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written to: {fix}")
    return path


def refusal(place: Path, error: OSError, fix: str) -> Exception:
    """The sentence for a place that cannot be written to; a full disk stays the error that it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    return UserError(f"{place} cannot be written to ({error.strerror}): {fix}")

"""Read and write volumes as TIFF stacks, and trust nothing (`data.tiff`).

What no reader can find is a flipped bit that still decodes: that needs a recorded hash (`volumen prepare --check`).
"""

import hashlib
import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from volumen.data.axes import AxesError
from volumen.data.spacing import Spacing, beside, of_tiff, tiff_options
from volumen.data.tiff import DamageError, decode, how_to_choose
from volumen.errors import UserError
from volumen.system.memory import does_not_fit
from volumen.system.names import one_line


class VolumeError(UserError):
    """A volume's file is unusable; the message names the file, what is wrong, and the fix."""


@dataclass(frozen=True)
class Volume:
    """A volume, what its file says of it, and the hash of that file."""

    array: NDArray[Any]
    """Numbers as stored, [Z, Y, X]."""
    sha256: str
    """Of the file's bytes, the very ones that were decoded."""
    spacing: Spacing | None = None
    """Size of a voxel, where the file or nnU-Net's JSON beside it says one."""


def read_volume(path: Path | str) -> NDArray[Any]:
    """A volume of integers [Z, Y, X] from a TIFF stack of any compression, verified whole.

    Raises:
        VolumeError: the file is missing, no TIFF, damaged, no stack of one channel, or holds floating-point numbers.
    """
    return load_volume(path).array


def load_volume(path: Path | str, kinds: str = "ui") -> Volume:
    """As `read_volume`, with the voxel size and the SHA-256 of the file, which is read once, so all is of one file.

    `kinds` are NumPy's letters of the kinds of numbers that are read; f for floating-point numbers.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise VolumeError(f"{path} is no file: expected a TIFF stack")
        if missing := does_not_fit(Path(path).stat().st_size):
            raise VolumeError(f"{path} does not fit into memory ({missing}): cut it into smaller volumes")
        content = Path(path).read_bytes()
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror}") from error
    array, spacing = decode_volume(content, str(path), kinds)
    return Volume(array, hashlib.sha256(content).hexdigest(), beside(Path(path)) or spacing)


def spacing_in_tiff(path: Path) -> Spacing | None:
    """The voxel size that a TIFF says, from its first page alone; None where it says none, or cannot be read."""
    try:
        with _quiet_tifffile(), tifffile.TiffFile(path) as file:
            return beside(path) or of_tiff(file.pages[0].aspage())
    except Exception:  # whoever reads the voxels says what is wrong
        return None


def encode_volume(volume: NDArray[Any], spacing: Spacing | None) -> bytes:
    """A volume [Z, Y, X] as a deflate-compressed TIFF stack that says the size of a voxel where it is known."""
    stream = io.BytesIO()
    options = tiff_options(spacing, volume)
    tifffile.imwrite(stream, volume, compression="zlib", photometric="minisblack", **options)
    return stream.getvalue()


def decode_volume(content: bytes, name: str, kinds: str = "ui") -> tuple[NDArray[Any], Spacing | None]:
    """As `load_volume`, of a file's bytes; `name` is what errors call it."""
    try:
        with _quiet_tifffile():
            return decode(content, kinds)
    except AxesError as error:
        raise VolumeError(f"{name} {error}: {how_to_choose(name, error.index)}") from error
    except DamageError as damage:
        raise VolumeError(one_line(f"{name} {damage}", 600)) from damage
    except Exception as error:
        # Codecs and the TIFF parser raise what they like on damaged bytes; all of it means the same to the user.
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise VolumeError(f"{name} is damaged ({one_line(what)}): copy or export it again") from error


class _Hush(logging.Filter):
    """Drops tifffile's remarks while this thread decodes: whatever matters of them is an error here."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in self.threads


_HUSH = _Hush()
logging.getLogger("tifffile").addFilter(_HUSH)


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    thread = threading.get_ident()
    _HUSH.threads.add(thread)
    try:
        yield
    finally:
        _HUSH.threads.discard(thread)

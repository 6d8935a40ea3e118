"""Read and write volumes as TIFF stacks, and trust nothing.

tifffile returns a *truncated* compressed stack without an error: it stops at the first page it cannot find and hands
out what it has. So the chain of pages is walked here independently, the number of pages is compared with what the file
says about itself, each strip or tile must lie inside the file, and each one is decoded and must have its full size.
What no reader can find is a flipped bit that still decodes: that needs a recorded hash (`volumen prepare --check`).

What the file says of itself counts: axes are z, y, x in the order that it names, channels and times are not slices,
and the size of a voxel is read, kept and written.
"""

import hashlib
import io
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.data.axes import AxesError
from volumen.data.spacing import Spacing, beside, of_tiff, tiff_options
from volumen.data.tiff_meaning import by_axes, declared_planes, how_to_choose
from volumen.data.tiff_pages import DamageError, page_offsets
from volumen.errors import UserError
from volumen.system.memory import does_not_fit
from volumen.system.names import one_line

_MOST_PER_BYTE = {1: 1, 5: 4096, 8: 1040, 32946: 1040, 32773: 128}
"""Bytes that a byte of the file can stand for, by TIFF's number of the compression: none, LZW, Deflate (two numbers),
PackBits. Others have no such bound."""


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

    Args:
        path: The file.
        kinds: NumPy's letters of the kinds of numbers that are read; f for floating-point numbers.
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
            return _decode(content, kinds)
    except AxesError as error:
        raise VolumeError(f"{name} {error}: {how_to_choose(name, error.index)}") from error
    except DamageError as damage:
        raise VolumeError(one_line(f"{name} {damage}", 600)) from damage
    except Exception as error:
        # Codecs and the TIFF parser raise what they like on damaged bytes; all of it means the same to the user.
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise VolumeError(f"{name} is damaged ({one_line(what)}): copy or export it again") from error


def _decode(content: bytes, kinds: str) -> tuple[NDArray[Any], Spacing | None]:
    pages_found = sum(1 for _ in page_offsets(content))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pages = [file.pages[number].aspage() for number in range(pages_found)]
        if len(file.pages) != pages_found:
            raise DamageError(f"is damaged: {pages_found} pages by the file's chain, tifffile finds {len(file.pages)}")
        first = pages[0]
        _check_pages(pages)
        declared = declared_planes(file)
        spacing = of_tiff(first)
        if pages_found == 1 and declared is not None and declared > 1 and first.imagedepth == 1:
            volume = _contiguous_planes(content, file, declared)
        else:
            _check_amount(pages, len(content))
            planes = pages_found * first.imagedepth
            if declared is not None and declared > planes:
                raise DamageError(
                    f"is truncated: it declares {declared} slices and has {planes}: copy or export it again"
                )
            if declared is not None and declared < planes:
                raise DamageError(f"holds more than one volume: {planes} pages, {declared} in the first: export one")
            stack = np.empty((pages_found, *first.shape), dtype=first.dtype)
            for number, page in enumerate(pages):
                _decode_page(content, page, number, stack[number])
            volume = stack.reshape(planes, *first.shape[-2:])
        volume, spacing = by_axes(volume, spacing, file)
        return _check_kind(volume, kinds), spacing


def _check_pages(pages: list[tifffile.TiffPage]) -> None:
    first = pages[0]
    if first.samplesperpixel != 1 or len(first.shape) != (2 if first.imagedepth == 1 else 3):
        colours = "is a picture in colours (RGB): it " if first.samplesperpixel > 2 else ""
        raise DamageError(
            f"{colours}has pages of shape {list(first.shape)}, expected one grey value per voxel: export it as a "
            "grey stack"
        )
    if first.dtype is None:
        raise DamageError("stores its values in a way that cannot be read: export it as uint8 or uint16")
    for number, page in enumerate(pages):
        if page.shape != first.shape or page.dtype != first.dtype:
            raise DamageError(
                f"is not one volume: page {number} is {page.dtype} {list(page.shape)}, page 0 is {first.dtype} "
                f"{list(first.shape)}: export it as one stack (a preview page counts as another one)"
            )


def _check_amount(pages: Sequence[tifffile.TiffPage], file_bytes: int) -> None:
    """Compare what the pages declare with what the file and the machine can hold."""
    first = pages[0]
    shape, dtype = [len(pages), *first.shape], np.dtype(first.dtype)
    holds = f"declares {dtype} {shape}"
    most = [_MOST_PER_BYTE.get(int(page.compression), math.inf) for page in pages]
    if math.prod(shape) * int(first.bitspersample) > 8 * max(most) * file_bytes:
        raise DamageError(f"is damaged: it {holds}, more than its {file_bytes} bytes can hold: export it again")
    if missing := does_not_fit(math.prod(shape) * dtype.itemsize):
        raise DamageError(f"{holds}, {missing}: cut it into smaller volumes, or export it again if it is damaged")
    for page in pages:
        part = [int(side) for side in page.chunks]
        if math.prod(part) > 4 * math.prod(page.shape) + 2**20:  # a tile may reach beyond the border, not far
            raise DamageError(f"is damaged: its pages {list(page.shape)} are in parts of {part}: export it again")


def _check_kind(volume: NDArray[Any], kinds: str) -> NDArray[Any]:
    if volume.dtype == np.bool_:
        volume = volume.view(np.uint8)
    if volume.dtype.kind not in kinds:
        strange = volume.size - int(np.count_nonzero(np.isfinite(volume)))
        also = f" ({strange} of them not finite)" if strange else ""
        raise DamageError(f"holds {volume.dtype} values{also}, expected integers: convert it to uint8 or uint16")
    if volume.ndim != 3 or min(volume.shape) < 2:
        raise DamageError(
            f"has shape {list(volume.shape)}, expected a volume of z, y, x: save all slices as one TIFF stack"
        )
    return volume if volume.dtype.isnative else volume.astype(volume.dtype.newbyteorder("="))


def _decode_page(content: bytes, page: tifffile.TiffPage, number: int, out: NDArray[Any]) -> None:
    expected = math.prod(page.chunked)
    offsets, sizes = page.dataoffsets, page.databytecounts
    if len(offsets) != expected or len(sizes) != expected:
        raise DamageError(
            f"is damaged: page {number} lists {len(offsets)} strips or tiles and needs {expected}: export it again"
        )
    target = out.reshape(page.shaped[1:])  # depth, length, width, samples
    for index, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        if size <= 0 or offset <= 0 or offset + size > len(content):
            raise DamageError(
                f"is truncated: page {number} needs bytes {offset} to {offset + size}, the file has {len(content)}: "
                "copy or export it again"
            )
        try:
            segment, place, _ = page.decode(
                content[offset : offset + size], index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
            )
        except Exception as error:
            raise DamageError(
                f"is damaged: page {number} does not decode ({type(error).__name__}: {one_line(str(error), 120)}): "
                "copy or export it again"
            ) from error
        _, z, y, x, _ = place
        if segment is None:
            raise DamageError(f"is damaged: page {number} has an empty strip or tile: export it again")
        depth, height, width, _ = segment.shape
        room = target[z : z + depth, y : y + height, x : x + width]
        room[...] = segment[: room.shape[0], : room.shape[1], : room.shape[2]]  # tiles reach beyond the border


def _contiguous_planes(content: bytes, file: tifffile.TiffFile, planes: int) -> NDArray[Any]:
    """A stack that has one page only and its other slices right behind it (ImageJ's and tifffile's way)."""
    page = file.pages[0].aspage()
    if page.compression != 1 or not page.is_contiguous:
        raise DamageError(f"is truncated: it declares {planes} slices and has 1: copy or export it again")
    dtype = np.dtype(page.dtype).newbyteorder(file.byteorder)
    count = planes * math.prod(page.shape)
    offset = page.dataoffsets[0]
    if offset + count * dtype.itemsize > len(content):
        raise DamageError(
            f"is truncated: {planes} slices need {offset + count * dtype.itemsize} bytes, the file has {len(content)}: "
            "copy or export it again"
        )
    return np.frombuffer(content, dtype=dtype, count=count, offset=offset).reshape(planes, *page.shape).copy()


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

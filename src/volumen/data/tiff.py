"""What is in a TIFF file, by its own layout and its own word, decoded and checked.

tifffile returns a *truncated* compressed stack without an error: it stops at the first page it cannot find and hands
out what it has. So the chain of pages is walked here independently (TIFF 6.0, and BigTIFF as libtiff defines it), the
number of pages is compared with what the file says about itself, each strip or tile must lie inside the file, and each
one is decoded and must have its full size. Axes are z, y, x in the order that the file names.
"""

import io
import json
import math
import re
import shlex
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.data.axes import letters_of, to_zyx, zyx_order
from volumen.data.spacing import Spacing, of_tiff
from volumen.system.memory import does_not_fit
from volumen.system.names import one_line

MOST_PAGES = 2**17
MOST_TAGS = 500  # of a page; usual are twenty
_MOST_PER_BYTE = {1: 1, 5: 4096, 8: 1040, 32946: 1040, 32773: 128}
"""Bytes that a byte of the file can stand for, by TIFF's number of the compression: none, LZW, Deflate (two numbers),
PackBits. Others have no such bound."""


class DamageError(Exception):
    """What is wrong with a file, worded to follow its name."""


def decode(content: bytes, kinds: str) -> tuple[NDArray[Any], Spacing | None]:
    """The numbers [Z, Y, X] of a file, of NumPy's `kinds`, and the size of a voxel.

    Raises:
        DamageError, AxesError: It holds no such volume.
        Exception: As codecs and tifffile raise it on damaged bytes.
    """
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


def page_offsets(content: bytes) -> Iterator[int]:
    """Offsets of all pages (image file directories), following the chain.

    Raises:
        DamageError: no TIFF, or the chain leaves the file or runs in a circle.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    version = struct.unpack(f"{order}H", content[2:4])[0] if order and len(content) >= 16 else None
    if version not in (42, 43):
        raise DamageError(f"is no TIFF file ({len(content)} bytes, begins with {content[:4]!r}): export it again")
    big = version == 43
    count_format, entry_size, link_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    count_size, link_size = struct.calcsize(f"<{count_format}"), struct.calcsize(f"<{link_format}")
    (offset,) = struct.unpack_from(f"{order}{link_format}", content, 8 if big else 4)
    seen: set[int] = set()
    while offset != 0:
        if offset in seen:
            raise DamageError("is damaged: its pages run in a circle: export it again")
        seen.add(offset)
        if len(seen) > MOST_PAGES:
            raise DamageError(f"has more than {MOST_PAGES} pages, which no volume has: export it again")
        end, entries = len(content) + 1, 0
        if offset + count_size <= len(content):
            (entries,) = struct.unpack_from(f"{order}{count_format}", content, offset)
            end = offset + count_size + entries * entry_size + link_size
        if end > len(content):
            raise DamageError(
                f"is truncated after {len(seen) - 1} pages: the next one should be at byte {offset}, the file has "
                f"{len(content)}: copy or export it again"
            )
        if entries > MOST_TAGS:
            raise DamageError(f"is damaged: page {len(seen) - 1} has {entries} tags, usual are twenty: export it again")
        yield offset
        (offset,) = struct.unpack_from(f"{order}{link_format}", content, end - link_size)
    if not seen:
        raise DamageError("is a TIFF file without pages: export it again")


def declared_planes(file: tifffile.TiffFile) -> int | None:
    """How many slices the file says it has, in whichever of the usual ways; None where it does not say.

    DamageError where it is one of several files, or holds several images.
    """
    text = file.pages[0].aspage().description or ""
    if text.startswith("{"):
        shape = json.loads(text).get("shape")
        if shape is not None:
            voxels = math.prod(int(side) for side in shape)
            return -(-voxels // max(1, math.prod(file.pages[0].aspage().shape[-2:])))
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d+)", text, flags=re.MULTILINE)
        return int(found.group(1)) if found else None
    if "<OME" in text:
        files = len(set(re.findall(r'\bFileName="([^"]*)"', text))) + ("BinaryOnly" in text)
        images = len(re.findall(r"<(?:\w+:)?Image\b", text))
        if files > 1 or images > 1:
            what = f"is one of {files} files of an OME-TIFF" if files > 1 else f"holds {images} images"
            raise DamageError(f"{what}, expected one volume: save it as one file, in ImageJ with File > Save As > Tiff")
        sizes = [re.findall(rf'\bSize{axis}="(\d+)"', text) for axis in "ZCT"]
        return math.prod(max(map(int, found)) for found in sizes if found)
    return None


def by_axes(
    volume: NDArray[Any], spacing: Spacing | None, file: tifffile.TiffFile
) -> tuple[NDArray[Any], Spacing | None]:
    """Planes as they lie in the file [N, rows, columns] as the volume [Z, Y, X] that it says they are; its spacing.

    AxesError for other axes, DamageError for several images, or another number of voxels than it says.
    """
    series = file.series
    if len(series) > 1:
        raise DamageError(f"holds {len(series)} images, expected one volume: save one of them as a file of its own")
    letters, shape = letters_of(series[0].axes), series[0].shape
    if math.prod(shape) != volume.size:
        raise DamageError(f"says that it is {list(shape)}, and its pages are {list(volume.shape)}: export it again")
    order = zyx_order(letters, shape) if len(shape) >= 3 else ()
    places = [page.index for page in series[0] if page is not None] if series[0].kind == "ome" else []
    if len(places) == len(volume) and places != list(
        range(len(volume))
    ):  # OME-TIFF may say that the planes lie in another order
        volume = volume[places]
    if len(shape) >= 3:
        volume = to_zyx(volume.reshape(shape), letters)
    if len(order) == 3 and spacing is not None and list(order) != sorted(order):
        stored = dict(zip(sorted(order), spacing.sides, strict=True))
        spacing = Spacing(stored[order[0]], stored[order[1]], stored[order[2]], spacing.unit)
    return np.ascontiguousarray(volume), spacing


def how_to_choose(name: str, index: str) -> str:
    """The way from a file that is no volume to one that is; `index` is an `AxesError`'s."""
    if not index:
        return (
            "the slices of a volume are its axis z: set that in the program that wrote it (ImageJ: Image > Properties)"
        )
    read, axes = f"t.imread({json.dumps(name)})", '{"axes": "ZYX"}'
    program = f'import tifffile as t; t.imwrite("one.tif", {read}{index}, metadata={axes})'
    return f"choose one volume of it, in ImageJ with Image > Duplicate, or with: python -c {shlex.quote(program)}"

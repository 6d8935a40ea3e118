"""The zip archive around a bundle, believed in nothing.

A zip says everything twice, in front of each member and in a directory at its end, and readers differ in whom they
believe. Here only the archive that `write_bundle` writes is read: members one behind the other from the first byte to
the directory, uncompressed, said the same twice, and nothing before, between or after them. Then no size can exceed
the file's, and everything is known before a member is read.
"""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from volumen.system.names import shown

MOST_MEMBERS = 257
LARGEST_DIRECTORY = 2**20
_END, _END_64 = 22, 98  # bytes of the directory's end, and of that with the two records of large files before it
_LOCAL = struct.Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, checksum, sizes, lengths
_UNKNOWN = 0xFFFFFFFF


class ContainerError(Exception):
    """An archive is not as a bundle's is; the message follows the file's name."""


@dataclass(frozen=True)
class Span:
    """Where a member's content lies in the file."""

    start: int
    size: int


def spans_of(stream: BinaryIO, is_expected: Callable[[str], bool]) -> dict[str, Span]:
    """Where the members of an archive lie.

    Args:
        stream: The file, open for reading.
        is_expected: Whether a name can be one of the members'.

    Raises:
        ContainerError: The archive is anything but uncompressed members, one behind the other.
    """
    end = stream.seek(0, 2)
    _check_directory(stream, end)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries, comment, directory = archive.infolist(), archive.comment, archive.start_dir
    except Exception as error:  # zipfile raises what it likes on damaged bytes
        raise ContainerError(f"is no zip archive, or a damaged one ({type(error).__name__}: {error!s:.100})") from error
    if comment or not entries or len(entries) > MOST_MEMBERS:
        raise ContainerError(
            f"holds {len(entries)} members and a comment of {len(comment)} bytes, expected 2 to 257, 0"
        )
    spans: dict[str, Span] = {}
    place = 0
    for entry in entries:
        if not is_expected(entry.filename) or entry.filename in spans:
            twice = "a second time" if entry.filename in spans else "which no bundle does"
            raise ContainerError(f"holds {shown(entry.filename)}, {twice}")
        spans[entry.filename] = span = _span(stream, entry, place, directory)
        place = span.start + span.size
    if place != directory:
        raise ContainerError(f"has {directory - place} bytes between its members and its directory, expected none")
    return spans


def read_span(stream: BinaryIO, span: Span) -> bytes:
    """A member's content.

    Raises:
        ContainerError: The file has become shorter.
    """
    stream.seek(span.start)
    content = stream.read(span.size)
    if len(content) != span.size:
        raise ContainerError(f"ended while it was read, at byte {span.start + len(content)}")
    return content


def _check_directory(stream: BinaryIO, end: int) -> None:
    """The end of an archive, and that its directory is no larger than a few members need."""
    stream.seek(max(0, end - _END_64))
    tail = stream.read(_END_64)
    last = tail[-_END:]
    if len(last) < _END or last[:4] != b"PK\x05\x06" or last[-2:] != b"\0\0":
        raise ContainerError("does not end as a zip archive does: it is none, or cut off, or has something behind it")
    (size,) = struct.unpack("<L", last[12:16])
    if tail[-_END - 20 : -_END][:4] == b"PK\x06\x07" and tail[:4] == b"PK\x06\x06" and len(tail) == _END_64:
        (size,) = struct.unpack("<Q", tail[40:48])
    if size > min(LARGEST_DIRECTORY, end):
        raise ContainerError(f"has a directory of {size} bytes, at most {LARGEST_DIRECTORY} are expected")


def _span(stream: BinaryIO, entry: zipfile.ZipInfo, place: int, directory: int) -> Span:
    """Where a member's content lies, from its header at `place`, which has to say what the directory says."""
    name = shown(entry.filename)
    if entry.flag_bits & 1:
        raise ContainerError(f"is encrypted ({name})")
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ContainerError(f"is compressed ({name})")
    if entry.header_offset != place:
        raise ContainerError(f"has {name} at byte {entry.header_offset}, expected {place}")
    stream.seek(place)
    head = stream.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise ContainerError(f"ends before {name}")
    signature, _, flags, method, _, _, check, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(head)
    named, extra = stream.read(name_bytes), stream.read(extra_bytes)
    if packed == size == _UNKNOWN and len(extra) == 20 and extra[:4] == b"\x01\0\x10\0":
        size, packed = struct.unpack("<2Q", extra[4:])
    said = (signature, flags, method, check, packed, size, named)
    wanted = (b"PK\x03\x04", entry.flag_bits, entry.compress_type, entry.CRC, entry.file_size, entry.file_size)
    if said != (*wanted, entry.filename.encode()):
        raise ContainerError(f"says of {name} one thing in front of it and another in its directory")
    start = place + _LOCAL.size + name_bytes + extra_bytes
    if start + size > directory:
        raise ContainerError(f"has {name} of {size} bytes at byte {start}, and {directory} bytes before its directory")
    return Span(start, size)

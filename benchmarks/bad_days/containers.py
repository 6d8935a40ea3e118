"""Damages to what is inside of zips (NPZ, checkpoints, bundles, submissions) and in the headers of arrays and TIFF."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from numpy.random import Generator

HOSTILE = ("../../victim", "../victim.tif", "/victim.npy", "", "a\nb", "x" * 3000)


class Target(Protocol):
    """A file to be damaged, as in `damages`."""

    @property
    def file(self) -> Path:
        """Where it is."""

    def content(self) -> bytes:
        """What is in it before."""

    def write(self, content: bytes) -> None:
        """Put something else in its place."""


def _members(target: Target) -> list[tuple[str, bytes]]:
    content = target.content()
    if content[:2] != b"PK":
        return []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _write(target: Target, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bool:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that are there twice
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name or "empty"), content, compress_type=compression)
    target.write(stream.getvalue())
    return True


def member_renamed(target: Target, random: Generator) -> bool:
    """A member of a zip has a hostile name."""
    members = _members(target)
    if not members:
        return False
    number = int(random.integers(len(members)))
    members[number] = (HOSTILE[random.integers(len(HOSTILE))], members[number][1])
    return _write(target, members)


def member_removed(target: Target, random: Generator) -> bool:
    """A member of a zip is missing."""
    members = _members(target)
    if not members:
        return False
    del members[random.integers(len(members))]
    return _write(target, members)


def member_doubled(target: Target, random: Generator) -> bool:
    """A member of a zip is there twice, the second time with other bytes."""
    members = _members(target)
    if not members:
        return False
    name, content = members[random.integers(len(members))]
    return _write(target, [*members, (name, _flipped(content, random))])


def member_changed(target: Target, random: Generator) -> bool:
    """A member of a zip has other bytes, and a CRC that fits them."""
    members = _members(target)
    if not members:
        return False
    number = int(random.integers(len(members)))
    members[number] = (members[number][0], _flipped(members[number][1], random))
    return _write(target, members)


def member_endless(target: Target, random: Generator) -> bool:
    """A member of a zip unpacks to very much."""
    members = _members(target)
    if not members:
        return False
    number = int(random.integers(len(members)))
    members[number] = (members[number][0], members[number][1] + bytes(2**28))
    return _write(target, members, zipfile.ZIP_DEFLATED)


def _flipped(content: bytes, random: Generator) -> bytes:
    if not content:
        return b"\1"
    changed = bytearray(content)
    changed[random.integers(len(changed))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def array_header(target: Target, random: Generator) -> bool:
    """An NPY file says that it holds 10^18 voxels, a negative side, or objects that would have to be unpickled."""
    content = target.content()
    if content[:6] != b"\x93NUMPY":
        return False
    (length,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    shape = header[header.index("(") : header.index(")") + 1]
    kind = header[header.index("'descr': ") + 9 :].split(",")[0]
    choice = int(random.integers(5))
    if choice < 3:
        header = header.replace(shape, ("(1000000, 1000000, 1000000)", "(-1, 32, 32)", "(32,)")[choice])
    else:
        header = header.replace(kind, ("'|O'", "'<f8'")[choice - 3])
    padded = header.rstrip() + " " * 64
    target.write(content[:8] + struct.pack("<H", len(padded) + 1) + padded.encode() + b"\n" + data)
    return True


_TAGS = {256: "width", 257: "length", 258: "bits", 259: "compression", 273: "offsets", 278: "rows", 279: "counts"}


def image_header(target: Target, random: Generator) -> bool:
    """A tag of a TIFF page says something else, or the pages go round in a circle."""
    content = bytearray(target.content())
    if content[:4] != b"II*\0":
        return False
    (start,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[start : start + 2])
    entries = range(start + 2, start + 2 + 12 * count, 12)
    places = [place for place in entries if struct.unpack("<H", content[place : place + 2])[0] in _TAGS]
    choice = int(random.integers(len(places) + 1))
    if choice == len(places):
        end = start + 2 + 12 * count
        content[end : end + 4] = struct.pack("<I", start)
    else:
        value = (2**31 - 1, 0, 2**16, 1)[random.integers(4)]
        place = places[choice]
        content[place + 2 : place + 4] = struct.pack("<H", 4)  # LONG
        content[place + 8 : place + 12] = struct.pack("<I", value)
    target.write(bytes(content))
    return True


def tensor_header(target: Target, random: Generator) -> bool:
    """A safetensors member of a zip says another shape, other places, or a header that is longer than the file."""
    members = _members(target)
    numbers = [number for number, (name, _) in enumerate(members) if name.endswith(".safetensors")]
    if not numbers:
        return False
    number = numbers[random.integers(len(numbers))]
    name, content = members[number]
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length]
    choice = int(random.integers(3))
    if choice == 0:
        made = struct.pack("<Q", 2**62) + content[8:]
    else:
        new = header.replace(b'"shape":[', (b"", b'"shape":[1000000000000000000,', b'"shape":[-1,')[choice], 1)
        made = struct.pack("<Q", len(new)) + new + content[8 + length :]
    members[number] = (name, made)
    return _write(target, members)


CONTAINERS: dict[str, Callable[[Target, Generator], bool]] = {
    "member renamed": member_renamed,
    "member removed": member_removed,
    "member doubled": member_doubled,
    "member changed": member_changed,
    "member endless": member_endless,
    "array header": array_header,
    "image header": image_header,
    "tensor header": tensor_header,
}

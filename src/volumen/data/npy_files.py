"""NPY and NPZ files, read with what they declare compared with what they hold before anything is allocated."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.volumes import VolumeError
from volumen.system.memory import amount, does_not_fit
from volumen.system.names import one_line, shown, some

KINDS = "biuf"
"""What a mask, a label or a probability can be: truth values, whole numbers, numbers."""
MOST_AXES = 8
_COMPRESSIONS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1040}  # and how many times as large the content can be
_ENCRYPTED = 0x1
_LISTED = 20


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an NPY file; what NumPy raises on a damaged header passes.

    Raises:
        VolumeError: It declares another amount of data than it holds, holds no numbers, or does not fit into memory.
    """
    with open(path, "rb") as stream:
        return _read(stream, path.stat().st_size, str(path))


def read_npz(path: Path, name: str | None) -> NDArray[Any]:
    """One array of an NPZ file; `name` is not needed where it holds one. What `zipfile` raises on damage passes.

    Raises:
        VolumeError: As `read_npy`; or it has no such array, or one that is encrypted, or compressed unlike NumPy's.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise VolumeError(f"{path} is damaged: it holds two arrays of one name: write it again")
        chosen = chosen_name(path, sorted(members), name)
        member = members[chosen]
        label = f"{path}[{shown(chosen)}]"
        if member.flag_bits & _ENCRYPTED:
            raise VolumeError(f"{label} is encrypted: save it without a password")
        most = _COMPRESSIONS.get(member.compress_type)
        if most is None:
            raise VolumeError(f"{label} is compressed in a way that NumPy does not write: save it with numpy.savez")
        if member.compress_size > size or member.file_size > most * member.compress_size + 1000:
            raise VolumeError(
                f"{label} is damaged: {amount(member.compress_size)} in a file of {amount(size)} are said to hold "
                f"{amount(member.file_size)}: write it again"
            )
        with archive.open(member) as stream:
            return _read(stream, member.file_size, label)


def chosen_name(path: Path, names: Sequence[str], name: str | None) -> str:
    """The array that is asked for, or the only one; VolumeError where there are several, or none of that name."""
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
        what = f"no array {shown(name)}" if name is not None else "several arrays" if names else "no array"
        raise VolumeError(f"{path} holds {what}: name one of {some(names, _LISTED)}")
    return name


def checked_kind(label: str, shape: Sequence[int], dtype: Any) -> None:
    """Refuse what is no volume of numbers, with a VolumeError that names what it is."""
    kind = np.dtype(dtype)
    if kind.kind not in KINDS or kind.itemsize > 8 or not shape or len(shape) > MOST_AXES or min(shape) < 1:
        raise VolumeError(
            f"{label} holds {one_line(str(kind), 60)} {list(shape)[:MOST_AXES]}, expected numbers [Z, Y, X]: save it "
            "again as such"
        )


def _read(stream: IO[bytes], size: int, label: str) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise VolumeError(f"{label} holds named fields, expected numbers [Z, Y, X]: save it again as such")
    shape, _, dtype = readers[version](stream)
    checked_kind(label, shape, dtype)
    start, declared = stream.tell(), math.prod(shape) * dtype.itemsize
    content = f"{dtype} {list(shape)}, {declared} bytes"
    if start + declared != size:
        held = max(0, size - start)
        raise VolumeError(f"{label} is damaged: it declares {content}, and holds {held} bytes: write it again")
    if missing := does_not_fit(declared):
        raise VolumeError(f"{label} declares {content}: {missing}: cut it into smaller volumes")
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    stream.read(1)  # at the end of a zip's member its checksum is compared
    return array

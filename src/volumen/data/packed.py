"""Packed arrays: NumPy files that are read piece by piece, and believed only when all of a file is what was packed.

A file is hashed once per process, before the first number of it counts; afterwards it is believed as long as the system
says that it is the same file (device, inode, size, times). Pieces are read, not mapped: a file that is cut short under
a running training is an error with its name, where a mapped one ends the process by a signal.
"""

import hashlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError

Region = tuple[slice, slice, slice]
"""A box of a volume: three slices without step, z y x."""

_HEADER_BYTES = 4096
_CHUNK = 2**24
_WASTE = 16  # where reading whole rows reads this many times what is wanted, rows are read one by one
Signature = tuple[int, int, int, int, int]
_verified: dict[tuple[str, str], Signature] = {}  # of this process, by path and hash


class DamagedDataError(UserError):
    """A file of a prepared data set is not what `prepare` wrote; the message names it."""


@dataclass(frozen=True)
class Packed:
    """A packed array's file: its size in bytes and its SHA-256."""

    size: int
    sha256: str


class PackedArray:
    """An array in a file; indexing reads the piece, `numpy.asarray` reads all of it.

    Args:
        path: The NumPy file.
        packed: Its size and hash.
        shape: As recorded; None takes the file's own.
        dtype: As recorded.
        trusting: Do not verify; somebody else does so meanwhile (`Verification`).

    Raises:
        DamagedDataError: Now or at a reading: the file is gone, shorter, or not what was packed.
    """

    def __init__(
        self, path: Path, packed: Packed, shape: Sequence[int] | None, dtype: str, *, trusting: bool = False
    ) -> None:
        self.path, self._packed, self._trusting = path, packed, trusting
        self.dtype = np.dtype(dtype)
        with _opened(path) as file:
            self.shape, self._offset = _header(path, file, self.dtype, shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with _opened(self.path) as file:
            before, content = _signature(file), file.read()
        if len(content) != self._packed.size:
            raise DamagedDataError(_shorter(self.path, self._packed.size))
        if not self._trusting and _verified.get(self._key) != before:
            self._compare(hashlib.sha256(content).hexdigest(), before)
        array: NDArray[Any] = np.frombuffer(content, self.dtype, offset=self._offset).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)

    def __getitem__(self, index: Any) -> Any:
        box, inner = _box(index, self.shape)
        with _opened(self.path) as file:
            if not self._trusting:
                self._verify(file)
            return self._cut(file, box)[inner]

    def verify(self) -> Signature:
        """Hash the file unless this process has done so already; its signature, or DamagedDataError."""
        with _opened(self.path) as file:
            return self._verify(file)

    @property
    def _key(self) -> tuple[str, str]:
        return str(self.path), self._packed.sha256

    def _verify(self, file: io.FileIO) -> Signature:
        before = _signature(file)
        if _verified.get(self._key) == before:
            return before
        digest = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if _signature(file) != before:
            raise DamagedDataError(f"{self.path} changes while it is read: wait until whatever writes it has ended")
        self._compare(digest.hexdigest(), before)
        return before

    def _compare(self, found: str, signature: Signature) -> None:
        if found != self._packed.sha256:
            raise DamagedDataError(
                f"{self.path} is damaged: it is not what `volumen prepare` wrote (SHA-256 {found[:12]}, recorded "
                f"{self._packed.sha256[:12]}): run `volumen prepare` again, which packs it anew"
            )
        _verified[self._key] = signature

    def _cut(self, file: io.FileIO, box: tuple[slice, ...]) -> NDArray[Any]:
        """A box of the array, each slice with a step of 1."""
        lengths = [part.stop - part.start for part in box]
        out = np.empty(lengths, self.dtype)
        if out.size == 0:
            return out
        if len(box) != 3:
            if out.shape[1:] != self.shape[1:]:
                raise ValueError(f"only volumes are cut along their later axes, not arrays of {self.ndim} axes")
            self._read_into(file, out, box[0].start * int(np.prod(self.shape[1:], dtype=np.int64)))
            return out
        (z, y, x), (_, height, width) = box, self.shape
        rows = np.empty((lengths[1], width), self.dtype) if lengths[2] < width <= _WASTE * lengths[2] else None
        for plane, number in zip(out, range(z.start, z.stop), strict=True):
            first = (number * height + y.start) * width
            if lengths[2] == width:
                self._read_into(file, plane, first)
            elif rows is not None:
                self._read_into(file, rows, first)
                plane[...] = rows[:, x]
            else:
                for row, line in enumerate(plane):
                    self._read_into(file, line, first + row * width + x.start)
        return out

    def _read_into(self, file: io.FileIO, out: NDArray[Any], first: int) -> None:
        view = memoryview(out).cast("B")  # type: ignore[arg-type]
        file.seek(self._offset + first * self.dtype.itemsize)
        done = 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise DamagedDataError(_shorter(self.path, self._packed.size))
            done += count


class Verification:
    """Verifies the packed files of a training beside it, in a thread, at the speed of the disk.

    `signature_of` verifies one.
    """

    def __init__(
        self, arrays: Sequence[PackedArray], signature_of: Callable[[PackedArray], Signature] = PackedArray.verify
    ) -> None:
        self._arrays, self._signature_of = tuple(arrays), signature_of
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verification of the data", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End after the file in hand."""
        self._stop.set()

    def raise_if_damaged(self) -> None:
        """Raise the DamagedDataError that has been found so far; never waits."""
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        """Whether every file has been verified."""
        return not self._thread.is_alive() and self._error is None and not self._stop.is_set()

    def confirm(self) -> None:
        """Wait until every file has been verified; DamagedDataError where one is damaged, or has changed since."""
        self._thread.join()
        self.raise_if_damaged()
        for array in self._arrays:
            self._signature_of(array)

    def _run(self) -> None:
        for array in self._arrays:
            if self._stop.is_set():
                return
            try:
                self._signature_of(array)
            except Exception as error:
                self._error = error if isinstance(error, DamagedDataError) else DamagedDataError(str(error))
                return


Volume: TypeAlias = PackedArray | NDArray[Any]
"""An array in a file or in memory."""


def _opened(path: Path) -> io.FileIO:
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise DamagedDataError(
            f"{path} cannot be read ({error.strerror}): was the data set moved or deleted? put it back, or run "
            "`volumen prepare` again"
        ) from error


def _signature(file: io.FileIO) -> Signature:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _shorter(path: Path, size: int) -> str:
    return f"{path} was cut short: {size} bytes were packed: run `volumen prepare` again, which packs it anew"


def _header(
    path: Path, file: io.FileIO, dtype: np.dtype[Any], shape: Sequence[int] | None
) -> tuple[tuple[int, ...], int]:
    """Shape, and where the values begin; refuses a file that holds anything but what the manifest says."""
    stream = io.BytesIO(file.read(_HEADER_BYTES))
    size = os.fstat(file.fileno()).st_size
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of NumPy's format")
        found, fortran, kind = np.lib.format.read_array_header_1_0(stream)
        expected = stream.tell() + int(np.prod(found, dtype=object)) * kind.itemsize
        if fortran or size != expected:
            raise ValueError(f"it has {size} bytes, {expected} belong to {kind} {list(found)}")
    except Exception as error:  # the header is evaluated as a Python literal: damage raises what it likes
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedDataError(f"{path} is damaged ({what:.120}): run `volumen prepare` again") from error
    if kind != dtype or (shape is not None and tuple(found) != tuple(shape)):
        raise DamagedDataError(
            f"{path} holds {kind} {list(found)}, the manifest says {dtype} {list(shape or ())}: run `volumen prepare` "
            "again"
        )
    return tuple(found), stream.tell()


def _box(index: Any, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], Any]:
    """The box of the array that an index needs, and the index into that box."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(not isinstance(part, slice | int | np.integer) for part in parts):
        parts, spare = (), index  # a mask, a list, an ellipsis: all of it
        return tuple(slice(0, side) for side in shape), spare
    box: list[slice] = []
    inner: list[Any] = []
    for part, side in zip(parts, shape, strict=False):
        if isinstance(part, slice):
            start, stop, step = part.indices(side)
            if step != 1:
                box.append(slice(0, side))
                inner.append(part)
                continue
            box.append(slice(start, max(start, stop)))
            inner.append(slice(None))
        else:
            number = int(part)
            if not -side <= number < side:
                raise IndexError(f"index {number} is out of range for an axis of {side}")
            box.append(slice(number % side, number % side + 1))
            inner.append(0)
    box += [slice(0, side) for side in shape[len(parts) :]]
    return tuple(box), tuple(inner)

"""TensorBoard's event files: frames (length, check, data, check) of events in protobuf's wire format.

Written here, since it takes few lines and nothing has to be installed for it. The format is TensorFlow's `TFRecord`
with `tensorflow/core/util/event.proto`, `framework/summary.proto` and `framework/tensor.proto`.
"""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import google_crc32c

VERSION = "brain.Event:2"
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MASK_DELTA = 0xA282EAD8
_STRING_TYPE = 7
_STARTED = 1
_RGB = 3


class EventFile:
    """A new event file of a folder; one that was begun later comes later by its name, too."""

    def __init__(self, folder: Path, step: int) -> None:
        """Make it.

        Args:
            folder: Made where it is missing.
            step: Steps that a run has made. Where there are files already, readers pass over what those hold beyond.
        """
        folder.mkdir(parents=True, exist_ok=True)
        earlier = len(list(folder.glob("events.out.tfevents.*")))
        self.path = folder / f"events.out.tfevents.{time.time():010.0f}.{earlier:04d}.volumen"
        self._file = self.path.open("xb", buffering=0)
        self._write(_string(3, VERSION))
        if earlier:
            self._write(_varint_field(2, step + 1) + _message(7, _varint_field(1, _STARTED)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by tag, as 32 bits."""
        self._summary(step, b"".join(_message(1, _string(1, tag) + _float(2, values[tag])) for tag in values))

    def image(self, step: int, tag: str, png: bytes, height: int, width: int) -> None:
        """An RGB picture as PNG."""
        sizes = _varint_field(1, height) + _varint_field(2, width) + _varint_field(3, _RGB)
        self._summary(step, _message(1, _string(1, tag) + _message(4, sizes + _bytes(4, png))))

    def text(self, step: int, tag: str, text: str) -> None:
        """Markdown, for the tab of texts."""
        shape = _message(2, _message(2, _varint_field(1, 1)))  # [1]
        tensor = _message(8, _varint_field(1, _STRING_TYPE) + shape + _string(8, text))
        metadata = _message(9, _message(1, _string(1, "text")))
        self._summary(step, _message(1, _string(1, tag) + tensor + metadata))

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    def _summary(self, step: int, values: bytes) -> None:
        self._write(_varint_field(2, step) + _message(5, values))

    def _write(self, event: bytes) -> None:
        """Append a frame; one that does not fit is taken back, and the OSError passes."""
        data = struct.pack("<Bd", 1 << 3 | _EIGHT_BYTES, time.time()) + event
        length = struct.pack("<Q", len(data))
        frame = length + _masked_check(length) + data + _masked_check(data)
        end = self._file.tell()
        try:
            written = self._file.write(frame)
            if written != len(frame):
                raise OSError(28, f"{written} of {len(frame)} bytes fitted", str(self.path))
        except OSError:
            os.ftruncate(self._file.fileno(), end)
            self._file.seek(end)
            raise


def _masked_check(data: bytes) -> bytes:
    check: int = google_crc32c.value(data)
    return struct.pack("<I", ((check >> 15 | check << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _float(number: int, value: float) -> bytes:
    """As 32 bits; what is too large for them is infinite."""
    try:
        return _varint(number << 3 | _FOUR_BYTES) + struct.pack("<f", value)
    except OverflowError:
        return _float(number, float("inf") if value > 0 else float("-inf"))


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _string(number: int, value: str) -> bytes:
    return _bytes(number, value.encode("utf-8", "replace"))


def _message(number: int, value: bytes) -> bytes:
    return _bytes(number, value)

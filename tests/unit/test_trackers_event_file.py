"""Event files are read by TensorBoard's own reader as they were meant, whatever stands in them."""

import errno
import math
import struct
from contextlib import closing, suppress

import google_crc32c
import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.data.pictures import encode_png
from volumen.trackers.event_file import EventFile

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

TAGS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30)
NUMBERS = st.floats(width=32, allow_nan=False)
POINTS = st.lists(st.tuples(st.integers(0, 2**40), st.dictionaries(TAGS, NUMBERS, min_size=1)), max_size=8)


def read(folder):
    """What TensorBoard reads in a folder."""
    found = accumulators.EventAccumulator(
        str(folder), size_guidance=dict.fromkeys(accumulators.DEFAULT_SIZE_GUIDANCE, 0)
    )
    found.Reload()
    return found


def scalars(folder):
    """Steps and values by tag."""
    found = read(folder)
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@given(POINTS)
def test_scalars_come_back_bit_by_bit(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("events")
    file = EventFile(folder, 0)
    expected = {}
    for step, values in points:
        file.scalars(step, values)
        for tag, value in values.items():
            expected.setdefault(tag, []).append((step, value))
    file.close()
    assert scalars(folder) == expected


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=3000), st.integers(1, 40), st.integers(1, 40))
def test_texts_and_pictures_come_back(tmp_path_factory, text, height, width):
    folder = tmp_path_factory.mktemp("events")
    picture = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    file = EventFile(folder, 0)
    file.text(3, "said", text)
    file.image(4, "seen", encode_png(picture), height, width)
    file.close()
    found = read(folder)
    (seen,) = found.Images("seen")
    assert (seen.step, seen.height, seen.width) == (4, height, width)
    np.testing.assert_array_equal(imagecodecs.png_decode(seen.encoded_image_string), picture)
    (said,) = found.Tensors("said")
    assert said.step == 3
    assert said.tensor_proto.string_val == [text.encode()]
    assert "text" in {found.SummaryMetadata("said").plugin_data.plugin_name}


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_resumed_run_takes_the_place_of_what_came_after_its_checkpoint(tmp_path_factory, crashed, saved):
    folder = tmp_path_factory.mktemp("events")
    first = EventFile(folder, 0)
    for step in range(1, crashed + 1):
        first.scalars(step, {"loss": 1.0})
    second = EventFile(folder, min(saved, crashed))
    second.scalars(crashed + 5, {"loss": 2.0})
    assert first.path.name < second.path.name
    first.close()
    second.close()
    kept = [(step, 1.0) for step in range(1, min(saved, crashed) + 1)]
    assert scalars(folder)["loss"] == [*kept, (crashed + 5, 2.0)]


def test_numbers_beyond_32_bits_are_infinite(tmp_path):
    with closing(EventFile(tmp_path, 0)) as file:
        file.scalars(1, {"up": 1e300, "down": -1e300})
    assert scalars(tmp_path) == {"up": [(1, math.inf)], "down": [(1, -math.inf)]}


def test_every_frame_carries_its_checks(tmp_path):
    file = EventFile(tmp_path, 0)
    file.text(0, "a", "b" * 999)
    file.close()
    data, frames = file.path.read_bytes(), 0
    while data:
        (length,) = struct.unpack_from("<Q", data)
        for part, check in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            value = google_crc32c.value(part)
            masked = ((value >> 15 | value << 17) + 0xA282EAD8) % 2**32
            assert check == struct.pack("<I", masked)
        data, frames = data[16 + length :], frames + 1
    assert frames == 2


class Filling:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        """As much as fits."""
        if self._room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self._room])
        self._room -= written
        return written


@given(st.integers(0, 400))
def test_a_full_disk_tears_no_record(tmp_path_factory, room):
    folder = tmp_path_factory.mktemp("events")
    file = EventFile(folder, 0)
    whole = file._file
    file._file = Filling(whole, room)
    fitted = []
    for step in range(20):
        with suppress(OSError):
            file.scalars(step, {"loss": float(step)})
            fitted.append((step, float(step)))
    assert len(fitted) < 20
    file._file = whole
    file.scalars(99, {"loss": 99.0})
    file.close()
    assert scalars(folder)["loss"] == [*fitted, (99, 99.0)]

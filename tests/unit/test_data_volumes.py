"""Reading volumes: every way to store one gives the same voxels, and no damage passes unnoticed."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from volumen.data.volumes import VolumeError, load_volume, read_volume
from volumen.files import sha256_of

WAYS = {
    "plain": {},
    "truncated series": {"truncate": True},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "tiles": {"compression": "lzw", "tile": (16, 16)},
    "strips": {"compression": "lzw", "rowsperstrip": 7},
    "imagej": {"imagej": True},
    "imagej deflate": {"imagej": True, "compression": "zlib"},
    "ome": {"ome": True, "compression": "zlib"},
    "bigtiff": {"bigtiff": True, "compression": "zlib"},
    "big-endian": {"byteorder": ">", "compression": "zlib"},
    "volumetric tiles": {"volumetric": True, "tile": (4, 16, 16), "compression": "zlib"},
    "no metadata": {"metadata": None, "compression": "zlib"},
}


def a_volume(dtype: type = np.uint8) -> np.ndarray:
    steps = np.random.default_rng(0).integers(-3, 4, size=(11, 40, 36))
    return (np.cumsum(steps, axis=2) % 200).astype(dtype) * (1 if dtype is np.uint8 else 300)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_storing_gives_the_same_voxels(tmp_path: Path, way: str, dtype: type) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, a_volume(dtype), **WAYS[way])
    found = load_volume(path)
    np.testing.assert_array_equal(found.array, a_volume(dtype))
    assert found.array.dtype == dtype
    assert found.array.dtype.isnative
    assert found.sha256 == sha256_of(path)


@pytest.mark.parametrize("way", WAYS)
def test_a_stack_cut_anywhere_is_refused(tmp_path: Path, way: str) -> None:
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    tifffile.imwrite(whole, a_volume(), **WAYS[way])
    content = whole.read_bytes()
    positions = random.Random(way)
    accepted = []
    for length in {positions.randrange(len(content)) for _ in range(20)} | {0, 1, 8, len(content) // 2}:
        cut.write_bytes(content[:length])
        try:
            found = read_volume(cut)
        except VolumeError:
            pass
        else:  # only bytes that hold no voxel may be lost
            if found.shape != a_volume().shape or not np.array_equal(found, a_volume()):
                accepted.append(length)
    assert accepted == []


def test_tifffile_itself_hands_out_a_truncated_stack(tmp_path: Path) -> None:
    """The reason for this module; should it change, the module can shrink."""
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, a_volume(), compression="lzw")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        found = tifffile.imread(path)
    except Exception:
        pytest.skip("this version of tifffile refuses it")
    assert found.size < a_volume().size
    with pytest.raises(VolumeError, match="truncated"):
        read_volume(path)


@pytest.mark.parametrize("way", ["lzw", "deflate", "tiles", "bigtiff", "volumetric tiles"])
def test_a_flipped_bit_gives_an_error_or_a_whole_volume_never_a_crash(tmp_path: Path, way: str) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, a_volume(), **WAYS[way])
    content = bytearray(path.read_bytes())
    positions = random.Random(way)
    refused = 0
    for _ in range(120):
        position, bit = positions.randrange(len(content)), 1 << positions.randrange(8)
        content[position] ^= bit
        path.write_bytes(content)
        try:
            assert read_volume(path).ndim == 3
        except VolumeError:
            refused += 1
        content[position] ^= bit
    assert refused > 10


def test_a_writer_that_stopped_between_two_pages_is_noticed(tmp_path: Path) -> None:
    """The chain of pages ends properly, only too early: just the description tells."""
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, a_volume(), compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        links = file.pages[4].offset
    (entries,) = struct.unpack_from("<H", content, links)
    struct.pack_into("<I", content, links + 2 + 12 * entries, 0)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="declares 11 slices and has 5"):
        read_volume(path)


def test_pages_in_a_circle_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, a_volume(), compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first, fifth = file.pages[0].offset, file.pages[4].offset
    (entries,) = struct.unpack_from("<H", content, fifth)
    struct.pack_into("<I", content, fifth + 2 + 12 * entries, first)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="circle"):
        read_volume(path)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((8, 9, 10), np.float32), {}, "holds float32 values, expected integers: convert it"),
        (np.full((8, 9, 10), np.nan, np.float32), {}, r"holds float32 values \(720 of them not finite\)"),
        (np.zeros((8, 9, 10, 3), np.uint8), {"photometric": "rgb"}, "expected one grey value per voxel"),
        (np.zeros((9, 10), np.uint8), {}, r"has shape \[1, 9, 10\], expected a volume"),
    ],
)
def test_what_is_no_volume_of_integers_is_refused(
    tmp_path: Path, array: np.ndarray, options: dict[str, str], message: str
) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, array, **options)
    with pytest.raises(VolumeError, match=message):
        read_volume(path)


def test_pages_of_different_shapes_are_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "volume.tif"
    with tifffile.TiffWriter(path) as writer:
        for shape in ((8, 9), (8, 9), (4, 5)):
            writer.write(np.zeros(shape, np.uint8), contiguous=False, metadata=None)
    with pytest.raises(VolumeError, match=r"page 2 is uint8 \[4, 5\], page 0 is uint8 \[8, 9\]"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"", b"II*\x00", b"not a picture at all, but text"])
def test_what_is_no_tiff_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "volume.tif"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="is no TIFF file"):
        read_volume(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"nothing\.tif cannot be read: No such file"):
        read_volume(tmp_path / "nothing.tif")

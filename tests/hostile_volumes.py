"""Volumes in every kind of file, and the damage that is done to them."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import zarr
from tests.hostile import damaged

NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)
FRAGMENTS = (
    b"9" * 30,
    b"-1",
    b"1000000000000000000",
    b"0",
    b"1e308",
    b"null",
    b"[]",
    b"{}",
    b"[" * 3000,
    b'"|O"',
    b'"<f8"',
    b'"pickle"',
    b'{"id": "pickle"}',
    b'"../../x"',
    b'"blosc"',
    b"true",
    b'"\\ud800"',
    b"\x00" * 9,
    b"\xff" * 9,
    b"(1000000, 1000000, 1000000)",
    b"(10,)",
    b"()",
    b"'|O'",
    b"'<U9'",
    b"'<c16'",
    b"NaN",
)


def array() -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """A small volume that compresses."""
    steps = np.random.default_rng(0).integers(0, 2, size=(9, 20, 18))
    return (np.cumsum(steps, axis=2) % 5).astype(np.uint8)


def _zarr(path: Path, **options: object) -> None:
    zarr.create_array(str(path), data=array(), chunks=(5, 10, 18), **options)


def _group(path: Path, version: int) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    group.create_array("0", data=array(), chunks=(5, 10, 18))
    group.create_array("deep/1", data=array()[:4])
    levels = {"multiscales": [{"datasets": [{"path": "0"}, {"path": "deep/1"}]}]}
    group.attrs.update(levels if version == 2 else {"ome": levels})


WRITERS: dict[str, Callable[[Path], object]] = {
    "lzw.tif": lambda path: tifffile.imwrite(path, array(), compression="lzw"),
    "deflate.tif": lambda path: tifffile.imwrite(path, array(), compression="zlib", predictor=True),
    "none.tif": lambda path: tifffile.imwrite(path, array()),
    "pages.tif": lambda path: tifffile.imwrite(path, array(), contiguous=False, metadata=None, rowsperstrip=6),
    "tiles.tif": lambda path: tifffile.imwrite(path, array(), compression="packbits", tile=(16, 16)),
    "big.tif": lambda path: tifffile.imwrite(path, array(), compression="zstd", bigtiff=True, ome=True),
    "imagej.tif": lambda path: tifffile.imwrite(path, array(), imagej=True),
    "plain.npy": lambda path: np.save(path, array()),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(array().astype(np.float32))),
    "stored.npz": lambda path: np.savez(path, a=array()),
    "deflate.npz": lambda path: np.savez_compressed(path, a=array()),
    "v2.zarr": lambda path: _zarr(path, zarr_format=2),
    "v3.zarr": lambda path: _zarr(path, zarr_format=3),
    "raw.zarr": lambda path: _zarr(path, zarr_format=3, compressors=None),
    "sharded.zarr": lambda path: _zarr(path, zarr_format=3, shards=(10, 20, 18)),
    "group2.zarr": lambda path: _group(path, 2),
    "group3.zarr": lambda path: _group(path, 3),
}


def damage(path: Path, draw: random.Random) -> None:
    """Do something bad to a file, or to one of a store's files."""
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        names = [one for one in files if one.suffix == ".json" or one.name.startswith(".z")]
        chosen = draw.choice(names if draw.random() < 0.6 else files)
        kind = draw.randrange(12)
        if kind == 0:
            chosen.unlink()
        elif kind == 1:
            chosen.write_bytes(draw.choice(files).read_bytes())
        elif kind == 2:
            shutil.copytree(path, path / draw.choice(("0", "deep", "c")), dirs_exist_ok=True)
        elif kind == 3:
            chosen.unlink()
            chosen.mkdir()
        else:
            chosen.write_bytes(damaged(chosen.read_bytes(), draw, FRAGMENTS))
        return
    content = path.read_bytes()
    for _ in range(draw.choice((1, 1, 2, 5))):
        content = draw.choice((_number, _number, _shift, lambda one, _: damaged(one, draw, FRAGMENTS)))(content, draw)
    path.write_bytes(content)


def _number(content: bytes, draw: random.Random) -> bytes:
    """Another number of two, four or eight bytes, where the header or the directory of pages is likely to be."""
    result = bytearray(content)
    form = draw.choice(("<H", ">H", "<I", ">I", "<Q"))
    size = struct.calcsize(form)
    if len(result) <= 2 * size:
        return content
    reach = len(result) - size
    place = draw.choice(
        (draw.randrange(min(300, reach)), reach - draw.randrange(min(300, reach)), draw.randrange(reach))
    )
    value = draw.choice((*NUMBERS, 2**40, 10**18, 2**64 - 1))
    struct.pack_into(form, result, place, value % 2 ** (8 * size))
    return bytes(result)


def _shift(content: bytes, draw: random.Random) -> bytes:
    """A stretch lost or doubled."""
    place, length = draw.randrange(len(content) + 1), draw.randrange(1, 40)
    return (
        content[:place] + content[place + length :]
        if draw.random() < 0.5
        else content[:place] + content[place - length :]
    )

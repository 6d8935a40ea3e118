"""Zarr arrays and groups, versions 2 and 3, and OME-Zarr images: what they declare is checked before it is believed.

A store is a folder of many files that anybody may have written. Its metadata name the shape, the parts and the decoders
(one of which would run code that the data hold), so each is compared with what this machine has and volumen reads.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.npy_files import checked_kind, chosen_name
from volumen.data.volumes import VolumeError
from volumen.system.memory import amount, does_not_fit
from volumen.system.names import problem_of, shown

CODECS = frozenset(
    (
        *("astype", "bitround", "bytes", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle", "transpose"),
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zfpy", "zlib", "zstd", "sharding_indexed"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    )
)
"""Decoders that make numbers of bytes and do nothing else; `pickle` is none of them."""
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
MOST_METADATA_BYTES = 16 * 2**20
MOST_PARTS = 1_000_000


def read_zarr(path: Path, name: str | None) -> NDArray[Any]:
    """An array of a store; see `arrays.read_array`.

    Raises:
        VolumeError: There is no such array, or it holds no numbers, needs a decoder that is not read, has too many
            parts, or does not fit into memory.
        Exception: As zarr raises it on damaged metadata or parts.
    """
    import zarr

    if not path.is_dir():
        raise VolumeError(f"{path} is a file, a Zarr store is a folder: unpack it first")
    _check_metadata(path)
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Group):
        levels = _multiscale_levels(node.attrs.asdict())
        if name is None and levels:
            name = levels[0]
        elif name is None or not _is_inside(name) or name not in node:
            name = chosen_name(path, sorted(key for key, _ in node.arrays()), name)
        if not _is_inside(name):
            raise VolumeError(f"{path} calls an array {shown(name)}, which is no name inside it: write it again")
        _check_metadata(path / name)
        node = node[name]
    label = str(path) if name is None else f"{path}[{shown(name)}]"
    if not isinstance(node, zarr.Array):
        raise VolumeError(f"{label} is a group: name the array in it, such as {name}/0")
    _check_array(node, label)
    array = np.asarray(node[...])
    if array.shape != node.shape:
        raise VolumeError(f"{label} declares {list(node.shape)} and gives {list(array.shape)}: write it again")
    spare = max(0, array.ndim - 3)
    return array[(0,) * spare] if array.shape[:spare] == (1,) * spare else array  # time and channel of OME-Zarr


def _check_metadata(folder: Path) -> None:
    for name in METADATA:
        path = folder / name
        if path.is_file() and path.stat().st_size > MOST_METADATA_BYTES:
            raise VolumeError(
                f"{path} has {amount(path.stat().st_size)}, at most {amount(MOST_METADATA_BYTES)} are read: write the "
                "store again"
            )


def _is_inside(name: str) -> bool:
    """Whether a name leads to a place in the store."""
    return not any(problem_of(part) for part in name.split("/"))


def _check_array(array: Any, label: str) -> None:
    shape, itemsize = tuple(array.shape), np.dtype(array.dtype).itemsize
    checked_kind(label, shape, array.dtype)
    strange = sorted(set(_codecs(array.metadata.to_dict())) - CODECS)
    if strange:
        raise VolumeError(f"{label} is stored with {', '.join(map(shown, strange[:5]))}, which is not read: export it")
    holds = f"{label} declares {array.dtype} {list(shape)}"
    if missing := does_not_fit(math.prod(shape) * itemsize):
        raise VolumeError(f"{holds}, {missing}: cut it into smaller volumes, or write it again if it is damaged")
    for part in (array.chunks, array.shards or array.chunks):
        if len(part) != len(shape) or min(part) < 1:
            raise VolumeError(f"{holds} in parts of {list(part)}: it is damaged, write it again")
        parts = math.prod(-(-side // length) for side, length in zip(shape, part, strict=True))
        if parts > MOST_PARTS:
            raise VolumeError(f"{holds} in {parts} parts, at most {MOST_PARTS} are read: write it in larger ones")
        if missing := does_not_fit(math.prod(part) * itemsize):
            raise VolumeError(f"{holds} in parts of {list(part)}, {missing}: write it again in smaller parts")


def _codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The names of all decoders that an array needs, those inside others too."""
    listed = [metadata.get("compressor"), *(metadata.get("filters") or ()), *(metadata.get("codecs") or ())]
    listed += metadata.get("index_codecs") or ()
    for codec in listed:
        if codec is None:
            continue
        plain = codec if isinstance(codec, Mapping) else codec.get_config()
        yield str(plain.get("id", plain.get("name"))).removeprefix("numcodecs.")
        if isinstance(inside := plain.get("configuration"), Mapping):
            yield from _codecs(inside)


def _multiscale_levels(attributes: Mapping[str, Any]) -> list[str]:
    """The arrays of an OME-Zarr image, full resolution first; [] where there is none (NGFF 0.4 and 0.5)."""
    ome = attributes.get("ome", attributes)
    images = ome.get("multiscales") if isinstance(ome, Mapping) else None
    first = images[0] if isinstance(images, list) and images else None
    levels = first.get("datasets") if isinstance(first, Mapping) else None
    paths = [level.get("path") for level in levels if isinstance(level, Mapping)] if isinstance(levels, list) else []
    return [path for path in paths if isinstance(path, str)]

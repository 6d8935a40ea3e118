"""Zarr arrays and groups, versions 2 and 3, and OME-Zarr images: what they declare is checked before it is believed.

A store is a folder of many files that anybody may have written. Its metadata name the shape, the parts and the decoders
(one of which would run code that the data hold), so each is compared with what this machine has and volumen reads.
"""

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.axes import SPACE, UNNAMED, AxesError, letters_of, to_zyx
from volumen.data.npy_files import checked_kind, chosen_name
from volumen.data.spacing import Spacing, spacing_of
from volumen.data.volumes import VolumeError
from volumen.files import is_regular_file
from volumen.system.memory import amount, does_not_fit
from volumen.system.names import problem_of, shown, some

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


def read_zarr(path: Path, name: str | None, missing_is_empty: bool = False) -> NDArray[Any]:
    """An array of a store; see `arrays.read_array`. What zarr raises on damage passes.

    Raises:
        VolumeError: There is no such array, or it holds no numbers, needs a decoder that is not read, has too many
            parts, lacks some of them, has channels or times, or does not fit into memory.
    """
    import zarr

    if not path.is_dir():
        raise VolumeError(f"{path} is a file, a Zarr store is a folder: unpack it first")
    _check_metadata(path)
    node = zarr.open(str(path), mode="r")
    axes: Any = None
    if isinstance(node, zarr.Group):
        images = _images(node.attrs.asdict())
        if name is None and len(images) > 1:
            raise VolumeError(f"{path} holds {len(images)} images, expected one volume: name the array that is meant")
        if name is None and images and images[0][0]:
            name = images[0][0][0]
        elif name is None or not _is_inside(name) or name not in node:
            name = chosen_name(path, sorted(key for key, _ in node.arrays()), name)
        axes = next((axes for levels, axes in images if name in levels), None)
        if not _is_inside(name):
            raise VolumeError(f"{path} calls an array {shown(name)}, which is no name inside it: write it again")
        _check_metadata(path / name)
        node = node[name]
    label = str(path) if name is None else f"{path}[{shown(name)}]"
    if not isinstance(node, zarr.Array):
        raise VolumeError(f"{label} is a group: name the array in it, such as {name}/0")
    _check_array(node, label)
    _check_parts(node, path if name is None else path / name, label, missing_is_empty)
    array = np.asarray(node[...])
    if array.shape != node.shape:
        raise VolumeError(f"{label} declares {list(node.shape)} and gives {list(array.shape)}: write it again")
    names = axes or getattr(node.metadata, "dimension_names", None) or node.attrs.asdict().get("_ARRAY_DIMENSIONS")
    if not isinstance(names, (list, tuple)) or len(names) != array.ndim:
        names = [UNNAMED] * max(0, array.ndim - 3) + [*SPACE][-array.ndim :]
    try:
        return to_zyx(array, letters_of([str(one) for one in names]))
    except AxesError as error:
        raise VolumeError(f"{label} {error}: {_how_to_choose(path, name, error.index)}") from error


def spacing_in_zarr(path: Path) -> Spacing | None:
    """The voxel size that the scale of an OME-Zarr image's full resolution says; None where there is none."""
    import zarr

    try:
        attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
        image: Any = attributes.get("ome", attributes)
        image = image["multiscales"][0]
        steps = [*image["datasets"][0]["coordinateTransformations"], *image.get("coordinateTransformations", ())]
        scales = [step["scale"] for step in steps if step["type"] == "scale"]
        sides = [math.prod(float(scale[number]) for scale in scales) for number in range(len(image["axes"]))]
        units = [str(axis.get("unit", "")) for axis in image["axes"]]
        letters = letters_of([str(axis["name"]) for axis in image["axes"]])
    except Exception:  # no image, or a damaged one: whoever reads the voxels says what is wrong
        return None
    said = dict(zip(letters, zip(sides, units, strict=True), strict=True)) if scales else {}
    return spacing_of([said.get(letter, (None, "")) for letter in SPACE])


def _how_to_choose(path: Path, name: str | None, index: str) -> str:
    if not index:
        return "the slices of a volume are its axis z: name the axes as they are"
    array = f"zarr.open({json.dumps(str(path))})" + ("" if name is None else f"[{json.dumps(name)}]")
    program = f'import numpy, zarr; numpy.save("one.npy", {array}{index})'
    return f"choose one volume of it, with: python -c {shlex.quote(program)}"


def _check_metadata(folder: Path) -> None:
    for name in METADATA:
        path = folder / name
        if is_regular_file(path) and path.stat().st_size > MOST_METADATA_BYTES:
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


def _check_parts(array: Any, folder: Path, label: str, missing_is_empty: bool) -> None:
    """Refuse an array whose parts are not all there: zarr reads what is missing as the fill value."""
    part = array.shards or array.chunks
    grid = [-(-side // length) for side, length in zip(array.shape, part, strict=True)]
    missing, count = [], 0
    for place in np.ndindex(*grid):
        key = array.metadata.encode_chunk_key(place)
        inside = _inner_parts(array, place, folder / key) if array.shards else [is_regular_file(folder / key)]
        count += len(inside)
        missing += [key] * (len(inside) - sum(inside))
    if not missing:
        return
    fill = array.fill_value
    lacks = f"{label} lacks {len(missing)} of its {count} chunks ({some(dict.fromkeys(missing))}), read as {fill}"
    if not missing_is_empty:
        raise VolumeError(f"{lacks}: copy or write it again, or pass --missing-is-empty if they were empty")
    if fill is not None and fill != 0:
        raise VolumeError(f"{lacks}, which is not empty: write it again with all of its chunks")


def _inner_parts(array: Any, place: tuple[int, ...], shard: Path) -> list[bool]:
    """Whether each chunk of a shard is there, of those that lie in the array at all."""
    per_shard = [whole // part for whole, part in zip(array.shards, array.chunks, strict=True)]
    starts = [number * length for number, length in zip(place, array.shards, strict=True)]
    lies = [
        all(a + n * c < s for a, n, c, s in zip(starts, inner, array.chunks, array.shape, strict=True))
        for inner in np.ndindex(*per_shard)
    ]
    if not is_regular_file(shard):
        return [False] * sum(lies)
    codec = array.metadata.codecs[0].to_dict()["configuration"]
    checked = [one["name"] for one in codec["index_codecs"]]
    size = 16 * len(lies)
    if checked not in (["bytes"], ["bytes", "crc32c"]):
        return [True] * sum(lies)  # an index in a form that nothing writes: zarr itself reads it
    tail = size + 4 * (len(checked) - 1)
    with shard.open("rb") as stream:
        stream.seek(*((-min(tail, shard.stat().st_size), 2) if codec["index_location"] == "end" else (0, 0)))
        index = stream.read(size)
    if len(index) < size:
        return [True] * sum(lies)  # cut: it does not decode
    entries = np.frombuffer(index, "<u8").reshape(-1, 2)
    return [bool(entry.min() < 2**64 - 1) for entry, lie in zip(entries, lies, strict=True) if lie]


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


def _images(attributes: Mapping[str, Any]) -> list[tuple[list[str], list[str] | None]]:
    """The arrays of each OME-Zarr image, full resolution first, and the names of its axes (NGFF 0.3 to 0.5)."""
    ome = attributes.get("ome", attributes)
    images = ome.get("multiscales") if isinstance(ome, Mapping) else None
    found = []
    for image in images if isinstance(images, list) else []:
        levels, axes = (image.get("datasets"), image.get("axes")) if isinstance(image, Mapping) else (None, None)
        paths = (
            [level.get("path") for level in levels if isinstance(level, Mapping)] if isinstance(levels, list) else []
        )
        names = [
            axis.get("name") if isinstance(axis, Mapping) else axis for axis in (axes if isinstance(axes, list) else ())
        ]
        found.append(([path for path in paths if isinstance(path, str)], [str(name) for name in names] or None))
    return found

"""Volumes in any file that people exchange: TIFF stacks, NPY, NPZ and Zarr.

`volumes` is the strict reader of training data; this one reads masks, labels and probabilities that other tools wrote.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from volumen.data.volumes import SUFFIXES, VolumeError, read_volume
from volumen.errors import UserError

ARRAY_SUFFIXES = (*SUFFIXES, ".npy", ".npz", ".zarr")
_SECOND_SUFFIXES = (".ome",)  # ID.ome.tif and ID.ome.zarr are of the case ID


def find_arrays(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by case id, which is the name without its suffix, sorted; hidden files are not looked at.

    Raises:
        UserError: the folder holds no volume, or two of one id.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in ARRAY_SUFFIXES:
            continue
        case_id = case_of(path)
        if case_id in found:
            raise UserError(f"{path} and {found[case_id].name} are both of case {case_id}: remove or rename one")
        found[case_id] = path
    if not found:
        raise UserError(f"{folder} holds no volume: expected files ID{', ID'.join(ARRAY_SUFFIXES)}")
    return found


def case_of(path: Path) -> str:
    """The case id in the name of a file."""
    stem = Path(path.stem)
    return stem.stem if stem.suffix.lower() in _SECOND_SUFFIXES else stem.name


def read_array(path: Path, name: str | None = None) -> NDArray[Any]:
    """A volume [Z, Y, X] from a TIFF stack, an NPY or NPZ file, or a Zarr array or group.

    Args:
        path: the file, or the folder of a Zarr store.
        name: which array of an NPZ file or Zarr group; not needed where there is one. An OME-Zarr image is read at its
            full resolution.

    Raises:
        VolumeError: the file is missing or damaged, or it holds several arrays and `name` names none of them.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise VolumeError(f"{path} does not exist: check the path")
    if suffix in SUFFIXES:
        return read_volume(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".zarr": _read_zarr}
    if suffix not in readers:
        raise VolumeError(f"{path} is of no known kind: expected one of {', '.join(ARRAY_SUFFIXES)}")
    try:
        return readers[suffix](path, name)
    except VolumeError:
        raise
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, RuntimeError) as error:
        raise VolumeError(f"{path} is damaged ({type(error).__name__}: {error!s:.160}): write it again") from error


def _read_npy(path: Path, name: str | None) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _read_npz(path: Path, name: str | None) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        array: NDArray[Any] = archive[_chosen(path, dict.fromkeys(archive.files), name)]
    return array


def _read_zarr(path: Path, name: str | None) -> NDArray[Any]:
    import zarr

    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Group):
        levels = _multiscale_levels(node.attrs.asdict())
        if name is None and levels:
            name = levels[0]
        elif name is None or name not in node:
            name = _chosen(path, dict(node.arrays()), name)
        node = node[name]
    if not isinstance(node, zarr.Array):
        raise VolumeError(f"{path}/{name} is a group: name the array in it, such as {name}/0")
    array = np.asarray(node[...])
    spare = max(0, array.ndim - 3)
    return array[(0,) * spare] if array.shape[:spare] == (1,) * spare else array  # time and channel of OME-Zarr


def _multiscale_levels(attributes: Mapping[str, Any]) -> list[str]:
    """The arrays of an OME-Zarr image, full resolution first; [] where there is none (NGFF 0.4 and 0.5)."""
    multiscales = attributes.get("ome", attributes).get("multiscales", [])
    return [str(level["path"]) for level in multiscales[0]["datasets"]] if multiscales else []


def _chosen(path: Path, arrays: Mapping[str, Any], name: str | None) -> str:
    if name is None and len(arrays) == 1:
        return next(iter(arrays))
    if name is None or name not in arrays:
        what = "several arrays" if name is None else f"no array {name!r}"
        raise VolumeError(f"{path} holds {what}: name one of {', '.join(sorted(arrays)) or 'none'}")
    return name

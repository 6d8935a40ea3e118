"""Volumes in any file that people exchange: TIFF stacks, NPY, NPZ and Zarr.

`volumes` is the strict reader of training data; this one reads masks, labels and probabilities that other tools wrote.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from volumen.data.listing import SUFFIXES, list_volumes
from volumen.data.npy_files import KINDS, read_npy, read_npz
from volumen.data.spacing import Spacing
from volumen.data.volumes import VolumeError, load_volume, spacing_in_tiff
from volumen.data.zarr_stores import read_zarr, spacing_in_zarr
from volumen.errors import UserError
from volumen.system.names import one_line

Reader = Callable[[Path, str | None, bool], NDArray[Any]]
"""Of a path, the array of it that was named, and whether chunks that are missing are empty: a volume [Z, Y, X]."""

READERS: dict[str, Reader] = {
    **dict.fromkeys(SUFFIXES, lambda path, name, missing_is_empty: load_volume(path, KINDS).array),
    ".npy": lambda path, name, missing_is_empty: read_npy(path),
    ".npz": lambda path, name, missing_is_empty: read_npz(path, name),
    ".zarr": read_zarr,
}
"""By suffix, lower case: what `volumen score` reads."""


def find_arrays(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by case id, which is the name without its suffix, sorted.

    Raises:
        UserError: the folder cannot be read, holds no volume, two of one id, or names that are no case ids; tells all.
    """
    found = list_volumes(folder, tuple(READERS)).checked()
    if not found:
        raise UserError(f"{folder} holds no volume: expected files ID{', ID'.join(READERS)}")
    return found


def spacing_in(path: Path) -> Spacing | None:
    """The voxel size that a TIFF or an OME-Zarr image says, without its voxels; None where it says none."""
    if path.suffix.lower() in SUFFIXES:
        return spacing_in_tiff(path) if path.is_file() else None
    return spacing_in_zarr(path) if path.suffix.lower() == ".zarr" else None


def read_array(path: Path, name: str | None = None, *, missing_is_empty: bool = False) -> NDArray[Any]:
    """A volume [Z, Y, X] from a TIFF stack, an NPY or NPZ file, or a Zarr array or group.

    Args:
        path: the file, or the folder of a Zarr store.
        name: which array of an NPZ file or Zarr group, where there are several; an OME-Zarr image is read at full size.
        missing_is_empty: read parts that a Zarr store lacks as zeros; otherwise they are an error.

    Raises:
        VolumeError: the file is missing or damaged, or it is not clear which array is meant.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise VolumeError(f"{path} does not exist: check the path")
    if not path.is_file() and not path.is_dir():
        raise VolumeError(f"{path} is neither a file nor a folder: check the path")
    if suffix not in READERS:
        raise VolumeError(f"{path} is of no known kind: expected one of {', '.join(READERS)}")
    try:
        return READERS[suffix](path, name, missing_is_empty)
    except VolumeError:
        raise
    except UserError as error:
        raise VolumeError(str(error)) from error
    except Exception as error:
        # NumPy, zipfile and zarr raise what they like on damaged bytes; all of it means the same to the user.
        what = f"{type(error).__name__}: {one_line(str(error), 160)}"
        raise VolumeError(f"{path} is damaged ({what}): write it again") from error

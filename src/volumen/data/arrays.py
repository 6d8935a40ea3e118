"""Volumes in any file that people exchange: TIFF stacks, NPY, NPZ and Zarr.

`volumes` is the strict reader of training data; this one reads masks, labels and probabilities that other tools wrote.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from volumen.data.npy_files import read_npy, read_npz
from volumen.data.volumes import SUFFIXES, VolumeError, read_volume
from volumen.data.zarr_stores import read_zarr
from volumen.errors import UserError
from volumen.system.names import one_line, problem_of, shown

ARRAY_SUFFIXES = (*SUFFIXES, ".npy", ".npz", ".zarr")
_MOST = 20  # problems told at once
_SECOND_SUFFIXES = (".ome",)  # ID.ome.tif and ID.ome.zarr are of the case ID


def find_arrays(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by case id, which is the name without its suffix, sorted; hidden files are not looked at.

    Raises:
        UserError: the folder cannot be read, holds no volume, two of one id, or names that are no case ids; tells all.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions") from error
    for path in paths:
        if path.name.startswith(".") or path.suffix.lower() not in ARRAY_SUFFIXES:
            continue
        case_id = case_of(path)
        if problem := problem_of(case_id):
            problems.append(f"{shown(path.name)} {problem}: rename it")
        elif case_id in found:
            problems.append(f"{path} and {found[case_id].name} are both of case {case_id}: remove or rename one")
        else:
            found[case_id] = path
    if problems:
        raise UserError(f"{folder}: " + "; ".join(problems[:_MOST]) + (" ..." if len(problems) > _MOST else ""))
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
    if not path.is_file() and not path.is_dir():
        raise VolumeError(f"{path} is neither a file nor a folder: check the path")
    if suffix in SUFFIXES:
        return read_volume(path)
    readers = {".npy": lambda path, _: read_npy(path), ".npz": read_npz, ".zarr": read_zarr}
    if suffix not in readers:
        raise VolumeError(f"{path} is of no known kind: expected one of {', '.join(ARRAY_SUFFIXES)}")
    try:
        return readers[suffix](path, name)
    except VolumeError:
        raise
    except Exception as error:
        # NumPy, zipfile and zarr raise what they like on damaged bytes; all of it means the same to the user.
        what = f"{type(error).__name__}: {one_line(str(error), 160)}"
        raise VolumeError(f"{path} is damaged ({what}): write it again") from error

"""What a TIFF's pages are by the file's own word: how many, of which axes, in which order."""

import json
import math
import re
import shlex
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.data.axes import letters_of, to_zyx, zyx_order
from volumen.data.spacing import Spacing
from volumen.data.tiff_pages import DamageError


def declared_planes(file: tifffile.TiffFile) -> int | None:
    """How many slices the file says it has, in whichever of the usual ways; None where it does not say.

    Raises:
        DamageError: It is one of several files, or holds several images.
    """
    text = file.pages[0].aspage().description or ""
    if text.startswith("{"):
        shape = json.loads(text).get("shape")
        if shape is not None:
            voxels = math.prod(int(side) for side in shape)
            return -(-voxels // max(1, math.prod(file.pages[0].aspage().shape[-2:])))
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d+)", text, flags=re.MULTILINE)
        return int(found.group(1)) if found else None
    if "<OME" in text:
        files = len(set(re.findall(r'\bFileName="([^"]*)"', text))) + ("BinaryOnly" in text)
        images = len(re.findall(r"<(?:\w+:)?Image\b", text))
        if files > 1 or images > 1:
            what = f"is one of {files} files of an OME-TIFF" if files > 1 else f"holds {images} images"
            raise DamageError(f"{what}, expected one volume: save it as one file, in ImageJ with File > Save As > Tiff")
        sizes = [re.findall(rf'\bSize{axis}="(\d+)"', text) for axis in "ZCT"]
        return math.prod(max(map(int, found)) for found in sizes if found)
    return None


def by_axes(
    volume: NDArray[Any], spacing: Spacing | None, file: tifffile.TiffFile
) -> tuple[NDArray[Any], Spacing | None]:
    """Planes as they lie in the file [N, rows, columns] as the volume [Z, Y, X] that it says they are; its spacing.

    Raises:
        AxesError: There are more axes, or others.
        DamageError: The file holds several images, or another number of voxels than it says.
    """
    series = file.series
    if len(series) > 1:
        raise DamageError(f"holds {len(series)} images, expected one volume: save one of them as a file of its own")
    letters, shape = letters_of(series[0].axes), series[0].shape
    if math.prod(shape) != volume.size:
        raise DamageError(f"says that it is {list(shape)}, and its pages are {list(volume.shape)}: export it again")
    order = zyx_order(letters, shape) if len(shape) >= 3 else ()
    places = [page.index for page in series[0] if page is not None] if series[0].kind == "ome" else []
    if len(places) == len(volume) and places != list(
        range(len(volume))
    ):  # OME-TIFF may say that the planes lie in another order
        volume = volume[places]
    if len(shape) >= 3:
        volume = to_zyx(volume.reshape(shape), letters)
    if len(order) == 3 and spacing is not None and list(order) != sorted(order):
        stored = dict(zip(sorted(order), spacing.sides, strict=True))
        spacing = Spacing(stored[order[0]], stored[order[1]], stored[order[2]], spacing.unit)
    return np.ascontiguousarray(volume), spacing


def how_to_choose(name: str, index: str) -> str:
    """The way from a file that is no volume to one that is; `index` is an `AxesError`'s."""
    if not index:
        return (
            "the slices of a volume are its axis z: set that in the program that wrote it (ImageJ: Image > Properties)"
        )
    read, axes = f"t.imread({json.dumps(name)})", '{"axes": "ZYX"}'
    program = f'import tifffile as t; t.imwrite("one.tif", {read}{index}, metadata={axes})'
    return f"choose one volume of it, in ImageJ with Image > Duplicate, or with: python -c {shlex.quote(program)}"

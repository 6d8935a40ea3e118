"""The size of a voxel, as files say it: read where it stands, kept, and never invented.

TIFF says it in ImageJ's or tifffile's description, in OME's, or in the tags of the resolution; nnU-Net in a `CASE.json`
beside the TIFF, without a unit; OME-Zarr in the scale of its levels.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from volumen.errors import UserError
from volumen.system.names import some
from volumen.system.records import parse_json, read_bounded

MICROMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "\\u00b5m"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("in", "inch"), 25400.0),
}
"""By the names of units that programs write, in lower case."""
_PRINTERS = frozenset((72, 96, 100, 150, 200, 300, 600, 1200))
"""Dots per inch that programs write for a printer or a screen, where nobody measured anything."""
_TAG_UNITS = {2: "inch", 3: "cm"}
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_IMAGEJ_MOST_BYTES = 2**32 - 2**25  # beyond, tifffile writes a BigTIFF, which ImageJ has no description for
_ANISOTROPIC = 1.01
_MOST_SIDECAR_BYTES = 2**20
_CHANNEL = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class Spacing:
    """The size of a voxel; None along an axis of which the file says nothing."""

    z: float | None
    y: float | None
    x: float | None
    unit: str = "um"
    """`um`, into which every known unit is turned; empty where the file names none."""

    @property
    def sides(self) -> tuple[float | None, float | None, float | None]:
        """z, y, x."""
        return self.z, self.y, self.x

    @property
    def whole(self) -> tuple[float, float, float] | None:
        """z, y, x where all three are known."""
        known = [side for side in self.sides if side is not None]
        return (known[0], known[1], known[2]) if len(known) == 3 else None

    @property
    def is_cube(self) -> bool:
        """Whether nothing is known that would make the voxel another body than a cube."""
        known = [side for side in self.sides if side is not None]
        return max(known) < _ANISOTROPIC * min(known)

    def agrees(self, other: "Spacing") -> bool:
        """Whether both could be of one volume: the same where both say something in the same unit."""
        pairs = [(a, b) for a, b in zip(self.sides, other.sides, strict=True) if a is not None and b is not None]
        return self.unit != other.unit or all(max(pair) < _ANISOTROPIC * min(pair) for pair in pairs)

    def __str__(self) -> str:
        said = " x ".join("?" if side is None else f"{side:g}" for side in self.sides)
        return f"{said} {self.unit or '(no unit given)'}"


def spacing_of(sides: Sequence[tuple[Any, str]]) -> Spacing | None:
    """A spacing from the side and the unit along z, y and x; None where nothing is said.

    Sides that are no positive number, and those without a unit where others have one, are unknown.
    """
    measured: list[tuple[float, str] | None] = []
    for side, unit in sides:
        factor = MICROMETRES.get(unit.strip().lower())
        try:
            value = abs(float(side)) * (factor or 1.0)
        except (TypeError, ValueError, OverflowError):
            value = 0.0
        good = math.isfinite(value) and value > 0
        measured.append((float(f"{value:.9g}"), "" if factor is None else "um") if good else None)
    unit = "um" if any(one is not None and one[1] for one in measured) else ""
    known = [one[0] if one is not None and one[1] == unit else None for one in measured]
    if all(side is None for side in known) or (not unit and all(side in (None, 1.0) for side in known)):
        return None
    return Spacing(known[0], known[1], known[2], unit)


def beside(path: Path) -> Spacing | None:
    """What nnU-Net's `CASE.json` beside `CASE.tif` or `CASE_0000.tif` says; None where there is none.

    Raises:
        UserError: The file says something that is no spacing.
    """
    sidecar = sidecar_of(path)
    if sidecar is None or sidecar.stat().st_size > _MOST_SIDECAR_BYTES:
        return None
    fix = 'expected {"spacing": [z, y, x]} as nnU-Net writes it: mend or remove it'
    said = parse_json(read_bounded(sidecar, fix), sidecar, fix)
    if not isinstance(said, dict) or "spacing" not in said:
        return None
    sides, unit = said["spacing"], said.get("unit", "")
    numbers = isinstance(sides, list) and all(type(side) in (int, float) and side > 0 for side in sides)
    if not numbers or len(sides) != 3 or not isinstance(unit, str):
        raise UserError(f"{sidecar} gives no voxel size, {fix}")
    return spacing_of([(side, unit) for side in sides])


def sidecar_of(path: Path) -> Path | None:
    """The JSON file that nnU-Net keeps beside a TIFF, where there is one."""
    for stem in dict.fromkeys((_CHANNEL.sub("", path.stem), path.stem)):
        sidecar = path.with_name(f"{stem}.json")
        if stem and sidecar.is_file():
            return sidecar
    return None


def sidecar_text(spacing: Spacing) -> str:
    """What `CASE.json` says of a spacing that is known along all axes."""
    unit = {"unit": spacing.unit} if spacing.unit else {}  # nnU-Net reads the numbers only
    return json.dumps({"spacing": list(spacing.sides), **unit}) + "\n"


def of_tiff(page: tifffile.TiffPage) -> Spacing | None:
    """What the first page of a TIFF stack says, with the stack's axis as z, rows as y and columns as x."""
    text = page.description or ""
    if "<OME" in text:
        found = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>", text)
        attributes = dict(re.findall(r'\b(PhysicalSize[XYZ](?:Unit)?)="([^"]*)"', found.group(1))) if found else {}
        if attributes:
            names = [f"PhysicalSize{axis}" for axis in "ZYX"]
            return spacing_of([(attributes.get(name), attributes.get(f"{name}Unit", "um")) for name in names])
    said = _described(text)
    unit = str(said.get("unit", ""))
    tag = _TAG_UNITS.get(_number(page, "ResolutionUnit"), "")
    rows, columns = (_side(page, name) for name in ("YResolution", "XResolution"))
    is_relative = text.startswith("ImageJ=") or ("spacing" in said and not unit)
    is_default = rows == columns == 1.0 and not tag and not is_relative
    is_printer = tag == "inch" and columns is not None and round(1 / columns, 3) in _PRINTERS
    if is_default or is_printer:
        rows = columns = None
    return spacing_of(
        [
            (said.get("spacing"), str(said.get("zunit", unit))),
            (rows, tag or str(said.get("yunit", unit))),
            (columns, tag or unit),
        ]
    )


def tiff_options(spacing: Spacing | None, volume: NDArray[Any]) -> dict[str, Any]:
    """What makes `tifffile.imwrite` say a spacing, as ImageJ does where it reads such a volume."""
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if spacing is None:
        return {"metadata": metadata}
    if spacing.z is not None:
        metadata["spacing"] = spacing.z
    if spacing.unit:
        metadata["unit"] = spacing.unit
    options: dict[str, Any] = {"metadata": metadata}
    if spacing.y is not None and spacing.x is not None:
        options["imagej"] = volume.dtype.name in _IMAGEJ_TYPES and volume.nbytes < _IMAGEJ_MOST_BYTES
        per = 1.0 if options["imagej"] or not spacing.unit else MICROMETRES["cm"]
        options["resolution"] = (per / spacing.x, per / spacing.y)
        options["resolutionunit"] = 1 if per == 1 else 3
    return options


def not_cubes(spacings: Mapping[str, Spacing | None]) -> list[str]:
    """A sentence where voxels are no cubes, by the name of each volume; none where all are, or nothing is known."""
    odd = {name: spacing for name, spacing in spacings.items() if spacing is not None and not spacing.is_cube}
    if not odd:
        return []
    sizes = sorted({str(spacing) for spacing in odd.values()})
    return [
        f"the voxels of {some(odd)} are no cubes ({'; '.join(sizes[:3])}, z x y x x): nothing here resamples, so that "
        "networks, tiles and scores take each for a cube; resample the volumes first where that matters"
    ]


def _described(text: str) -> Mapping[str, Any]:
    """The entries of ImageJ's or tifffile's description."""
    if text.startswith("{"):
        said = json.loads(text)
        return said if isinstance(said, dict) else {}
    return dict(re.findall(r"^(\w+)=(.*?)\r?$", text, flags=re.MULTILINE)) if text.startswith("ImageJ=") else {}


def _number(page: tifffile.TiffPage, name: str) -> int:
    tag = page.tags.get(name)
    try:
        return int(tag.value) if tag is not None else 0
    except (TypeError, ValueError):
        return 0


def _side(page: tifffile.TiffPage, name: str) -> float | None:
    """The side of a pixel, from the tag of a resolution in pixels per unit."""
    tag = page.tags.get(name)
    try:
        count, unit = tag.value if tag is not None else (0, 0)
        return float(unit) / float(count) if count and unit else None
    except (TypeError, ValueError):
        return None

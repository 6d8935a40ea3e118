"""What the values in a label file mean, and the one set of codes that everything else uses.

A data set declares the meaning of each value it holds (`dataset.yaml`); `prepare` maps them to the canonical codes
below, so that no other part of the package ever sees a foreign value. A value that nobody declared is an error: taking
"unlabelled" for surface is how a run can train for weeks on the wrong task.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.system.names import some

BACKGROUND = 0
SURFACE = 1
IGNORE = 2
MASK = (BACKGROUND, SURFACE)
"""What a mask of ours holds."""
SEEN = (BACKGROUND, 255)
"""What a mask holds that was written to be looked at."""

CODES: dict[str, int] = {"background": BACKGROUND, "surface": SURFACE, "ignore": IGNORE}
NAMES: dict[int, str] = {code: name for name, code in CODES.items()}


@dataclass(frozen=True)
class LabelMeanings:
    """The declared meaning of each value found in a data set's label files, with what else the data set says."""

    codes: Mapping[int, int]
    """Canonical code by the data set's own value."""
    spacing_um: tuple[float, float, float] | None = None
    """Size of a voxel in micrometres, z y x."""
    description: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain mapping `{labels: {value: name}, spacing_um, description}`, as in `dataset.yaml`."""
        labels = {str(value): NAMES[code] for value, code in sorted(self.codes.items())}
        spacing = None if self.spacing_um is None else list(self.spacing_um)
        return {"labels": labels, "spacing_um": spacing, "description": self.description}

    @property
    def written(self) -> str:
        """The declared values in one line, such as `0 background, 1 surface, 2 ignore`."""
        return ", ".join(f"{value} {NAMES[code]}" for value, code in sorted(self.codes.items()))


def value_counts(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values that occur in an array, rising, and the number of elements of each, exact."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        total = np.zeros(np.iinfo(array.dtype).max + 1, dtype=np.int64)
        for plane in array.reshape(array.shape[0], -1) if array.ndim > 1 else [array]:  # slice by slice, for memory
            total += np.bincount(plane.ravel(), minlength=total.size)
        values = np.flatnonzero(total)
        return values, total[values]
    flat = np.sort(array, axis=None)  # a fifth of the memory and a tenth of the time of a mapping of millions
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, np.int64)
    return flat[starts], np.diff(np.append(starts, flat.size))


def count_values(array: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Number of voxels of each value of a label, which has few."""
    values, counts = value_counts(array)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def undeclared(array: NDArray[Any], declared: Collection[int]) -> str:
    """The values of a mask or a label that nobody declared, with their numbers of voxels, in words; empty for none."""
    strange: Counter[float] = Counter()
    for plane in array if array.ndim > 2 else [array]:
        odd = plane[~np.isin(plane, list(declared))]
        known = odd[odd == odd]
        strange.update(dict(zip(*(part.tolist() for part in np.unique(known, return_counts=True)), strict=True)))
        if known.size < odd.size:
            strange[math.nan] += odd.size - known.size
    rising = sorted(strange, key=lambda value: (math.isnan(value), value))
    parts = [f"{int(one) if float(one).is_integer() else one} in {strange[one]} voxels" for one in rising]
    return some(parts) if parts else ""


def to_canonical(label: NDArray[np.integer[Any]], meanings: LabelMeanings) -> NDArray[np.uint8]:
    """Map a data set's own label values [Z, Y, X] to the canonical codes.

    Raises:
        ValueError: a value is not declared. `prepare` looks for such values first and names the file and the fix.
    """
    canonical = np.full(label.shape, 255, dtype=np.uint8)
    for value, code in meanings.codes.items():
        canonical[label == value] = code
    if np.any(canonical == 255):
        raise ValueError(
            f"label values are not declared: {undeclared(label, meanings.codes)} (declared: {meanings.written})"
        )
    return canonical

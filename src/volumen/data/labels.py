"""What the values in a label file mean, and the one set of codes that everything else uses.

A data set declares the meaning of each value it holds (`dataset.yaml`); `prepare` maps them to the canonical codes
below, so that no other part of the package ever sees a foreign value. A value that nobody declared is an error: taking
"unlabelled" for surface is how a run can train for weeks on the wrong task.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.emptiness import Declared
from volumen.data.packed import Volume
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


OTHERS = "others"
"""Stands for every value that is not declared otherwise."""
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # fits into 64 bits
_RANGE = re.compile(rf"({WHOLE.pattern}) ?- ?({WHOLE.pattern})")


def range_of(text: str) -> tuple[int, int] | None:
    """First and last value of a range such as `1-40`, or of `others`; None for any other text."""
    if text == OTHERS:
        return -(2**63), 2**64 - 1
    found = _RANGE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]))


@dataclass(frozen=True)
class LabelMeanings:
    """The declared meaning of each value found in a data set's label files, with what else the data set says."""

    codes: Mapping[int, int]
    """Canonical code by the data set's own value."""
    spacing_um: tuple[float, float, float] | None = None
    """Size of a voxel in micrometres, z y x."""
    description: str = ""
    empty: Declared = None
    """Grey values of the images where the scan holds nothing; None where they are to be found."""
    ranges: Mapping[str, int] = field(default_factory=dict)
    """Canonical code by range of values (see `range_of`), such as the sheets of a labelling by instance."""

    @classmethod
    def of_names(cls, labels: Mapping[str, str], **said: Any) -> "LabelMeanings":
        """From names of codes by value or range, both as text; what is neither, or no name of a code, is left out."""
        known = {text: CODES[name] for text, name in labels.items() if name in CODES}
        codes = {int(text): code for text, code in known.items() if WHOLE.fullmatch(text)}
        return cls(codes, ranges={text: code for text, code in known.items() if range_of(text)}, **said)

    @property
    def _by_width(self) -> list[tuple[int, int, int]]:
        """Ranges with their codes, the widest first: `others` gives way to a range, and that to a value by itself."""
        found = [(*bounds, code) for text, code in self.ranges.items() if (bounds := range_of(text))]
        return sorted(found, key=lambda one: one[0] - one[1])

    def code_of(self, value: int) -> int | None:
        """Canonical code of a value; None where it is not declared."""
        ranges = [code for low, high, code in self._by_width if low <= value <= high]
        return self.codes.get(value, ranges[-1] if ranges else None)

    def to_json(self) -> dict[str, Any]:
        """Plain mapping `{labels: {value: name}, spacing_um, description, empty}`, as in `dataset.yaml`."""
        declared = (*sorted(self.codes.items()), *sorted(self.ranges.items()))
        labels = {str(value): NAMES[code] for value, code in declared}
        spacing = None if self.spacing_um is None else list(self.spacing_um)
        empty = None if self.empty is None else list(self.empty)
        return {"labels": labels, "spacing_um": spacing, "description": self.description, "empty": empty}

    @property
    def written(self) -> str:
        """The declared values in one line, such as `0 background, 1 surface, 2 ignore`."""
        return ", ".join(f"{value} {name}" for value, name in self.to_json()["labels"].items())


def value_counts(array: NDArray[Any], where: NDArray[np.bool_] | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values that occur in an array (or `where` it counts), rising, and the number of elements of each, exact."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    planes = array.reshape(array.shape[0], -1) if array.ndim > 1 else [array]
    if where is not None:
        planes = [plane[there] for plane, there in zip(planes, where.reshape(len(planes), -1), strict=True)]
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        total = np.zeros(np.iinfo(array.dtype).max + 1, dtype=np.int64)
        for plane in planes:  # slice by slice, for memory
            total += np.bincount(plane.ravel(), minlength=total.size)
        values = np.flatnonzero(total)
        return values, total[values]
    flat = np.sort(array if where is None else np.concatenate(planes), axis=None)  # cheaper than a mapping of millions
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
    for low, high, code in meanings._by_width:
        canonical[(label >= low) & (label <= high)] = code
    for value, code in meanings.codes.items():
        canonical[label == value] = code
    if np.any(canonical == 255):
        known = [value for value in count_values(label) if meanings.code_of(value) is not None]
        raise ValueError(f"label values are not declared: {undeclared(label, known)} (declared: {meanings.written})")
    return canonical


class Lesson:
    """Canonical codes of which a network learns: those of the label, but ignore where `empty` is not 0; [Z, Y, X]."""

    def __init__(self, label: Volume, empty: Volume) -> None:
        self._label, self._empty, self.shape = label, empty, label.shape

    def __getitem__(self, window: Any) -> NDArray[np.uint8]:
        return np.where(self._empty[window], np.uint8(IGNORE), self._label[window])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.where(np.asarray(self._empty), np.uint8(IGNORE), np.asarray(self._label)).astype(dtype or np.uint8)

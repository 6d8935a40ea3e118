"""The greatest or least value of every window of a volume, in work that grows with the logarithm of its length."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, slice, slice]
"""A box of a volume: three slices without step, z y x."""


def slide(volume: NDArray[Any], side: int, axis: int, combine: np.ufunc) -> NDArray[Any]:
    """Combine each window of `side` voxels along an axis, which gets `side - 1` shorter.

    Args:
        volume: Any shape.
        side: Length of a window in voxels.
        axis: Along which.
        combine: Such as `np.maximum`; windows are doubled until they are long enough, so a value may count twice.
    """
    moved, width = np.moveaxis(volume, axis, 0), 1
    while width < side:
        shift = min(width, side - width)
        moved = combine(moved[:-shift], moved[shift:])
        width += shift
    return np.moveaxis(moved, 0, axis)

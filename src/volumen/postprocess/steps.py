"""The steps from probabilities to a clean mask, each a pure function on arrays [Z, Y, X].

Masks are uint8, 0 or 1. Connectivity follows the leaderboard: surface components are 26-connected as in its VOI, and a
cavity is a 26-connected piece of background that does not reach the volume's border, as in its TopoScore.
"""

import cc3d
import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError

Mask = NDArray[np.uint8]


def threshold(probabilities: NDArray[np.float32], level: float) -> Mask:
    """Surface where the probability is above the level.

    Args:
        probabilities: float32 [Z, Y, X]; NaN is background.
        level: 0 < level < 1.

    Raises:
        UserError: The level is outside of its range.
    """
    if not 0 < level < 1:
        raise UserError(f"threshold must lie between 0 and 1, both excluded, got {level:g}")
    return (probabilities > level).view(np.uint8)


def close(mask: Mask, radius_voxels: int) -> Mask:
    """Closing with a cube of side 2 r + 1: gaps narrower than the cube are bridged, and no surface is lost.

    Outside of the volume is background while growing and is cut off again after shrinking, so the volume's border is
    treated like its inside.
    """
    if radius_voxels == 0:
        return mask
    side = 2 * radius_voxels + 1
    result = np.pad(mask, 2 * radius_voxels)
    for axis in range(3):
        result = _slide(result, side, axis, np.maximum)
    for axis in range(3):
        result = _slide(result, side, axis, np.minimum)
    return result


def fill_holes(mask: Mask, maximum_voxels: int) -> Mask:
    """Fill cavities of at most `maximum_voxels` voxels."""
    if maximum_voxels == 0:
        return mask
    # As uint8: for booleans cc3d 4.1 underestimates the number of labels of a thin volume, and fails.
    labels, count = cc3d.connected_components((mask == 0).view(np.uint8), connectivity=26, return_N=True)
    sizes = np.asarray(cc3d.statistics(labels, no_slice_conversion=True)["voxel_counts"])[: count + 1]
    fill = sizes <= maximum_voxels
    fill[0] = False  # label 0 is the surface itself
    for axis in range(3):
        for face in (0, -1):
            fill[np.unique(np.take(labels, face, axis=axis))] = False  # open to the outside
    if not fill.any():
        return mask
    return mask | fill[labels].view(np.uint8)


def remove_small_components(mask: Mask, minimum_voxels: int) -> Mask:
    """Remove 26-connected components of fewer than `minimum_voxels` voxels."""
    if minimum_voxels <= 1:
        return mask
    kept: Mask = cc3d.dust(mask, threshold=minimum_voxels, connectivity=26, in_place=False)
    return kept


def _slide(volume: Mask, side: int, axis: int, combine: np.ufunc) -> Mask:
    """Greatest (or least) value in each window of `side` voxels along an axis; the axis gets `side - 1` shorter.

    Windows are doubled until they are long enough, so the work grows with the logarithm of their length.
    """
    moved, width = np.moveaxis(volume, axis, 0), 1
    while width < side:
        shift = min(width, side - width)
        moved = combine(moved[:-shift], moved[shift:])
        width += shift
    return np.moveaxis(moved, 0, axis)

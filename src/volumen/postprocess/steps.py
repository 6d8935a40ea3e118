"""The simple steps from probabilities to a clean mask, each a pure function on arrays [Z, Y, X].

Masks are uint8, 0 or 1. Connectivity follows the leaderboard: surface components are 26-connected as in its VOI, and a
cavity is a 26-connected piece of background that does not reach the volume's border, as in its TopoScore. Every step
here commutes with flips of the volume and never writes to its argument.
"""

import itertools
from typing import TYPE_CHECKING, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from volumen.data.emptiness import slide
from volumen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Mask = NDArray[np.uint8]
Radius = int | tuple[int, int, int]

Connectivity = Literal[6, 18, 26]
CONNECTIVITIES = (6, 18, 26)
MAJORITY = 14  # of the 27 voxels of a window
LEAST_PROBABILITY = 1e-7
"""That a mean of probabilities is taken for: exactly 0 or 1 has no finite logit."""


def probabilities_from_logits(
    logits: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The sigmoid, the only one between the logits of networks and a mask.

    Args:
        logits: Raw scores, float32, any shape.
        out: Where to write, which may be `logits` itself; a new array by default.
    """
    result: NDArray[np.float32] = expit(logits, out=out)
    return result


def probabilities_on_device(logits: "Tensor") -> "Tensor":
    """The same on the device that holds the logits, float32, in their place; equal within float32's rounding."""
    return logits.sigmoid_()


def threshold(probabilities: NDArray[np.float32], level: float) -> Mask:
    """Surface where the probability, float32 [Z, Y, X], is above the level; NaN is background.

    Raises:
        UserError: Not 0 < level < 1.
    """
    if not 0 < level < 1:
        raise UserError(f"threshold must lie between 0 and 1, both excluded, got {level:g}")
    return np.ascontiguousarray((probabilities > level).view(np.uint8))


def hysteresis(probabilities: NDArray[np.float32], low: float, high: float, connectivity: Connectivity = 26) -> Mask:
    """Surface where the probability is above `low` in a component that is somewhere above `high` (Canny 1986).

    A faint stretch of a sheet is kept when it hangs on a clear one; faint specks on their own are not. NaN is
    background.

    Raises:
        UserError: Not 0 < low < high < 1, or no such connectivity.
    """
    if not 0 < low < high < 1:
        raise UserError(f"hysteresis needs 0 < low < high < 1, got low {low:g} and high {high:g}")
    labels, count = _labelled((probabilities > low).view(np.uint8), connectivity)
    kept = np.zeros(count + 1, dtype=np.uint8)
    kept[labels[probabilities > high]] = 1
    return np.asarray(kept[labels], np.uint8)


def close(mask: Mask, radius_voxels: Radius) -> Mask:
    """Closing with a box of sides 2 r + 1: gaps narrower than the box are bridged, and no surface is lost.

    Outside of the volume is background while growing and is cut off again after shrinking, so the volume's border is
    treated like its inside. `radius_voxels` is one radius, or one for each of z, y and x.

    Raises:
        UserError: A negative radius.
    """
    radii = _radii(radius_voxels)
    result = np.pad(mask, [(2 * radius, 2 * radius) for radius in radii])
    for combine in (np.maximum, np.minimum):
        for axis, radius in enumerate(radii):
            result = slide(result, 2 * radius + 1, axis, combine)
    return np.ascontiguousarray(result)


def opening(mask: Mask, radius_voxels: Radius) -> Mask:
    """Opening with a box of sides 2 r + 1: surface that the box does not fit into is removed, and none is added.

    It is the dual of `close`, the complement of the closing of the complement. Outside of the volume therefore counts
    as surface: a plate that lies on the volume's border is taken to go on beyond it.

    Raises:
        UserError: A negative radius.
    """
    return close(mask ^ np.uint8(1), radius_voxels) ^ np.uint8(1)


def median(mask: Mask, iterations: int = 1) -> Mask:
    """Majority vote in the window of 3 x 3 x 3 voxels, `iterations` times or until nothing changes any more.

    It smooths rough faces and drops specks; a plate of one voxel has 9 of 27 votes and is lost. The volume's border is
    replicated. Surface and background have equal rights: the vote on the complement is the complement of the vote.

    Raises:
        UserError: A negative number of iterations.
    """
    if iterations < 0:
        raise UserError(f"median needs 0 iterations or more, got {iterations}")
    result = np.ascontiguousarray(mask)
    for _ in range(iterations):
        votes = np.pad(result, 1, mode="edge")
        for axis in range(3):
            moved = np.moveaxis(votes, axis, 0)
            votes = np.moveaxis(moved[:-2] + moved[1:-1] + moved[2:], 0, axis)
        before, result = result, np.ascontiguousarray(votes >= MAJORITY).view(np.uint8)
        if np.array_equal(before, result):
            break
    return result


def plug_pinholes(mask: Mask) -> Mask:
    """Plug holes of one voxel through a sheet: background whose four neighbours along two of the axes are all surface.

    The four neighbours touch each other, and one of them touches every voxel that the plug touches. So no plug joins
    two 26-connected components, and two sheets one voxel apart stay apart. At the volume's border a voxel is plugged
    only where all four neighbours exist.
    """
    both = []
    for axis in range(3):
        between = np.zeros(mask.shape, np.uint8)
        moved, result = np.moveaxis(mask, axis, 0), np.moveaxis(between, axis, 0)
        result[1:-1] = moved[:-2] & moved[2:]
        both.append(between)
    plugged = mask.copy(order="C")
    for first, second in itertools.combinations(both, 2):
        plugged |= first & second
    return plugged


def fill_holes(mask: Mask, maximum_voxels: int) -> Mask:
    """Fill cavities of at most `maximum_voxels` voxels."""
    return _fill(mask, maximum_voxels)


def fill_cavities(mask: Mask) -> Mask:
    """Fill every cavity, whatever its size: the background that cannot reach the volume's border through corners."""
    return _fill(mask, mask.size)


def remove_small_components(mask: Mask, minimum_voxels: int, connectivity: Connectivity = 26) -> Mask:
    """Remove components of fewer than `minimum_voxels` voxels.

    Raises:
        UserError: No such connectivity.
    """
    _check_connectivity(connectivity)
    if minimum_voxels <= 1:
        return np.ascontiguousarray(mask)
    kept: Mask = cc3d.dust(mask, threshold=minimum_voxels, connectivity=connectivity, in_place=False)
    return np.ascontiguousarray(kept)


def _fill(mask: Mask, maximum_voxels: int) -> Mask:
    if maximum_voxels == 0:
        return np.ascontiguousarray(mask)
    labels, count = _labelled((mask == 0).view(np.uint8), 26)
    sizes = np.asarray(cc3d.statistics(labels, no_slice_conversion=True)["voxel_counts"])[: count + 1]
    fill = sizes <= maximum_voxels
    fill[0] = False  # label 0 is the surface itself
    for axis in range(3):
        for face in (0, -1):
            fill[np.unique(np.take(labels, face, axis=axis))] = False  # open to the outside
    if not fill.any():
        return np.ascontiguousarray(mask)
    return np.ascontiguousarray(mask | fill[labels].view(np.uint8))


def _labelled(mask: Mask, connectivity: Connectivity) -> tuple[NDArray[np.unsignedinteger], int]:
    """Labels [Z, Y, X] of a mask's components from 1, and their number."""
    _check_connectivity(connectivity)
    mask = np.ascontiguousarray(mask)  # uint8: cc3d 4.1 fails on booleans of a thin volume
    labels, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True)
    return labels, count


def _check_connectivity(connectivity: Connectivity) -> None:
    if connectivity not in CONNECTIVITIES:
        raise UserError(f"connectivity must be one of {CONNECTIVITIES} (faces, edges, corners), got {connectivity}")


def _radii(radius_voxels: Radius) -> tuple[int, int, int]:
    radii = (radius_voxels,) * 3 if isinstance(radius_voxels, int) else radius_voxels
    if len(radii) != 3 or min(radii) < 0:
        raise UserError(f"a radius must be 0 or more voxels, one or three (z, y, x), got {radius_voxels}")
    return radii

"""Targets that a data loader can make ahead of time in its workers: medial surfaces of sheets and of the gaps between.

A sheet is a surface, so what must not be lost is its medial *surface*; a curve skeleton of it is wrong (Skeleton
Recall, Kirchhoff et al., ECCV 2024, made for tubes, skeletonises to curves). And what must not be filled is the medial
surface of the narrow gap between two sheets: one voxel there joins them.

Both are ridges of a Euclidean distance transform. Off the ridge the distance rises with slope 1 towards it; on it the
slope collapses (to 0 in the middle of an odd thickness, 1/2 in the two middle layers of an even one). A voxel is on
the ridge if the squared slope by central differences is below 0.3, or if no neighbour is farther in. The bound is what
voxelised planes allow: at 0.3, planes of random tilts and thicknesses had every ridge voxel within one voxel of the
middle, and every voxel of the middle within one of the ridge; at 0.4 the rounding of the distances to steps already
passes for a ridge.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import edt
import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError
from volumen.kernels import pooling_loops as loops

_LARGEST_SQUARED_SLOPE = 0.3

Mask = NDArray[np.bool_]
Maker: TypeAlias = Callable[[NDArray[np.uint8], Mask], NDArray[np.uint8]]


def medial_surface(target: NDArray[np.uint8], valid: Mask) -> NDArray[np.uint8]:
    """Medial surface of the labelled sheets, one or two voxels thick.

    Ignored voxels count as outside the sheet: every labelled piece of surface has a middle of its own, and all of it is
    true surface. (Looking through them instead would leave surface that is labelled right up to them without a target.)

    Args:
        target: [Z, Y, X] in {0, 1}.
        valid: [Z, Y, X].

    Returns:
        [Z, Y, X] in {0, 1}, a subset of the valid surface. All 0 if there is no surface, or nothing else.
    """
    surface = (target == 1) & valid
    if not surface.any() or surface.all():
        return np.zeros(surface.shape, np.uint8)
    return _ridge(surface)[0]


def sheet_gap(target: NDArray[np.uint8], valid: Mask) -> NDArray[np.uint8]:
    """Medial surface of the background between sheets, valued with the width of the gap there.

    Ignored voxels are looked through and never marked: a strip of background between a sheet and an unlabelled region
    is no gap. Nor is one between a sheet and the array's border, so the outermost voxels are never marked.

    Args:
        target: [Z, Y, X] in {0, 1}.
        valid: [Z, Y, X].

    Returns:
        uint8 [Z, Y, X]: 0 off the ridge, else the width of the gap in voxels, 2 d - 1 for the distance d to the nearest
        surface voxel (exact for odd widths of flat gaps, one less for even ones), rounded, at most 255.
    """
    surface = (target == 1) & valid
    if not surface.any() or surface.all():
        return np.zeros(surface.shape, np.uint8)
    ridge, distance = _ridge(~surface)
    inner = np.zeros(surface.shape, np.bool_)
    inner[1:-1, 1:-1, 1:-1] = valid[1:-1, 1:-1, 1:-1]
    width = np.clip(np.rint(2 * distance - 1), 1, 255)
    return np.where(inner & (ridge == 1), width, 0).astype(np.uint8)


def _ridge(inside: Mask) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Ridge of the distance to the outside of `inside`, and that distance; both 0 outside."""
    distance = np.ascontiguousarray(edt.edt(np.ascontiguousarray(inside)), np.float32)
    dilated = np.empty_like(distance)
    loops.dilate(distance, dilated)
    ridge = np.empty(inside.shape, np.uint8)
    loops.ridge(distance, dilated, _LARGEST_SQUARED_SLOPE, ridge)
    ridge[~inside] = 0
    return ridge, distance


PRECOMPUTE: dict[str, Maker] = {
    "medial_surface": medial_surface,
    "sheet_gap": sheet_gap,
}


def target_makers(names: Iterable[str]) -> dict[str, Maker]:
    """The functions that make some targets, for the data loader's workers.

    Raises:
        UserError: There is none of such a name.
    """
    chosen = tuple(names)
    unknown = sorted(set(chosen) - set(PRECOMPUTE))
    if unknown:
        raise UserError(f"unknown precomputed targets {unknown}: known are {sorted(PRECOMPUTE)}")
    return {name: PRECOMPUTE[name] for name in chosen}

"""Surface Dice: the share of both surfaces that lies within a tolerance of the other one.

Where voxels are cubes, distances between surface elements are roots of integers, so "within the tolerance" is a
dilation with a digital ball and needs no distance transform: rows are packed into 64-bit words, which the dilation
shifts and ors. Other spacings, and balls so large that it would be slow, go through the distance transform of `edt`.

Source: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy" (2018).
"""

import math
from typing import NamedTuple

import edt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.masks import binarise
from volumen.metrics.packing import packed_rows, unpacked_rows
from volumen.metrics.surface_elements import UNIT, Spacing, element_areas, surface_elements
from volumen.system.compiled import Array, compiled

LARGEST_BALL = 16
"""Radius in voxels up to which a dilation is quicker than a distance transform."""
_ROUNDING = 1e-6
"""Relative: distances that equal the tolerance but for rounding (`edt` computes in float32) are within it."""


@compiled
def _widened(source: Array) -> Array:
    """The words [Z,Y,words] with each bit also set on both its neighbours along x."""
    wider = np.empty_like(source)
    words = source.shape[2]
    for z in range(source.shape[0]):
        for y in range(source.shape[1]):
            for k in range(words):
                word = source[z, y, k]
                left = source[z, y, k - 1] >> np.uint64(63) if k > 0 else np.uint64(0)
                right = source[z, y, k + 1] << np.uint64(63) if k + 1 < words else np.uint64(0)
                wider[z, y, k] = word | word << np.uint64(1) | word >> np.uint64(1) | left | right
    return wider


@compiled
def _dilated(surface: Array, squared_tolerance: float) -> Array:
    """All positions within the tolerance of a surface element: a dilation with the digital ball."""
    depth, height, words = surface.shape
    radius = 0
    while (radius + 1) * (radius + 1) <= squared_tolerance:
        radius += 1
    result = np.zeros_like(surface)
    wide = surface
    for half in range(radius + 1):
        # The offsets (dz, dy) whose chord of the ball reaches exactly `half` along x.
        for dz in range(-radius, radius + 1):
            for dy in range(-radius, radius + 1):
                across = dz * dz + dy * dy
                if across + half * half > squared_tolerance or across + (half + 1) * (half + 1) <= squared_tolerance:
                    continue
                for z in range(max(0, -dz), min(depth, depth - dz)):
                    for y in range(max(0, -dy), min(height, height - dy)):
                        for k in range(words):
                            result[z, y, k] |= wide[z + dz, y + dy, k]
        if half < radius:
            wide = _widened(wide)
    return result


@compiled
def _count_patterns(packed: Array, surface: Array, near: Array) -> tuple[Array, Array]:
    """How often each pattern occurs on a surface, [256], and how often near the other surface, [256]."""
    total = np.zeros(256, np.int64)
    close = np.zeros(256, np.int64)
    one = np.uint64(1)
    for z in range(surface.shape[0]):
        for y in range(surface.shape[1]):
            for k in range(surface.shape[2]):
                word = surface[z, y, k]
                while word:
                    lowest = word & (~word + one)
                    word ^= lowest
                    code = 0
                    for dz in range(2):
                        for dy in range(2):
                            row = packed[z + dz, y + dy, k]
                            code = code << 1 | (1 if row & lowest else 0)
                            beyond = lowest << one
                            if beyond:
                                code = code << 1 | (1 if row & beyond else 0)
                            else:
                                last = k + 1 < surface.shape[2] and packed[z + dz, y + dy, k + 1] & one
                                code = code << 1 | (1 if last else 0)
                    total[code] += 1
                    if near[z, y, k] & lowest:
                        close[code] += 1
    return total, close


class Surface(NamedTuple):
    """The surface of a mask and everything near it, as bits; see `packed_rows`."""

    packed: Array
    """The mask [Z+2,Y+2,words]."""
    elements: Array
    """Its surface elements [Z+1,Y+1,words]."""
    reach: Array
    """The positions within the tolerance of one of them, of the same shape."""


def check_distances(tolerance: float, spacing: Spacing) -> None:
    """Raise a `UserError` for a negative or infinite tolerance, or a spacing that is not three positive numbers."""
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise UserError(f"tolerance must be a distance of 0 or more, got {tolerance}: the leaderboard uses 2.0")
    if len(spacing) != 3 or not all(step > 0 and math.isfinite(step) for step in spacing):
        raise UserError(
            f"spacing must be three numbers above 0 (z, y, x), got {spacing}: the leaderboard uses {UNIT}, in voxels"
        )


def surface_of(mask: NDArray[np.uint8], tolerance: float, spacing: Spacing) -> Surface | None:
    """The surface of a mask [Z,Y,X] of 0 and 1 and what lies within the tolerance of it; None for an empty mask."""
    packed = packed_rows(mask)
    if not packed.any():
        return None
    elements = surface_elements(packed)
    radius = tolerance / spacing[0] * (1 + _ROUNDING)
    if len(set(spacing)) == 1 and radius < LARGEST_BALL + 1:
        return Surface(packed, elements, _dilated(elements, radius * radius))
    away = unpacked_rows(elements, mask.shape[2] + 1) ^ 1
    squares = edt.edtsq(away, anisotropy=spacing, black_border=False, parallel=1)
    near = np.less_equal(squares, (tolerance * (1 + _ROUNDING)) ** 2, out=away.view(np.bool_))
    return Surface(packed, elements, packed_rows(near.view(np.uint8), margin=0))


def surface_dice_of(prediction: Surface | None, truth: Surface | None, spacing: Spacing) -> float:
    """Surface Dice of two surfaces that were found with the same tolerance and spacing."""
    if prediction is None or truth is None:
        return 1.0 if prediction is truth else 0.0
    near_truth = _count_patterns(prediction.packed, prediction.elements, truth.reach)
    near_prediction = _count_patterns(truth.packed, truth.elements, prediction.reach)
    total, close = (one + other for one, other in zip(near_truth, near_prediction, strict=True))
    areas = element_areas(spacing)
    return float(close @ areas / (total @ areas))


def surface_dice(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    ignore_label: int = 2,
    tolerance: float = 2.0,
    spacing: Spacing = UNIT,
) -> float:
    """Area of both surfaces within `tolerance` of the other one, over their total area.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        tolerance: in the unit of `spacing`; the leaderboard uses 2.0 voxels.
        spacing: of the voxels along z, y and x, in any unit of length; the leaderboard counts in voxels.

    Returns:
        a number from 0 to 1; 1 where both masks are empty, 0 where one is.

    Raises:
        UserError: volumes that cannot be compared, a negative tolerance or a spacing that is not positive.
    """
    check_distances(tolerance, spacing)
    masks = binarise(prediction, truth, ignore_label)
    predicted, true = (surface_of(mask, tolerance, spacing) for mask in masks)
    return surface_dice_of(predicted, true, spacing)

"""Surface Dice: the share of both surfaces that lies within a tolerance of the other one.

Every 2 x 2 x 2 neighbourhood of voxels that is neither empty nor full is a surface element, whose area depends on its
pattern. At unit spacing distances between elements are roots of integers, so "within the tolerance" is a dilation with
a digital ball and needs no distance transform. Rows are packed into 64-bit words; the dilation shifts and ors them.

Source: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy" (2018).
"""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.cells import Array
from volumen.metrics.masks import Masks, binarise
from volumen.metrics.packing import packed_rows

_ROOT_2, _ROOT_3 = math.sqrt(2.0), math.sqrt(3.0)

# Area at unit spacing by the least code of a class of patterns; corner (z, y, x) has bit weight 128 >> (4 z + 2 y + x).
_CLASS_AREAS = {
    0: 0.0,
    1: _ROOT_3 / 8,
    3: _ROOT_2 / 2,
    6: _ROOT_3 / 4,
    7: 1 / 2 + 3 * _ROOT_3 / 8,
    15: 1.0,
    22: 3 * _ROOT_3 / 8,
    23: 3 * _ROOT_3 / 4,
    24: _ROOT_3 / 4,
    25: _ROOT_2 / 2 + _ROOT_3 / 8,
    27: _ROOT_2 / 2 + _ROOT_3 / 2,
    30: 1 / 2 + _ROOT_3 / 2,
    60: _ROOT_2,
    105: _ROOT_3 / 2,
}


def _cube_symmetries() -> Iterator[tuple[int, ...]]:
    """Where each of the eight corners goes under the 48 symmetries of a cube."""
    corners = list(itertools.product((0, 1), repeat=3))
    for axes in itertools.permutations(range(3)):
        for flips in corners:
            images = [tuple(corner[axis] ^ flips[axis] for axis in axes) for corner in corners]
            yield tuple(4 * z + 2 * y + x for z, y, x in images)


@cache
def element_areas() -> NDArray[np.float64]:
    """Area of the surface element of each of the 256 patterns, unit spacing."""
    symmetries = list(_cube_symmetries())
    areas = np.empty(256)
    for code in range(256):
        corners = [k for k in range(8) if code & (128 >> k)]
        images = [sum(128 >> image[k] for k in corners) for image in symmetries]
        areas[code] = _CLASS_AREAS[min(min(images), 255 - max(images))]
    return areas


@njit(nogil=True, cache=True)
def _surface(packed: Array) -> Array:
    """The surface elements [Z+1, Y+1, words]: element (z, y, x) spans padded voxels z..z+1, y..y+1, x..x+1."""
    depth, height, words = packed.shape[0] - 1, packed.shape[1] - 1, packed.shape[2]
    surface = np.zeros((depth, height, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            for k in range(words):
                a, b, c, d = packed[z, y, k], packed[z, y + 1, k], packed[z + 1, y, k], packed[z + 1, y + 1, k]
                some, every = a | b | c | d, a & b & c & d
                some_next, every_next = np.uint64(0), np.uint64(0)
                if k + 1 < words:
                    a, b = packed[z, y, k + 1], packed[z, y + 1, k + 1]
                    c, d = packed[z + 1, y, k + 1], packed[z + 1, y + 1, k + 1]
                    some_next, every_next = a | b | c | d, a & b & c & d
                some |= some >> np.uint64(1) | some_next << np.uint64(63)
                every &= every >> np.uint64(1) | every_next << np.uint64(63)
                surface[z, y, k] = some & ~every
    return surface


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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


def surface_dice_of_masks(masks: Masks, tolerance: float) -> float:
    """`surface_dice` of two masks that are already binary."""
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise UserError(f"tolerance must be a distance of 0 voxels or more, got {tolerance}: the leaderboard uses 2.0")
    packed = [packed_rows(mask) for mask in masks]
    filled = [bool(bits.any()) for bits in packed]
    if not all(filled):
        return 0.0 if any(filled) else 1.0
    surfaces = [_surface(bits) for bits in packed]
    reach = [_dilated(surface, float(tolerance) ** 2) for surface in surfaces]
    total = np.zeros(256, np.int64)
    close = np.zeros(256, np.int64)
    for own, other in ((0, 1), (1, 0)):
        counts = _count_patterns(packed[own], surfaces[own], reach[other])
        total += counts[0]
        close += counts[1]
    areas = element_areas()
    return float(close @ areas / (total @ areas))


def surface_dice(prediction: ArrayLike, truth: ArrayLike, *, ignore_label: int = 2, tolerance: float = 2.0) -> float:
    """Area of both surfaces within `tolerance` of the other one, over their total area.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        tolerance: in voxels, at unit spacing; the leaderboard uses 2.0.

    Returns:
        a number from 0 to 1; 1 where both masks are empty, 0 where one is.

    Raises:
        UserError: volumes that cannot be compared, or a negative tolerance.
    """
    return surface_dice_of_masks(binarise(prediction, truth, ignore_label), tolerance)

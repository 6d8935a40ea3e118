"""Masks as bits: a row of voxels in 64-bit words, so that one operation treats 64 voxels."""

from typing import Any

import numpy as np
from numba import njit

from volumen.metrics.cells import Array


@njit(nogil=True, cache=True)
def packed_rows(mask: Array) -> Array:
    """Pack a mask [Z,Y,X] of 0 and 1 into words [Z+2,Y+2,words], with a margin of one empty voxel on every side.

    Bit k of a row is voxel x = k - 1; the last bits of a row are always empty.
    """
    depth, height, width = mask.shape
    words = (width + 1) // 64 + 1
    packed = np.zeros((depth + 2, height + 2, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if mask[z, y, x]:
                    packed[z + 1, y + 1, (x + 1) >> 6] |= np.uint64(1) << np.uint64((x + 1) & 63)
    return packed


def _bit_positions() -> Array:
    positions = np.zeros(67, np.int64)
    for k in range(64):
        positions[2**k % 67] = k
    return positions


_POSITIONS = _bit_positions()


@njit(nogil=True, cache=True, inline="always")
def bit_position(bit: int) -> Any:
    """The position of the only set bit of a 64-bit word: 2^k modulo 67 differs for every k."""
    return _POSITIONS[bit % np.uint64(67)]

"""Masks as bits: a row of voxels in 64-bit words, so that one operation treats 64 voxels."""

from typing import Any

import numpy as np

from volumen.system.compiled import Array, compiled


@compiled
def packed_rows(mask: Array, margin: int = 1) -> Array:
    """Pack a mask [Z,Y,X] of 0 and 1 into words [Z+2,Y+2,words], with a margin of one empty voxel on every side.

    Bit k of a row is voxel x = k - 1; the last bits of a row are always empty. With another `margin` the shape is
    [Z+2*margin,Y+2*margin,words] and bit k is voxel x = k - margin.
    """
    depth, height, width = mask.shape
    words = (width + margin) // 64 + 1
    packed = np.zeros((depth + 2 * margin, height + 2 * margin, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if mask[z, y, x]:
                    k = x + margin
                    packed[z + margin, y + margin, k >> 6] |= np.uint64(1) << np.uint64(k & 63)
    return packed


@compiled
def unpacked_rows(packed: Array, width: int) -> Array:
    """The first `width` bits of every row [Z,Y,words] as a mask [Z,Y,width] of 0 and 1 (uint8)."""
    mask = np.empty((packed.shape[0], packed.shape[1], width), np.uint8)
    for z in range(packed.shape[0]):
        for y in range(packed.shape[1]):
            for x in range(width):
                mask[z, y, x] = packed[z, y, x >> 6] >> np.uint64(x & 63) & np.uint64(1)
    return mask


def _bit_positions() -> Array:
    positions = np.zeros(67, np.int64)
    for k in range(64):
        positions[2**k % 67] = k
    return positions


_POSITIONS = _bit_positions()


@compiled(inline="always")
def bit_position(bit: int) -> Any:
    """The position of the only set bit of a 64-bit word: 2^k modulo 67 differs for every k."""
    return _POSITIONS[bit % np.uint64(67)]

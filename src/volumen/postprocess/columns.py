"""Pieces of a mask seen as heights over the grid's planes: what `sheets` and `splitting` have in common.

Whether a piece is one sheet can be told only locally, because a sheet winds through a volume: the steps look at
overlapping blocks. In a block, a piece is seen along the axis on which its shadow is largest, which for a sheet is the
axis nearest to its normal. Where a line along that axis meets the piece in more than one run, the piece is folded.
"""

import itertools
from collections.abc import Iterator

import cc3d
import numpy as np
from numpy.typing import NDArray

from volumen.data.packed import Region
from volumen.errors import UserError
from volumen.system.compiled import Array, compiled

MINIMUM_BLOCK_VOXELS = 8


def blocks(shape: tuple[int, ...], side_voxels: int) -> Iterator[Region]:
    """Cubes that cover a volume and overlap by half or more; the last of an axis ends with the volume.

    Whatever is no larger than half a side lies inside of one cube at least.

    Raises:
        UserError: A side below 8 voxels.
    """
    if side_voxels < MINIMUM_BLOCK_VOXELS:
        raise UserError(f"blocks need sides of {MINIMUM_BLOCK_VOXELS} voxels or more, got {side_voxels}")
    starts = [[*range(0, length - side_voxels, side_voxels // 2), max(0, length - side_voxels)] for length in shape]
    for z, y, x in itertools.product(*starts):
        yield slice(z, z + side_voxels), slice(y, y + side_voxels), slice(x, x + side_voxels)


def pieces_of(block: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], int]:
    """Labels uint32 [Z, Y, X] of the 26-connected pieces of a block (uint8), from 1, and their number."""
    block = np.ascontiguousarray(block)
    labels, count = cc3d.connected_components(block, connectivity=26, return_N=True, out_dtype=np.uint32)
    return np.asarray(labels, np.uint32), int(count)


@compiled
def column_counts(labels: Array, pieces: int) -> tuple[Array, Array]:
    """How many lines along each axis meet each piece, and how many of them in more than one run.

    Labels are uint32 [Z, Y, X], C-contiguous, up to `pieces`; the counts int64 [3 axes, pieces + 1] each.
    """
    shape = labels.shape
    steps = (shape[1] * shape[2], shape[2], 1)
    flat = labels.reshape(-1)
    columns = np.zeros((3, pieces + 1), np.int64)
    folded = np.zeros((3, pieces + 1), np.int64)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        seen = np.full(pieces + 1, -1, np.int64)  # the last column that met the piece
        runs = np.zeros(pieces + 1, np.int64)
        for i in range(shape[first]):
            for j in range(shape[second]):
                column = i * shape[second] + j
                place = i * steps[first] + j * steps[second]
                previous = np.uint32(0)
                for _ in range(shape[axis]):
                    label = flat[place]
                    place += steps[axis]
                    if label != previous and label != 0:
                        if seen[label] != column:
                            seen[label] = column
                            runs[label] = 0
                            columns[axis, label] += 1
                        runs[label] += 1
                        folded[axis, label] += runs[label] == 2
                    previous = label
    return columns, folded


def largest_shadow(columns: Array, folded: Array) -> tuple[Array, Array, Array]:
    """The axis on which each piece has most columns, and its columns and folded columns there; each [pieces + 1]."""
    axes = np.argmax(columns, axis=0)
    every = np.arange(columns.shape[1])
    return axes, columns[axes, every], folded[axes, every]

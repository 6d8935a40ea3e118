"""Run-length view of a mask: 26-connected components without a label volume.

A thin sheet meets a row of voxels in a few runs, so joining runs costs a fraction of joining voxels, and the labels of
a 320^3 volume fit into a few megabytes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from volumen.metrics.cells import find, unite
from volumen.metrics.packing import bit_position, packed_rows
from volumen.system.compiled import Array, compiled, grown


class Runs(NamedTuple):
    """The foreground of a mask [Z,Y,X] as runs along x.

    Row r = z * Y + y holds the runs `rows[r]` to `rows[r + 1] - 1`; run i covers x from `starts[i]` to `stops[i] - 1`
    and belongs to component `labels[i]`, counted from 1.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    labels: NDArray[np.int32]
    components: int


@compiled
def _find_runs(packed: Array) -> tuple[Array, Array, Array]:
    """The runs of a packed mask: first run of each row, start and stop of each run."""
    depth, height = packed.shape[0] - 2, packed.shape[1] - 2
    rows = np.zeros(depth * height + 1, np.int64)
    places = np.empty(8192, np.int32)  # starts and stops in turn
    count = 0
    for z in range(depth):
        for y in range(height):
            carry = np.uint64(0)
            for k in range(packed.shape[2]):
                word = packed[z + 1, y + 1, k]
                changes = word ^ (word << np.uint64(1) | carry)
                carry = word >> np.uint64(63)
                if count + 64 > len(places):
                    places = grown(places)
                while changes:
                    lowest = changes & (~changes + np.uint64(1))
                    changes ^= lowest
                    places[count] = 64 * k + bit_position(lowest) - 1
                    count += 1
            rows[z * height + y + 1] = count // 2
    return rows, places[:count:2].copy(), places[1:count:2].copy()


@compiled
def _join_rows(rows: Array, starts: Array, stops: Array, first: int, second: int, parent: Array) -> None:
    """Unite the runs of two rows that touch by a face, an edge or a corner."""
    i, j = rows[first], rows[second]
    while i < rows[first + 1] and j < rows[second + 1]:
        if starts[i] <= stops[j] and starts[j] <= stops[i]:
            unite(parent, i, j)
        if stops[i] < stops[j]:
            i += 1
        else:
            j += 1


@compiled
def _label_runs(rows: Array, starts: Array, stops: Array, depth: int, height: int) -> tuple[Array, int]:
    parent = np.arange(len(starts)).astype(np.int32)
    for z in range(depth):
        for y in range(height):
            row = z * height + y
            if rows[row] == rows[row + 1]:
                continue
            if y > 0:
                _join_rows(rows, starts, stops, row, row - 1, parent)
            if z > 0:
                for step in range(-1, 2):
                    if 0 <= y + step < height:
                        _join_rows(rows, starts, stops, row, row - height + step, parent)
    labels = np.zeros(len(parent), np.int32)
    count = 0
    for run in range(len(parent)):
        root = find(parent, run)
        if root == run:  # the root is the least run of its component
            count += 1
            labels[run] = count
        else:
            labels[run] = labels[root]
    return labels, count


def labelled_runs(mask: NDArray[np.uint8]) -> Runs:
    """Label the 26-connected components of a mask [Z,Y,X] of 0 and 1 (uint8)."""
    rows, starts, stops = _find_runs(packed_rows(mask))
    labels, components = _label_runs(rows, starts, stops, mask.shape[0], mask.shape[1])
    return Runs(rows, starts, stops, labels, int(components))

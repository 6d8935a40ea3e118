"""Cavities of a tile: the enclosed 26-connected components of the background, and those both masks share.

They are the components of the dual graph (a node for every cube of eight voxels and one for the outside, an edge for
every square that is not in the set). The graph's spanning forest, grown from the last square to the first, is also
what `tunnels` needs: its squares bear the positive pairings of dimension 2 and can be left out there.

Sweeping the planes from last to first, a cube takes the label of the neighbour behind its largest open face; that edge
is always in the forest. Only the few squares that nothing local decides go through the union-find.
"""

import cc3d
import numpy as np
from numba import njit
from numpy.typing import NDArray

from volumen.metrics.cells import DROPPED, INSIDE, grown, square, unite


@njit(nogil=True, cache=True)
def _label_plane(flags, z, shape, bit, mark, behind, labels, parent, count):
    """Label the cubes of plane z; `behind` holds the labels of plane z + 1. Returns the forest and its size."""
    height, width = shape[1], shape[2]
    plane, row = (height + 2) * (width + 2), width + 2
    for y in range(height - 1, 0, -1):
        for x in range(width - 1, 0, -1):
            v = z * plane + y * row + x
            if not square(flags, v + plane, 0, plane, row) & bit:
                labels[y, x] = behind[y, x]
                if mark:
                    flags[v + plane] |= DROPPED
            elif not square(flags, v + row, 1, plane, row) & bit:
                labels[y, x] = labels[y + 1, x]
                if mark:
                    flags[v + row] |= DROPPED << 1
            elif not square(flags, v + 1, 2, plane, row) & bit:
                labels[y, x] = labels[y, x + 1]
                if mark:
                    flags[v + 1] |= DROPPED << 2
            elif flags[v] & bit:  # the whole cube is in the set: no edge reaches it before the set's own squares
                labels[y, x] = -1
                if mark:
                    flags[v + plane] |= DROPPED
            else:
                if count == len(parent):
                    parent = grown(parent)
                parent[count] = count
                labels[y, x] = count
                count += 1
    return parent, count


@njit(nogil=True, cache=True)
def dual_forest(flags, shape, bit, mark):
    """Grow the dual spanning forest of the complement of the set `bit` of a tile.

    With `mark`, the squares of the forest get their `DROPPED` flag in place.

    Returns:
        the number of cavities, and the squares that close a cycle of the dual graph and that no single edge excludes,
        from last to first: where a tunnel can die.
    """
    depth, height, width = shape
    plane, row = (height + 2) * (width + 2), width + 2
    behind = np.zeros((height + 2, width + 2), np.int32)
    labels = np.zeros((height + 2, width + 2), np.int32)
    parent = np.empty(256, np.int32)
    parent[0] = 0  # the outside
    count, merged, closing = 1, 0, 0
    cycles = np.empty(256, np.int64)
    for z in range(depth, 0, -1):
        if z < depth:
            behind, labels = labels, behind
            parent, count = _label_plane(flags, z, shape, bit, mark, behind, labels, parent, count)
        for y in range(height, 0, -1):
            for x in range(width, 0, -1):
                v = z * plane + y * row + x
                for normal in range(2, -1, -1):
                    # Squares across axis 0 were all taken by the cube before them, but for the first plane.
                    if normal == 0 and z > 1:
                        continue
                    corners = square(flags, v, normal, plane, row)
                    if corners & bit or not corners & INSIDE or (mark and flags[v] & (DROPPED << normal)):
                        continue
                    if normal > 0 and not flags[v + plane] & flags[v + plane + (row if normal == 2 else 1)] & bit:
                        continue  # the smallest square of an edge outside the set: it closes a cycle around that edge
                    other = labels[y, x - 1] if normal == 2 else labels[y - 1, x] if normal == 1 else 0
                    if unite(parent, labels[y, x], other):
                        merged += 1
                        if mark:
                            flags[v] |= DROPPED << normal
                    elif mark:
                        if closing == len(cycles):
                            cycles = grown(cycles)
                        cycles[closing] = 3 * v + normal
                        closing += 1
    return count - 1 - merged, cycles[:closing]


def _cavity_labels(foreground: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Label the cavities of a tile; foreground and the background that reaches the border are 0."""
    labels = cc3d.connected_components((~foreground).view(np.uint8), connectivity=26, out_dtype=np.uint32)
    outer = np.zeros(int(labels.max()) + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            outer[labels.take(end, axis=axis)] = True
    labels[outer[labels]] = 0
    return labels  # type: ignore[no-any-return]


def matched_cavities(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> int:
    """m2 of a tile: cavities of the union that are the last one inside both their predicted and their true cavity."""
    inner = _cavity_labels(prediction | truth)
    positions = np.flatnonzero(inner)
    last = np.zeros(int(inner.max()) + 1, np.int64)
    np.maximum.at(last, inner.ravel()[positions], positions)
    ends = last[last > 0]
    matched = np.ones(len(ends), bool)
    for mask in (prediction, truth):
        outer = _cavity_labels(mask).ravel()[ends]
        representative = np.zeros(int(outer.max(initial=0)) + 1, np.int64)
        np.maximum.at(representative, outer, ends)
        matched &= (outer > 0) & (representative[outer] == ends)
    return int(matched.sum())

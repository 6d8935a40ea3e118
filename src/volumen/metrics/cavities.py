"""Cavities of a tile: the enclosed 26-connected components of the background, and those both masks share.

They are the components of the dual graph (a node for every cube of eight voxels and one for the outside, an edge for
every square that is not in the set). The graph's spanning forest, grown from the last square to the first, is also
what `tunnels` needs: its squares bear the positive pairings of dimension 2 and can be left out there.

Sweeping the planes from last to first, a cube takes the label of the neighbour behind its largest open face; that edge
is always in the forest. Only the few squares that nothing local decides go through the union-find.
"""

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from volumen.metrics.cells import DROPPED, INSIDE, Shape, square, unite
from volumen.system.compiled import Array, compiled, grown


@compiled
def _label_plane(
    flags: Array, z: int, shape: Shape, bit: int, mark: bool, behind: Array, labels: Array, parent: Array, count: int
) -> tuple[Array, int]:
    """Label the cubes of plane z; `behind` holds the labels of plane z + 1. Returns the forest and its size."""
    height, width = shape[1], shape[2]
    plane, row = (height + 2) * (width + 2), width + 2
    ahead = np.empty(width, np.uint8)
    for y in range(height - 1, 0, -1):
        line = z * plane + y * row
        face = (
            flags[line + plane : line + plane + width + 1] & flags[line + plane + row : line + plane + row + width + 1]
        )
        taken = np.uint8(0)
        for x in range(1, width):  # the squares across axis 0, for the whole row: this loop compiles to vectors
            ahead[x] = face[x] & face[x + 1]
            taken |= ahead[x]
        if not taken & bit:
            labels[y, 1:width] = behind[y, 1:width]
            if mark:
                flags[line + plane + 1 : line + plane + width] |= np.uint8(DROPPED)
            continue
        for x in range(width - 1, 0, -1):
            v = line + x
            if not ahead[x] & bit:
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


@compiled
def _undecided(flags: Array, line: int, width: int, plane: int, row: int, found: Array) -> Any:
    """Mark in `found` where a square across axis 1 or 2 is outside a set though its edge in the next plane is inside.

    Any other square outside the set closes a cycle of the dual graph around an edge outside the set, whose smallest it
    is. All sets are treated at once; returns the *or* over the row.
    """
    own = flags[line : line + width + 2]
    beside = flags[line + row : line + row + width + 2]
    ahead = flags[line + plane : line + plane + width + 2]
    diagonal = flags[line + plane + row : line + plane + row + width + 2]
    some = np.uint8(0)
    for x in range(1, width + 1):
        column = own[x] & ahead[x]
        found[x] = (ahead[x] & diagonal[x] & ~(column & beside[x])) | (ahead[x] & ahead[x + 1] & ~(column & own[x + 1]))
        some |= found[x]
    return some


@compiled
def dual_forest(flags: Array, shape: Shape, bit: int, mark: bool) -> tuple[int, Array]:
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
    found = np.zeros(width + 2, np.uint8)
    parent = np.empty(256, np.int32)
    parent[0] = 0  # the outside
    count, merged, closing = 1, 0, 0
    cycles = np.empty(256, np.int64)
    for z in range(depth, 0, -1):
        if z < depth:
            behind, labels = labels, behind
            parent, count = _label_plane(flags, z, shape, bit, mark, behind, labels, parent, count)
        for y in range(height, 0, -1):
            if not _undecided(flags, z * plane + y * row, width, plane, row, found) & bit and z > 1:
                continue
            for x in range(width, 0, -1):
                if not found[x] & bit and z > 1:
                    continue
                v = z * plane + y * row + x
                for normal in range(2, -1, -1):
                    # Squares across axis 0 were all taken by the cube before them, but for the first plane.
                    if normal == 0 and z > 1:
                        continue
                    corners = square(flags, v, normal, plane, row)
                    if corners & bit or not corners & INSIDE or (mark and flags[v] & (DROPPED << normal)):
                        continue
                    if normal > 0 and not flags[v + plane] & flags[v + plane + (row if normal == 2 else 1)] & bit:
                        continue
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
    labels: NDArray[np.uint32] = np.asarray(
        cc3d.connected_components((~foreground).view(np.uint8), connectivity=26), np.uint32
    )
    outer = np.zeros(int(labels.max()) + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            outer[labels.take(end, axis=axis)] = True
    labels[outer[labels]] = 0
    return labels


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

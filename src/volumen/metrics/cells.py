"""The cubical complex of one tile, addressed by integers, for the compiled topology kernels.

A tile is one flat byte array with a margin of one voxel on every side, so that no kernel needs a bounds check: voxels
of the tile carry `INSIDE`, those of the margin carry nothing. A cell exists, or lies in a set, when all its voxels do:
the bitwise *and* of its corner bytes answers every such question at once. This is the V-construction (voxels are
vertices), in which foreground is 6-connected and background 26-connected.

Edges are `3 * voxel + axis`, squares `3 * voxel + normal axis`, both based at their smallest voxel, so their numbers
grow in the order (z, y, x, type) on which the ties of the matching rest.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

PREDICTED = 1
TRUE = 2
UNION = 4
INSIDE = 8
DROPPED = 16  # shifted left by the type of a square: it carries a positive pairing and can never be a pivot

Flags = NDArray[np.uint8]


@njit(nogil=True, cache=True)
def tile_flags(prediction, truth, start, stop):
    """Copy a box of the two masks [Z,Y,X] (0 or 1, uint8) into the flat padded byte array of a tile."""
    depth, height, width = stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]
    flags = np.zeros((depth + 2, height + 2, width + 2), np.uint8)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                p = prediction[start[0] + z, start[1] + y, start[2] + x]
                g = truth[start[0] + z, start[1] + y, start[2] + x]
                flags[z + 1, y + 1, x + 1] = INSIDE | p * PREDICTED | g * TRUE | (p | g) * UNION
    return flags.reshape(-1)


@njit(nogil=True, cache=True, inline="always")
def square(flags, base, normal, plane, row):
    """The *and* of the four corner bytes of a square; `plane` and `row` are the strides of z and y."""
    if normal == 0:
        return flags[base] & flags[base + row] & flags[base + 1] & flags[base + row + 1]
    if normal == 1:
        return flags[base] & flags[base + plane] & flags[base + 1] & flags[base + plane + 1]
    return flags[base] & flags[base + plane] & flags[base + row] & flags[base + plane + row]


@njit(nogil=True, cache=True, inline="always")
def coface(edge, which, plane, row):
    """The square number `which` (0..3, in ascending order) of the four that hold an edge; it may not exist."""
    voxel = edge // 3
    axis = edge - 3 * voxel
    if axis == 0:
        if which == 0:
            return 3 * (voxel - row) + 2
        if which == 1:
            return 3 * (voxel - 1) + 1
        return 3 * voxel + (1 if which == 2 else 2)
    if axis == 1:
        if which == 0:
            return 3 * (voxel - plane) + 2
        if which == 1:
            return 3 * (voxel - 1)
        return 3 * voxel + (0 if which == 2 else 2)
    if which == 0:
        return 3 * (voxel - plane) + 1
    if which == 1:
        return 3 * (voxel - row)
    return 3 * voxel + (0 if which == 2 else 1)


@njit(nogil=True, cache=True, inline="always")
def face(square_number, which, plane, row):
    """The edge number `which` (0..3) of a square, in the order in which edges may claim it as their partner."""
    base = square_number // 3
    normal = square_number - 3 * base
    if normal == 2:
        if which == 0:
            return 3 * (base + plane) + 1
        if which == 1:
            return 3 * (base + row)
        return 3 * base + (1 if which == 2 else 0)
    if normal == 1:
        if which == 0:
            return 3 * (base + plane) + 2
        if which == 1:
            return 3 * (base + 1)
        return 3 * base + (2 if which == 2 else 0)
    if which == 0:
        return 3 * (base + 1) + 1
    if which == 1:
        return 3 * (base + row) + 2
    return 3 * base + (1 if which == 2 else 2)


@njit(nogil=True, cache=True, inline="always")
def upper(edge, plane, row):
    """The larger voxel of an edge."""
    voxel = edge // 3
    axis = edge - 3 * voxel
    return voxel + (plane if axis == 0 else row if axis == 1 else 1)


@njit(nogil=True, cache=True)
def find(parent, node):
    """The root of `node` in a union-find forest, halving the path on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(nogil=True, cache=True)
def unite(parent, first, second):
    """Join two trees under the smaller root; return whether they were apart."""
    first, second = find(parent, first), find(parent, second)
    if first == second:
        return False
    if first < second:
        parent[second] = first
    else:
        parent[first] = second
    return True


@njit(nogil=True, cache=True)
def grown(array):
    """A copy of a one-dimensional array with twice the room."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(nogil=True, cache=True)
def euler_characteristics(flags, shape):
    """V - E + F - C on the voxel grid of prediction, truth and their union, as three integers."""
    plane, row = (shape[1] + 2) * (shape[2] + 2), shape[2] + 2
    result = np.zeros(3, np.int64)
    for z in range(1, shape[0] + 1):
        for y in range(1, shape[1] + 1):
            line = z * plane + y * row
            p_sum, g_sum, u_sum = 0, 0, 0
            for v in range(line + 1, line + 1 + shape[2]):
                # Walk the eight corners once: a = and over the cell spanned by the named axes.
                x = flags[v] & flags[v + 1]
                y0 = flags[v] & flags[v + row]
                z0 = flags[v] & flags[v + plane]
                xy = x & flags[v + row] & flags[v + row + 1]
                xz = x & flags[v + plane] & flags[v + plane + 1]
                yz = y0 & flags[v + plane] & flags[v + plane + row]
                xyz = xy & xz & flags[v + plane + row] & flags[v + plane + row + 1]
                own = flags[v]
                p_sum += (own & 1) - (x & 1) - (y0 & 1) - (z0 & 1) + (xy & 1) + (xz & 1) + (yz & 1) - (xyz & 1)
                g_sum += (own & 2) - (x & 2) - (y0 & 2) - (z0 & 2) + (xy & 2) + (xz & 2) + (yz & 2) - (xyz & 2)
                u_sum += (own & 4) - (x & 4) - (y0 & 4) - (z0 & 4) + (xy & 4) + (xz & 4) + (yz & 4) - (xyz & 4)
            result[0] += p_sum
            result[1] += g_sum // 2
            result[2] += u_sum // 4
    return result

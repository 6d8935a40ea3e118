"""The cubical complex of one tile, addressed by integers, for the compiled topology kernels.

A tile is one flat byte array with a margin of one voxel on every side, so that no kernel needs a bounds check: voxels
of the tile carry `INSIDE`, those of the margin carry nothing. A cell exists, or lies in a set, when all its voxels do:
the bitwise *and* of its corner bytes answers every such question at once. This is the V-construction (voxels are
vertices), in which foreground is 6-connected and background 26-connected.

Edges are `3 * voxel + axis`, squares `3 * voxel + normal axis`, both based at their smallest voxel, so their numbers
grow in the order (z, y, x, type) on which the ties of the matching rest.
"""

from typing import Any

import numpy as np

from volumen.system.compiled import Array, compiled

PREDICTED = 1
TRUE = 2
UNION = 4
INSIDE = 8
DROPPED = 16  # shifted left by the type of a square: it carries a positive pairing and can never be a pivot

Shape = tuple[int, int, int]


@compiled
def tile_flags(prediction: Array, truth: Array, start: Shape, stop: Shape) -> Array:
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


@compiled(inline="always")
def square(flags: Array, base: int, normal: int, plane: int, row: int) -> Any:
    """The *and* of the four corner bytes of a square; `plane` and `row` are the strides of z and y."""
    if normal == 0:
        return flags[base] & flags[base + row] & flags[base + 1] & flags[base + row + 1]
    if normal == 1:
        return flags[base] & flags[base + plane] & flags[base + 1] & flags[base + plane + 1]
    return flags[base] & flags[base + plane] & flags[base + row] & flags[base + plane + row]


@compiled(inline="always")
def coface(edge: int, which: int, plane: int, row: int) -> int:
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


@compiled(inline="always")
def face(square_number: int, which: int, plane: int, row: int) -> int:
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


@compiled
def find(parent: Array, node: int) -> Any:
    """The root of `node` in a union-find forest, halving the path on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def unite(parent: Array, first: int, second: int) -> bool:
    """Join two trees under the smaller root; return whether they were apart."""
    first, second = find(parent, first), find(parent, second)
    if first == second:
        return False
    if first < second:
        parent[second] = first
    else:
        parent[first] = second
    return True


@compiled
def euler_characteristics(flags: Array, shape: Shape) -> Array:
    """V - E + F - C on the voxel grid of prediction, truth and their union, as three integers."""
    plane, row = (shape[1] + 2) * (shape[2] + 2), shape[2] + 2
    result = np.zeros(3, np.int64)
    for z in range(1, shape[0] + 1):
        for y in range(1, shape[1] + 1):
            line = z * plane + y * row
            for v in range(line + 1, line + 1 + shape[2]):
                own = flags[v]
                if not own & UNION:
                    continue  # every cell is counted at its smallest voxel
                a = own & flags[v + 1]
                b = own & flags[v + row]
                c = own & flags[v + plane]
                ab = a & b & flags[v + row + 1]
                ac = a & c & flags[v + plane + 1]
                bc = b & c & flags[v + plane + row]
                abc = ab & ac & bc & flags[v + plane + row + 1]
                for k in range(3):
                    bit = 1 << k
                    even = (own & bit) + (ab & bit) + (ac & bit) + (bc & bit)
                    odd = (a & bit) + (b & bit) + (c & bit) + (abc & bit)
                    result[k] += (even >> k) - (odd >> k)
    return result

"""Which edges and squares of a tile pair at sight, and which edges are left for the reduction of `tunnels`.

An edge outside a set whose first square claims it back is a persistence pair that four bytes reveal: it is stored
nowhere and found again when a reduction needs it. Edges of a spanning forest of the set and its background have zero
columns. Because the order of edges of one level is free, edges along axis 0 go into the forest first, which takes a
sweep and no search; only a few thousand edges a tile are neither paired nor in the forest.

Two sets, named by their flags, bound the edges in question: those in `outer` (a set or the whole tile) but not in
`inner`.
"""

from typing import Any

import numpy as np

from volumen.metrics.cells import DROPPED, INSIDE, UNION, Shape, coface, face, square, unite
from volumen.system.compiled import Array, compiled, grown


@compiled
def square_level(flags: Array, number: int, plane: int, row: int) -> int:
    """0 if a square does not exist or is dropped, 1 if it lies in the union, 2 if outside it."""
    base = number // 3
    normal = number - 3 * base
    corners = square(flags, base, normal, plane, row)
    if not corners & INSIDE or flags[base] & (DROPPED << normal):
        return 0
    return 1 if corners & UNION else 2


@compiled
def first_square(flags: Array, edge: int, plane: int, row: int) -> int:
    """The first square of an edge's coboundary (squares of the union first, then by number); -1 if none is kept."""
    fallback = -1
    for which in range(4):
        number = coface(edge, which, plane, row)
        level = square_level(flags, number, plane, row)
        if level == 1:
            return number
        if level == 2 and fallback < 0:
            fallback = number
    return fallback


@compiled
def claimed_by(flags: Array, number: int, inner: int, outer: int, plane: int, row: int) -> int:
    """The edge of `outer` minus `inner` that pairs at sight with a square of `outer`, or -1.

    Edges along axis 0 take part only where they lead up into `inner`: the others are in the spanning forest.
    """
    for which in range(4):
        edge = face(number, which, plane, row)
        voxel = edge // 3
        axis = edge - 3 * voxel
        end = voxel + (plane if axis == 0 else row if axis == 1 else 1)
        corners = flags[voxel] & flags[end]
        if not corners & outer or corners & inner:
            continue
        if axis == 0 and not flags[end] & inner:
            continue
        if first_square(flags, edge, plane, row) == number:
            return edge
    return -1


@compiled
def _paired(flags: Array, edge: int, inner: int, outer: int, plane: int, row: int) -> bool:
    """Whether an edge of `outer` minus `inner` is a pair at sight."""
    number = first_square(flags, edge, plane, row)
    if number < 0:
        return False
    base = number // 3
    if not square(flags, base, number - 3 * base, plane, row) & outer:
        return False
    return claimed_by(flags, number, inner, outer, plane, row) == edge


@compiled
def _busy(flags: Array, line: int, width: int, plane: int, row: int, inner: int, outer: int, busy: Array) -> Any:
    """Mark the voxels of a row at which `columns` has anything to do: not the depths of either set."""
    own = flags[line : line + width + 1]
    under = flags[line - plane : line - plane + width + 1]
    left = flags[line - row : line - row + width + 1]
    corner = flags[line - plane - row : line - plane - row + width + 1]
    some = np.uint8(0)
    for x in range(1, width + 1):
        around = under[x] & left[x] & corner[x] & own[x - 1] & under[x - 1]
        calm = (around & inner) if own[x] & inner else (around & outer)
        busy[x] = (own[x] & outer) != 0 and calm == 0
        some |= busy[x]
    return some


@compiled
def _top_paired(flags: Array, voxel: int, plane: int, row: int, inner: int, outer: int) -> bool:
    """Whether the edge along axis 0 that ends in `voxel`, the first voxel of a run of `inner`, is a pair at sight."""
    beside = flags[voxel - row]
    if beside & flags[voxel - row - plane] & outer:
        # Its first square is the one towards smaller y, which its other edge to `voxel` claims first unless in `inner`.
        return bool(beside & inner)
    return _paired(flags, 3 * (voxel - plane), inner, outer, plane, row)


@compiled
def columns(flags: Array, shape: Shape, inner: int, outer: int) -> Array:
    """The edges of `outer` minus `inner` whose columns must be built: no pairs at sight, not in the spanning forest."""
    depth, height, width = shape
    plane, row = (height + 2) * (width + 2), width + 2
    below = np.zeros((height + 2, width + 2), np.int32)
    here = np.zeros((height + 2, width + 2), np.int32)
    busy = np.zeros(width + 1, np.uint8)
    parent = np.empty(1024, np.int32)
    edges = np.empty((1024, 3), np.int64)  # the edge, and the nodes at its two ends
    count, found = 0, 0
    for z in range(1, depth + 1):
        below, here = here, below
        for y in range(1, height + 1):
            here[y] = below[y]
            if not _busy(flags, z * plane + y * row, width, plane, row, inner, outer, busy):
                continue
            for x in range(1, width + 1):
                if not busy[x]:
                    continue
                v = z * plane + y * row + x
                own, under = flags[v], flags[v - plane]
                # A run along axis 0: it goes on inside `inner`, and outside it from whatever lies below.
                if not ((under & inner) if own & inner else (under & outer)):
                    if count == len(parent):
                        parent = grown(parent)
                    parent[count] = count
                    here[y, x] = count
                    count += 1
                if found + 3 > len(edges):
                    edges = np.concatenate((edges, np.empty_like(edges)))
                top = own & inner and under & outer and not under & inner
                if top and not _top_paired(flags, v, plane, row, inner, outer):
                    edges[found, 0], edges[found, 1], edges[found, 2] = 3 * (v - plane), below[y, x], here[y, x]
                    found += 1
                for axis in range(1, 3):
                    step = row if axis == 1 else 1
                    beside = flags[v - step]
                    if not beside & outer:
                        continue
                    square_below = under & beside & flags[v - step - plane]
                    other = here[y - 1, x] if axis == 1 else here[y, x - 1]
                    if own & beside & inner:
                        if not square_below & inner:
                            unite(parent, here[y, x], other)
                    elif not square_below & outer:  # else: claimed by the square below it, the first of all
                        edge = 3 * (v - step) + axis
                        if not _paired(flags, edge, inner, outer, plane, row):
                            edges[found, 0], edges[found, 1], edges[found, 2] = edge, here[y, x], other
                            found += 1
    kept = 0
    for k in range(found):
        if not unite(parent, edges[k, 1], edges[k, 2]):
            edges[kept, 0] = edges[k, 0]
            kept += 1
    return edges[:kept, 0].copy()

"""Matched tunnels (m1): which tunnels of prediction and truth die on the same square of the union's background.

The death squares of the image barcode X -> U (X the prediction or the truth, U their union) are the squares outside U
whose pivot lies in X when the boundary matrix is reduced, columns ordered by U and index, rows by X. This module runs
the same reduction on the other side, as cohomology: rows are squares, columns are the coboundaries of edges outside X,
last edges first, and the deaths are the squares that no column takes as its pivot. Seen that way nearly everything is
local, and four things keep the work small:

- squares of the dual spanning forest (`cavities.dual_forest`) are never pivots and are left out of every column;
- edges of a spanning forest of X and the background give zero columns and are never built; because the order of edges
  of one level is free, edges along axis 0 are put into the forest first, which is a sweep and no search;
- an edge whose first square claims it back is a pair at sight: it is found again from four bytes when a reduction needs
  it and is stored nowhere;
- edges outside U have squares outside U only, so their columns are reduced once and serve both runs.

What remains are a few thousand sparse columns a tile. Sources: de Silva, Morozov, Vejdemo-Johansson, "Dualities in
persistent (co)homology" (2011); Bauer, Schmahl, "Efficient computation of image persistence" (2022); Bauer, "Ripser"
(2021), for pairs at sight; Stucki et al., "Efficient Betti matching" (2024), for the matching itself.
"""

from typing import Any, TypeAlias

import numpy as np
from numba import njit

from volumen.metrics.cells import (
    DROPPED,
    INSIDE,
    PREDICTED,
    TRUE,
    UNION,
    Array,
    Shape,
    coface,
    face,
    grown,
    square,
    unite,
)

Store: TypeAlias = tuple[Array, Array, Array, Array, int]  # table keys, table values, column starts, entries, columns


@njit(nogil=True, cache=True)
def _kept(flags: Array, number: int, plane: int, row: int) -> int:
    """0 if a square does not exist or is dropped, 1 if it lies in the union, 2 if outside it."""
    base = number // 3
    normal = number - 3 * base
    corners = square(flags, base, normal, plane, row)
    if not corners & INSIDE or flags[base] & (DROPPED << normal):
        return 0
    return 1 if corners & UNION else 2


@njit(nogil=True, cache=True)
def _first_square(flags: Array, edge: int, plane: int, row: int) -> int:
    """The first square of an edge's coboundary (squares of the union first, then by number); -1 if none is kept."""
    fallback = -1
    for which in range(4):
        number = coface(edge, which, plane, row)
        kept = _kept(flags, number, plane, row)
        if kept == 1:
            return number
        if kept == 2 and fallback < 0:
            fallback = number
    return fallback


@njit(nogil=True, cache=True)
def _claimed_by(flags: Array, number: int, inner: int, outer: int, plane: int, row: int) -> int:
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
        if _first_square(flags, edge, plane, row) == number:
            return edge
    return -1


@njit(nogil=True, cache=True)
def _paired(flags: Array, edge: int, inner: int, outer: int, plane: int, row: int) -> bool:
    """Whether an edge of `outer` minus `inner` is a pair at sight."""
    number = _first_square(flags, edge, plane, row)
    if number < 0:
        return False
    base = number // 3
    if not square(flags, base, number - 3 * base, plane, row) & outer:
        return False
    return _claimed_by(flags, number, inner, outer, plane, row) == edge


@njit(nogil=True, cache=True)
def _busy(flags: Array, line: int, width: int, plane: int, row: int, inner: int, outer: int, busy: Array) -> Any:
    """Mark the voxels of a row at which `_columns` has anything to do: not the depths of either set."""
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


@njit(nogil=True, cache=True)
def _top_paired(flags: Array, voxel: int, plane: int, row: int, inner: int, outer: int) -> bool:
    """Whether the edge along axis 0 that ends in `voxel`, the first voxel of a run of `inner`, is a pair at sight."""
    beside = flags[voxel - row]
    if beside & flags[voxel - row - plane] & outer:
        # Its first square is the one towards smaller y, which its other edge to `voxel` claims first unless in `inner`.
        return bool(beside & inner)
    return _paired(flags, 3 * (voxel - plane), inner, outer, plane, row)


@njit(nogil=True, cache=True)
def _columns(flags: Array, shape: Shape, inner: int, outer: int) -> Array:
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


@njit(nogil=True, cache=True)
def _push(heap: Array, size: int, key: int) -> Array:
    """Add a key to a binary min-heap; returns the heap, perhaps moved to a larger array."""
    if size == len(heap):
        heap = grown(heap)
    child = size
    while child > 0:
        above = (child - 1) >> 1
        if heap[above] <= key:
            break
        heap[child] = heap[above]
        child = above
    heap[child] = key
    return heap


@njit(nogil=True, cache=True)
def _sift(heap: Array, size: int) -> None:
    """Remove the least key of a min-heap of `size` keys; the caller counts one fewer afterwards."""
    last = heap[size - 1]
    size -= 1
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = last


@njit(nogil=True, cache=True)
def _pop_pivot(heap: Array, size: int) -> Any:
    """Take the least key that occurs an odd number of times; -1 when all cancel. Returns key and remaining size."""
    while size > 0:
        key = heap[0]
        odd = False
        while size > 0 and heap[0] == key:
            _sift(heap, size)
            size -= 1
            odd = not odd
        if odd:
            return key, size
    return np.int64(-1), size


@njit(nogil=True, cache=True)
def _slot(table_keys: Array, key: int) -> int:
    """Where a key is, or belongs, in an open-addressing table whose length is a power of two (-1: empty)."""
    mask = len(table_keys) - 1
    place = (key * np.int64(0x9E3779B97F4A7C1) >> 20) & mask
    while table_keys[place] != -1 and table_keys[place] != key:
        place = (place + 1) & mask
    return place


@njit(nogil=True, cache=True)
def _push_coboundary(
    flags: Array, edge: int, skip: int, plane: int, row: int, heap: Array, size: int
) -> tuple[Array, int]:
    """Push the kept squares of an edge, but for `skip`, as keys that sort squares of the union first."""
    outside = 3 * len(flags)
    for which in range(4):
        number = coface(edge, which, plane, row)
        if number == skip:
            continue
        kept = _kept(flags, number, plane, row)
        if kept:
            heap = _push(heap, size, number + (outside if kept == 2 else 0))
            size += 1
    return heap, size


@njit(nogil=True, cache=True)
def _reduce(flags: Array, plane: int, row: int, edges: Array, inner: int, store: Store) -> Store:
    """Reduce the columns of `edges` against each other, the pairs at sight and the columns already in `store`.

    `store` is (table keys, table values, column starts, entries, number of columns); a new one is returned, with a
    table large enough for all, and the given one is left as it was.
    """
    old_keys, old_values, old_starts, old_entries, columns = store
    room = 64
    while room < 2 * (columns + len(edges)):
        room *= 2
    keys = np.full(room, -1, np.int64)
    values = np.zeros(room, np.int64)
    for place in range(len(old_keys)):
        if old_keys[place] >= 0:
            new_place = _slot(keys, old_keys[place])
            keys[new_place] = old_keys[place]
            values[new_place] = old_values[place]
    starts = np.zeros(columns + len(edges) + 1, np.int64)
    starts[: columns + 1] = old_starts[: columns + 1]
    entries = np.empty(max(1024, 2 * len(old_entries)), np.int64)
    used = starts[columns]
    entries[:used] = old_entries[:used]
    heap = np.empty(1024, np.int64)
    outside = 3 * len(flags)
    for edge in edges:
        heap, size = _push_coboundary(flags, edge, -1, plane, row, heap, 0)
        while True:
            pivot, size = _pop_pivot(heap, size)
            if pivot < 0:
                break
            if pivot >= outside:
                partner = _claimed_by(flags, pivot - outside, UNION, INSIDE, plane, row)
            elif inner != UNION:
                partner = _claimed_by(flags, pivot, inner, UNION, plane, row)
            else:
                partner = -1
            if partner >= 0:
                number = pivot - outside if pivot >= outside else pivot
                heap, size = _push_coboundary(flags, partner, number, plane, row, heap, size)
                continue
            place = _slot(keys, pivot)
            if keys[place] >= 0:
                column = values[place]
                for k in range(starts[column], starts[column + 1]):
                    heap = _push(heap, size, entries[k])
                    size += 1
                continue
            keys[place] = pivot
            values[place] = columns
            while size > 0:
                key, size = _pop_pivot(heap, size)
                if key >= 0:
                    if used == len(entries):
                        entries = grown(entries)
                    entries[used] = key
                    used += 1
            columns += 1
            starts[columns] = used
            break
    return keys, values, starts, entries, columns


@njit(nogil=True, cache=True)
def _deaths(cycles: Array, keys: Array, outside: int) -> Array:
    """The squares of `cycles` that are no pivot."""
    deaths = np.empty(len(cycles), np.int64)
    count = 0
    for number in cycles:
        if keys[_slot(keys, number + outside)] < 0:
            deaths[count] = number
            count += 1
    return deaths[:count]


@njit(nogil=True, cache=True)
def matched_tunnels(flags: Array, shape: Shape, cycles: Array) -> tuple[int, int]:
    """m1 of a tile.

    Args:
        flags: the tile as `tile_flags` gives it, with the dual forest of the union marked in it.
        shape: depth, height and width of the tile in voxels.
        cycles: the squares that close a cycle in the dual graph of the union, as `dual_forest` gives them.

    Returns:
        the number of shared deaths, and the number of tunnels of the union (which must equal its first Betti number).
    """
    plane, row = (shape[1] + 2) * (shape[2] + 2), shape[2] + 2
    outside = 3 * len(flags)
    candidates = np.empty(len(cycles), np.int64)
    count = 0
    for number in cycles:
        if _claimed_by(flags, number, UNION, INSIDE, plane, row) < 0:
            candidates[count] = number
            count += 1
    empty = np.zeros(0, np.int64)
    store = (np.full(64, -1, np.int64), np.zeros(64, np.int64), np.zeros(1, np.int64), empty, 0)
    shared = _reduce(flags, plane, row, _columns(flags, shape, UNION, INSIDE), UNION, store)
    deaths = _deaths(candidates[:count], shared[0], outside)
    tunnels = len(deaths)
    for bit in (TRUE, PREDICTED):
        if len(deaths) == 0:
            break
        own = _reduce(flags, plane, row, _columns(flags, shape, bit, UNION), bit, shared)
        deaths = _deaths(deaths, own[0], outside)
    return len(deaths), tunnels

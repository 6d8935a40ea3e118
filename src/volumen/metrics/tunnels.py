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

from volumen.metrics.cells import INSIDE, PREDICTED, TRUE, UNION, Shape, coface
from volumen.metrics.pairing import claimed_by, columns, square_level
from volumen.system.compiled import Array, compiled, grown

Store: TypeAlias = tuple[Array, Array, Array, Array, int]  # table keys, table values, column starts, entries, columns


@compiled
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


@compiled
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


@compiled
def _pop_pivot(heap: Array, size: int) -> Any:
    """Take the least key that occurs an odd number of times (-1: all cancel); also returns the remaining size."""
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


@compiled
def _slot(table_keys: Array, key: int) -> Any:
    """Where a key is, or belongs, in an open-addressing table whose length is a power of two (-1: empty)."""
    mask = len(table_keys) - 1
    place = (key * np.int64(0x9E3779B97F4A7C1) >> 20) & mask
    while table_keys[place] != -1 and table_keys[place] != key:
        place = (place + 1) & mask
    return place


@compiled
def _push_coboundary(
    flags: Array, edge: int, skip: int, plane: int, row: int, heap: Array, size: int
) -> tuple[Array, int]:
    """Push the kept squares of an edge, but for `skip`, as keys that sort squares of the union first."""
    outside = 3 * len(flags)
    for which in range(4):
        number = coface(edge, which, plane, row)
        if number == skip:
            continue
        level = square_level(flags, number, plane, row)
        if level:
            heap = _push(heap, size, number + (outside if level == 2 else 0))
            size += 1
    return heap, size


@compiled
def _with_room(store: Store, more: int) -> Store:
    """A copy of a store whose table and list of starts have room for `more` columns."""
    old_keys, old_values, old_starts, old_entries, count = store
    room = 64
    while room < 2 * (count + more):
        room *= 2
    keys = np.full(room, -1, np.int64)
    values = np.zeros(room, np.int64)
    for old_place in range(len(old_keys)):
        if old_keys[old_place] >= 0:
            place = _slot(keys, old_keys[old_place])
            keys[place] = old_keys[old_place]
            values[place] = old_values[old_place]
    starts = np.zeros(count + more + 1, np.int64)
    starts[: count + 1] = old_starts[: count + 1]
    used = starts[count]
    entries = np.empty(max(1024, 2 * used), np.int64)
    entries[:used] = old_entries[:used]
    return keys, values, starts, entries, count


@compiled
def _partner(flags: Array, pivot: int, plane: int, row: int, inner: int) -> Any:
    """The edge that pairs at sight with the square of a key, or -1."""
    outside = 3 * len(flags)
    if pivot >= outside:
        return claimed_by(flags, pivot - outside, UNION, INSIDE, plane, row)
    if inner != UNION:
        return claimed_by(flags, pivot, inner, UNION, plane, row)
    return -1


@compiled
def _reduce(flags: Array, plane: int, row: int, edges: Array, inner: int, store: Store) -> Store:
    """Reduce the columns of `edges` against each other, the pairs at sight and `store`; returns a larger store."""
    keys, values, starts, entries, count = _with_room(store, len(edges))
    used = starts[count]
    heap = np.empty(1024, np.int64)
    outside = 3 * len(flags)
    for edge in edges:
        heap, size = _push_coboundary(flags, edge, -1, plane, row, heap, 0)
        pivot, size = _pop_pivot(heap, size)
        while pivot >= 0:
            partner = _partner(flags, pivot, plane, row, inner)
            place = _slot(keys, pivot)
            if partner >= 0:
                heap, size = _push_coboundary(flags, partner, pivot % outside, plane, row, heap, size)
            elif keys[place] >= 0:
                for k in range(starts[values[place]], starts[values[place] + 1]):
                    heap = _push(heap, size, entries[k])
                    size += 1
            else:
                break
            pivot, size = _pop_pivot(heap, size)
        if pivot < 0:
            continue
        keys[place] = pivot
        values[place] = count
        while size > 0:
            key, size = _pop_pivot(heap, size)
            if key >= 0:
                if used == len(entries):
                    entries = grown(entries)
                entries[used] = key
                used += 1
        count += 1
        starts[count] = used
    return keys, values, starts, entries, count


@compiled
def _deaths(cycles: Array, keys: Array, outside: int) -> Array:
    """The squares of `cycles` that are no pivot."""
    deaths = np.empty(len(cycles), np.int64)
    count = 0
    for number in cycles:
        if keys[_slot(keys, number + outside)] < 0:
            deaths[count] = number
            count += 1
    return deaths[:count]


@compiled
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
        if claimed_by(flags, number, UNION, INSIDE, plane, row) < 0:
            candidates[count] = number
            count += 1
    empty = np.zeros(0, np.int64)
    store = (np.full(64, -1, np.int64), np.zeros(64, np.int64), np.zeros(1, np.int64), empty, 0)
    shared = _reduce(flags, plane, row, columns(flags, shape, UNION, INSIDE), UNION, store)
    deaths = _deaths(candidates[:count], shared[0], outside)
    tunnels = len(deaths)
    for bit in (TRUE, PREDICTED):
        if len(deaths) == 0:
            break
        own = _reduce(flags, plane, row, columns(flags, shape, bit, UNION), bit, shared)
        deaths = _deaths(deaths, own[0], outside)
    return len(deaths), tunnels

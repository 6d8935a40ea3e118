"""6-connected components of a tile's masks, and how many the prediction shares with the truth.

Voxels are joined along axis 0 into runs while the planes are swept, so the union-find holds one node a run, not one a
voxel, and only two planes of labels are ever in memory.
"""

import numpy as np

from volumen.metrics.cells import PREDICTED, TRUE, Shape, find, unite
from volumen.system.compiled import Array, compiled, grown


@compiled
def first_touch(z: int, y: int, x: int, height: int, width: int) -> int:
    """Rank of the first edge, in the order (z, y, x, type), that touches a voxel; -1 for the very first voxel."""
    if z > 0:
        return 3 * (((z - 1) * height + y) * width + x)
    if y > 0:
        return 3 * ((y - 1) * width + x) + 1
    return 3 * (x - 1) + 2 if x > 0 else -1


@compiled
def components(flags: Array, shape: Shape, bit: int) -> tuple[int, Array, Array, Array]:
    """Label the runs of the set `bit` of a tile.

    Returns:
        the number of components, and one entry per run: its root, the flags seen in it, its first-touch rank.
    """
    depth, height, width = shape
    plane, row = (height + 2) * (width + 2), width + 2
    below = np.full((height + 2, width + 2), -1, np.int32)
    here = np.full((height + 2, width + 2), -1, np.int32)
    parent = np.empty(1024, np.int32)
    seen = np.empty(1024, np.uint8)
    touch = np.empty(1024, np.int64)
    count, merged = 0, 0
    for z in range(1, depth + 1):
        below, here = here, below
        for y in range(1, height + 1):
            for x in range(1, width + 1):
                v = z * plane + y * row + x
                if not flags[v] & bit:
                    continue
                if flags[v - plane] & bit:
                    node = below[y, x]
                    seen[node] |= flags[v]
                else:
                    if count == len(parent):
                        parent, seen, touch = grown(parent), grown(seen), grown(touch)
                    node = np.int32(count)
                    parent[count] = count
                    seen[count] = flags[v]
                    touch[count] = first_touch(z - 1, y - 1, x - 1, height, width)
                    count += 1
                here[y, x] = node
                # Where the plane below already held both neighbours, their runs were joined there.
                if flags[v - row] & bit and not flags[v - plane] & flags[v - row - plane] & bit:
                    merged += unite(parent, node, here[y - 1, x])
                if flags[v - 1] & bit and not flags[v - plane] & flags[v - 1 - plane] & bit:
                    merged += unite(parent, node, here[y, x - 1])
    return count - merged, parent[:count], seen[:count], touch[:count]


@compiled
def matched_components(parent: Array, seen: Array, touch: Array) -> int:
    """m0 of a tile from the runs of the union, as `components` returns them.

    The matching leaves out one component, the essential one, of prediction and of truth. Both leave out the same death
    unless a component without truth and one without prediction both come before every shared one.
    """
    runs = len(parent)
    both = np.uint8(PREDICTED | TRUE)
    root_seen = np.zeros(runs, np.uint8)
    never = np.iinfo(np.int64).max
    root_touch = np.full(runs, never, np.int64)
    for node in range(runs):
        root = find(parent, node)
        root_seen[root] |= seen[node] & both
        root_touch[root] = min(root_touch[root], touch[node])
    shared = 0
    first = np.full(4, never, np.int64)
    for root in range(runs):
        kind = root_seen[root]
        if kind:
            shared += kind == both
            first[kind] = min(first[kind], root_touch[root])
    if first[PREDICTED] < first[both] and first[TRUE] < first[both]:
        return shared
    return max(0, shared - 1)

"""Height maps of single pieces: the run of each column, the holes of the shadow, and the heights over a hole.

A height map is two arrays, int64 [first axis, second axis]: where the run of each column starts, and where it stops
(one after its last voxel). Both are 0 where the column is empty.
"""

import math

import numpy as np

from volumen.system.compiled import Array, compiled

LARGEST_WIDENING = 4  # voxels that a run may grow by to overlap its neighbours: two, at either end
PRECISION = 1e-3  # voxels


@compiled
def height_map(labels: Array, piece: int) -> tuple[Array, Array]:
    """The longest run of a piece in each column of labels [normal axis, first, second]; the first of equal ones."""
    depth, height, width = labels.shape
    starts, stops = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
    runs = np.zeros((height, width), np.int64)
    for z in range(depth):
        for i in range(height):
            for j in range(width):
                if labels[z, i, j] != piece:
                    runs[i, j] = 0
                    continue
                runs[i, j] += 1
                if runs[i, j] > stops[i, j] - starts[i, j]:
                    starts[i, j], stops[i, j] = z + 1 - runs[i, j], z + 1
    return starts, stops


@compiled
def find_holes(starts: Array, stops: Array) -> tuple[Array, Array]:
    """The 8-connected empty regions of a shadow that do not reach its edge.

    Returns:
        their cells, int64 [cells, 2], one hole after the other, and where each hole ends in that list.
    """
    height, width = starts.shape
    done = stops > starts
    cells = np.empty((height * width + 1, 2), np.int64)
    ends = np.empty(height * width + 1, np.int64)
    used, holes = 0, 0
    for row in range(height):
        for column in range(width):
            if done[row, column]:
                continue
            first, used_now, is_open = used, used + 1, False
            cells[used, 0], cells[used, 1] = row, column
            done[row, column] = True
            while first < used_now:
                i, j = cells[first]
                first += 1
                is_open |= i == 0 or j == 0 or i == height - 1 or j == width - 1
                for a in range(max(i - 1, 0), min(i + 2, height)):
                    for b in range(max(j - 1, 0), min(j + 2, width)):
                        if not done[a, b]:
                            done[a, b] = True
                            cells[used_now, 0], cells[used_now, 1] = a, b
                            used_now += 1
            if not is_open:
                used = used_now
                ends[holes] = used
                holes += 1
    return cells[:used].copy(), ends[:holes].copy()


@compiled
def with_rim(starts: Array, stops: Array, hole: Array) -> Array:
    """The cells of a hole, int64 [cells, 2], and after them the columns around it that are not at the map's edge."""
    height, width = starts.shape
    cells = np.empty((9 * len(hole), 2), np.int64)
    cells[: len(hole)] = hole
    seen = np.zeros((height, width), np.bool_)
    count = len(hole)
    for k in range(len(hole)):
        for i in range(hole[k, 0] - 1, hole[k, 0] + 2):
            for j in range(hole[k, 1] - 1, hole[k, 1] + 2):
                if stops[i, j] > starts[i, j] and not seen[i, j] and 0 < i < height - 1 and 0 < j < width - 1:
                    seen[i, j] = True
                    cells[count, 0], cells[count, 1] = i, j
                    count += 1
    return cells[:count].copy()


@compiled
def interpolate(starts: Array, stops: Array, cells: Array, size: int) -> bool:
    """Give the columns of a hole their runs, in place; False where the rim is too rough for a sheet.

    The middle is harmonic, the thickness the median of the rim's; then the runs of hole and rim grow where they do not
    overlap each other. `cells` are as `with_rim` returns them, the first `size` those of the hole.
    """
    hole = cells[:size]
    middles = (starts + stops) / 2.0
    thickness = _start_from_rim(middles, starts, stops, hole)
    _solve(middles, hole)
    for k in range(size):
        i, j = hole[k]
        starts[i, j] = math.floor(middles[i, j] - thickness / 2 + 0.5)
        stops[i, j] = starts[i, j] + thickness
    return _overlap(starts, stops, cells, size)


@compiled
def _start_from_rim(middles: Array, starts: Array, stops: Array, hole: Array) -> int:
    """Set the middles over a hole to the mean of its rim; returns the rim's median thickness."""
    thicknesses = np.empty(8 * len(hole), np.int64)
    total, rim = 0.0, 0
    for k in range(len(hole)):
        i, j = hole[k]
        for a in range(i - 1, i + 2):
            for b in range(j - 1, j + 2):
                if stops[a, b] > starts[a, b]:
                    thicknesses[rim] = stops[a, b] - starts[a, b]
                    total += middles[a, b]
                    rim += 1
    for k in range(len(hole)):
        middles[hole[k, 0], hole[k, 1]] = total / rim
    return int(np.median(thicknesses[:rim]))


@compiled
def _solve(middles: Array, hole: Array) -> None:
    """Laplace's equation over a hole by successive over-relaxation."""
    side = math.sqrt(len(hole)) + 1
    relaxation = 2 / (1 + math.sin(math.pi / side)) if len(hole) > 1 else 1.0
    for _ in range(20 + 10 * int(side)):
        change = 0.0
        for k in range(len(hole)):
            i, j = hole[k]
            mean = (middles[i - 1, j] + middles[i + 1, j] + middles[i, j - 1] + middles[i, j + 1]) / 4
            step = relaxation * (mean - middles[i, j])
            middles[i, j] += step
            change = max(change, abs(step))
        if change < PRECISION:
            break


@compiled
def _overlap(starts: Array, stops: Array, cells: Array, size: int) -> bool:
    """Grow the runs of hole and rim until each overlaps its eight neighbours among them.

    A column of the rim that would grow too much keeps its run; False where one of the hole's would.
    """
    chosen = np.zeros(starts.shape, np.bool_)
    for k in range(len(cells)):
        chosen[cells[k, 0], cells[k, 1]] = True
    grown_starts, grown_stops = np.empty(len(cells), np.int64), np.empty(len(cells), np.int64)
    for k in range(len(cells)):
        i, j = cells[k]
        start, stop = starts[i, j], stops[i, j]
        for a in range(i - 1, i + 2):
            for b in range(j - 1, j + 2):
                if k < size or chosen[a, b]:
                    start, stop = min(start, stops[a, b] - 1), max(stop, starts[a, b] + 1)
        if stop - start > 2 * (stops[i, j] - starts[i, j]) + LARGEST_WIDENING:
            if k < size:
                return False
            start, stop = starts[i, j], stops[i, j]
        grown_starts[k], grown_stops[k] = start, stop
    for k in range(len(cells)):
        i, j = cells[k]
        starts[i, j], stops[i, j] = grown_starts[k], grown_stops[k]
    return True

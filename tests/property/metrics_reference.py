"""A slow, plain account of the leaderboard metric for tiny volumes, written from the definitions alone.

Topology is general persistence: all cells of the grid, boundary matrices over Z/2, columns reduced from left to right.
Nothing here knows a closed form, a union-find or a tile.
"""

import itertools
import math
from collections import Counter, deque
from functools import cache

import numpy as np

Cell = tuple[tuple[int, int, int], int, tuple[tuple[int, int, int], ...]]

# The axes that a cell spans, by dimension, in the order of the type that breaks ties.
SPANS = {0: [()], 1: [(0,), (1,), (2,)], 2: [(1, 2), (0, 2), (0, 1)], 3: [(0, 1, 2)]}


@cache
def cells(shape: tuple[int, ...], dimension: int) -> list[Cell]:
    """All cells of a dimension as (smallest voxel, type, voxels), ordered by voxel and type."""
    found = []
    for base in itertools.product(*map(range, shape)):
        for kind, span in enumerate(SPANS[dimension]):
            if any(base[axis] + 1 >= shape[axis] for axis in span):
                continue
            steps = itertools.product(*[(0, 1) if axis in span else (0,) for axis in range(3)])
            voxels = tuple(tuple(b + s for b, s in zip(base, step, strict=True)) for step in steps)
            found.append((base, kind, voxels))
    return found


def levels(volume: np.ndarray, dimension: int) -> list[int]:
    """0 where a cell is in the mask, else 1."""
    return [0 if all(volume[voxel] for voxel in voxels) else 1 for _, _, voxels in cells(volume.shape, dimension)]


@cache
def boundaries(shape: tuple[int, ...], dimension: int) -> list[list[int]]:
    """The numbers of the faces of every cell of `dimension` + 1."""
    number = {frozenset(voxels): i for i, (_, _, voxels) in enumerate(cells(shape, dimension))}
    return [
        [number[frozenset(face)] for face in itertools.combinations(voxels, 2**dimension) if frozenset(face) in number]
        for _, _, voxels in cells(shape, dimension + 1)
    ]


def pairs(columns: np.ndarray, rows: np.ndarray, dimension: int) -> list[tuple[int, int]]:
    """Reduce the boundary matrix from `dimension` + 1 to `dimension`; returns (row, column) of every pivot.

    Columns are ordered by their level in the mask `columns`, rows by theirs in `rows`, ties by number.
    """
    faces = boundaries(columns.shape, dimension)
    low_levels, high_levels = levels(rows, dimension), levels(columns, dimension + 1)
    order = sorted(range(len(low_levels)), key=lambda i: (low_levels[i], i))
    rank = {i: place for place, i in enumerate(order)}
    owner: dict[int, int] = {}
    reduced: dict[int, int] = {}
    found = []
    for j in sorted(range(len(faces)), key=lambda j: (high_levels[j], j)):
        column = 0
        for face in faces[j]:
            column ^= 1 << rank[face]
        while column and column.bit_length() - 1 in owner:
            column ^= reduced[owner[column.bit_length() - 1]]
        if column:
            pivot = column.bit_length() - 1
            owner[pivot] = j
            reduced[j] = column
            found.append((order[pivot], j))
    return found


def features(volume: np.ndarray, dimension: int) -> int:
    """Features that are born in the mask and die outside it."""
    births, deaths = levels(volume, dimension), levels(volume, dimension + 1)
    return sum(births[i] == 0 and deaths[j] == 1 for i, j in pairs(volume, volume, dimension))


def image_deaths(volume: np.ndarray, union: np.ndarray, dimension: int) -> set[int]:
    """The cells on which features of the mask die in the union: the deaths of the image barcode."""
    births, deaths = levels(volume, dimension), levels(union, dimension + 1)
    return {j for i, j in pairs(union, volume, dimension) if births[i] == 0 and deaths[j] == 1}


def counts(prediction: np.ndarray, truth: np.ndarray) -> list[list[int]]:
    """[matched, predicted, true] for dimension 0, 1, 2 of one tile."""
    union = prediction | truth
    return [
        [
            len(image_deaths(prediction, union, k) & image_deaths(truth, union, k)),
            features(prediction, k),
            features(truth, k),
        ]
        for k in range(3)
    ]


def labels_26(volume: np.ndarray) -> np.ndarray:
    """26-connected components by flooding; background is 0."""
    labels = np.zeros(volume.shape, int)
    count = 0
    for seed in zip(*np.nonzero(volume), strict=True):
        if labels[seed]:
            continue
        count += 1
        labels[seed] = count
        queue = deque([seed])
        while queue:
            here = queue.popleft()
            for step in itertools.product((-1, 0, 1), repeat=3):
                there = tuple(int(a + b) for a, b in zip(here, step, strict=True))
                inside = all(0 <= a < n for a, n in zip(there, volume.shape, strict=True))
                if inside and volume[there] and not labels[there]:
                    labels[there] = count
                    queue.append(there)
    return labels


def voi(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """H(prediction | truth) and H(truth | prediction) in bits, on the voxels of either mask."""
    mask = prediction | truth
    pairs_found = list(zip(labels_26(prediction)[mask].tolist(), labels_26(truth)[mask].tolist(), strict=True))
    if not pairs_found:
        return 0.0, 0.0

    def entropy(items: list[object]) -> float:
        return -sum(n / len(items) * math.log2(n / len(items)) for n in Counter(items).values())

    joint = entropy(list(pairs_found))
    return joint - entropy([g for _, g in pairs_found]), joint - entropy([p for p, _ in pairs_found])


def surface_elements(volume: np.ndarray) -> dict[tuple[int, int, int], int]:
    """Position and 8-bit code of every mixed 2 x 2 x 2 neighbourhood, the volume being empty outside."""
    padded = np.pad(volume, 1)
    found = {}
    for at in itertools.product(*(range(n + 1) for n in volume.shape)):
        window = padded[at[0] : at[0] + 2, at[1] : at[1] + 2, at[2] : at[2] + 2].ravel()
        code = sum(128 >> k for k in range(8) if window[k])
        if code not in (0, 255):
            found[at] = code
    return found


def surface_dice(
    prediction: np.ndarray,
    truth: np.ndarray,
    tolerance: float,
    areas: np.ndarray,
    spacing: tuple[float, float, float] = (1, 1, 1),
) -> float:
    """Area within the tolerance over all area, by comparing every element with every other."""

    def distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
        return math.hypot(*(step * (a - b) for step, a, b in zip(spacing, one, other, strict=True)))

    surfaces = [surface_elements(prediction), surface_elements(truth)]
    if not surfaces[0] or not surfaces[1]:
        return 1.0 if not surfaces[0] and not surfaces[1] else 0.0
    total = close = 0.0
    for own, other in (surfaces, surfaces[::-1]):
        for at, code in own.items():
            total += areas[code]
            if min(distance(at, there) for there in other) <= tolerance * (1 + 1e-6):
                close += areas[code]
    return close / total

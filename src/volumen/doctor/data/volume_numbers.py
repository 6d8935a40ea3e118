"""What is measured of a volume by itself: how image and label hang together, how thick its sheets are, how it is drawn.

Everything is sums over blocks, so that a model of other volumes can be tried on this one without reading it again.
"""

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import Case
from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.data.local_shape import FEATURES, area_of, block_starts, local_shape, padded, within
from volumen.doctor.data.readings import Measure, Numbers, Seen

GROUPS = 4
"""Blocks take turns: a model of three groups is tested on the fourth."""
MOST_BLOCKS = 20
FEWEST_VOXELS = 60
"""Of surface and of background, that a block counts."""
NEAR_VOXELS = 4
"""Background nearer to the surface looks like it."""
CELL = 16
LAGS = (1, 2, 4)
SAMPLED = 17  # one voxel of so many is looked at a second time
COLUMNS = ("mean", "variance", *(f"{axis}{lag}" for axis in "zyx" for lag in LAGS), "labelled", "surface")
"""Of a cell: differences squared by axis and lag; shares of its voxels."""

Floats = NDArray[np.float64]


def measure_volume(seen: Seen) -> Numbers:
    """Numbers of a volume.

    Returns:
        moments: of (1, features, surface) over labelled voxels, the image of unit variance, by group of blocks,
            [GROUPS, FEATURES + 2, FEATURES + 2].
        cells: `COLUMNS` of cells of 16 voxels, [N, 13].
        counts: voxels of background and surface.
        thickness: of the surface, in voxels; NaN without any.
        lookalike: background that looks like surface and is far from it, per voxel of surface.
        far: share of the background that is far from surface.
    """
    image, label = seen.image, seen.label
    grey = standardised(image, seen.case)
    moments = np.zeros((GROUPS, FEATURES + 2, FEATURES + 2))
    seconds: list[NDArray[np.float32]] = []
    volume, area = 0.0, 0.0
    for number, start in enumerate(_telling_blocks(label)):
        codes, wide = padded(label, start, 0), padded(label, start)
        known, surface = codes != IGNORE, (wide == SURFACE).astype(np.float32)
        rows = _rows(padded(grey, start), codes, known)
        moments[number % GROUPS] += (rows @ rows.T).astype(np.float64)
        far = ~within(surface, NEAR_VOXELS)[known]
        seconds.append(np.concatenate([rows[:, ::SAMPLED], far[None, ::SAMPLED].astype(np.float32)]))
        whole = ~within((wide == IGNORE).astype(np.float32), 2)
        volume += np.count_nonzero(whole & (codes == SURFACE))
        area += area_of(surface, whole)
    lookalike, far_share = _lookalike(moments.sum(axis=0), seconds)
    return {
        "moments": moments,
        "cells": _cells(grey, label),
        "counts": np.bincount(label.ravel(), minlength=3)[:2],
        "thickness": np.asarray(2 * volume / area if area else np.nan),
        "lookalike": np.asarray(lookalike),
        "far": np.asarray(far_share),
    }


def standardised(image: NDArray[np.generic], case: Case) -> NDArray[np.float32]:
    """Grey values of mean 0 and variance 1 over what the scan holds."""
    statistics = case.statistics
    return (image.astype(np.float32) - np.float32(statistics.mean)) / np.float32(max(statistics.std, 1e-6))


def _telling_blocks(label: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Blocks that hold both classes, spread over the volume."""
    found = []
    for start in block_starts(label.shape):
        codes = padded(label, start, 0)
        surface, background = np.count_nonzero(codes == SURFACE), np.count_nonzero(codes == 0)
        if surface >= FEWEST_VOXELS and background >= FEWEST_VOXELS:
            found.append(start)
    step = max(1.0, len(found) / MOST_BLOCKS)
    return [found[int(number * step)] for number in range(min(len(found), MOST_BLOCKS))]


def _lookalike(total: Floats, seconds: list[NDArray[np.float32]]) -> tuple[float, float]:
    if not seconds:
        return float("nan"), float("nan")
    rows = np.concatenate(seconds, axis=1)
    score, truth, far = fitted(total, ALL) @ rows[ALL], rows[-2] > 0, rows[-1] > 0
    alike = far & ~truth & (score > np.median(score[truth]))
    return float(alike.sum() / truth.sum()), float((far & ~truth).sum() / max((~truth).sum(), 1))


def moments_of(grey: NDArray[np.float32], label: NDArray[np.uint8]) -> Floats:
    """Sums of products of (1, features, surface) over the labelled voxels of the telling blocks."""
    total = np.zeros((FEATURES + 2, FEATURES + 2))
    for start in _telling_blocks(label):
        codes = padded(label, start, 0)
        rows = _rows(padded(grey, start), codes, codes != IGNORE)
        total += rows @ rows.T
    return total


def _rows(block: NDArray[np.generic], codes: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(1, features, surface) of the known voxels, [FEATURES + 2, N]."""
    features = local_shape(block.astype(np.float32))[:, known]
    truth = (codes[known] == SURFACE).astype(np.float32)
    return np.concatenate([np.ones((1, len(truth)), np.float32), features, truth[None]])


ALL = np.arange(1, FEATURES + 1)


def fitted(moments: Floats, columns: NDArray[np.intp]) -> Floats:
    """Weights of the linear model of surface in some of the features, by ridge regression, from sums."""
    centred = covariance(moments)
    scatter, with_truth = centred[np.ix_(columns, columns)], centred[columns, -1]
    scale = np.sqrt(np.maximum(np.diag(scatter), 1e-12))
    unit = scatter / np.outer(scale, scale) + 1e-4 * np.eye(len(scale))
    solution: Floats = np.linalg.solve(unit, with_truth / scale) / scale
    return solution


def covariance(moments: Floats) -> Floats:
    """From sums of products of (1, ...) to covariances of the same rows; row 0 is 0."""
    count = max(float(moments[0, 0]), 1.0)
    mean = moments[0] / count
    found: Floats = moments / count - np.outer(mean, mean)
    return found


def _cells(grey: NDArray[np.float32], label: NDArray[np.uint8]) -> Floats:
    """`COLUMNS` of the cells of every second layer of cells (the volume itself where it is smaller than one)."""
    sides = tuple(min(CELL, length) for length in grey.shape)
    whole = tuple(slice(0, length // side * side) for length, side in zip(grey.shape[1:], sides[1:], strict=True))
    layers = range(0, len(grey) - sides[0] + 1, 2 * sides[0])
    picked = [(slice(z, z + sides[0]), *whole) for z in layers]
    found: Floats = np.concatenate([_layer(grey[place], label[place]) for place in picked])
    return found


def _layer(grey: NDArray[np.float32], label: NDArray[np.uint8]) -> Floats:
    depth, height, width = grey.shape
    side = tuple(min(CELL, length) for length in (height, width))

    def means(values: NDArray[np.float32]) -> Floats:
        """Over cells; differences are fewer than voxels at the far end, where they count as 0."""
        rows = values.sum(axis=0).reshape(height // side[0], side[0], width // side[1], side[1])
        mean: Floats = rows.sum(axis=(1, 3)).astype(np.float64).ravel() / (depth * side[0] * side[1])
        return mean

    mean = means(grey)
    columns = [mean, means(grey * grey) - mean**2]
    for axis in range(3):
        for lag in LAGS:
            apart = np.zeros_like(grey)
            ahead = tuple(slice(lag, None) if one == axis else slice(None) for one in range(3))
            behind = tuple(slice(0, -lag) if one == axis else slice(None) for one in range(3))
            apart[behind] = np.square(grey[ahead] - grey[behind])
            columns.append(means(apart))
    columns += [means((label != IGNORE).astype(np.float32)), means((label == SURFACE).astype(np.float32))]
    return np.stack(columns, axis=1)


VOLUME = Measure("volume", 1, measure_volume)

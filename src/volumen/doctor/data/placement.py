"""How well the labels of a volume fit its image where they are, at other places and the other way round.

What an image says at a voxel is told by numbers that no rotation or mirroring changes (grey value, gradient, Hessian):
a model of them cannot learn a shift of the labels by heart, as one of the derivatives along x and y can.
"""

import math
from itertools import pairwise, permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.data.readings import Measure, Numbers, Seen

SIDE = 64
"""Of the cube whose labels are looked at, in voxels: in the middle of the volume, where enough of them are there."""
MOST_POINTS, FEWEST_POINTS = 2_500, 800
"""Of each class."""
SCALES_VOXELS = (1.0, 2.0)
FEATURES = 5 * len(SCALES_VOXELS)
LEAST_INSIDE = 0.75
"""Share of the surface that must still lie in the volume, moved, for a shift to say something."""
EDGE = 4
"""Voxels about an empty part, whose edge filters see there."""
PARTS = 4
"""Of the surface along z, over which a result has to hold."""
REACH = 12
Triple = tuple[int, int, int]
SHIFTS: tuple[Triple, ...] = tuple(
    sorted(
        {
            (z * step, y * step, x * step)
            for step, radius in ((1, 4.3), (2, 8.3), (4, 17.0))
            for z, y, x in product(range(-REACH // step, REACH // step + 1), repeat=3)
            if step * math.hypot(z, y, x) <= radius
        }
        | {(z, y, x) for step in range(-REACH, REACH + 1) for z, y, x in ((step, 0, 0), (0, step, 0), (0, 0, step))}
    )
)
"""Where the image is looked at from its labels, in voxels, z y x: the nearer, the finer."""
HERE = SHIFTS.index((0, 0, 0))
Orientation = tuple[Triple, Triple]
ORIENTATIONS: tuple[Orientation, ...] = tuple(
    ((a, b, c), (u, v, w)) for a, b, c in permutations(range(3)) for u, v, w in product((1, -1), repeat=3)
)
"""For each axis of the image that of the label, and whether it runs the same way; the first is the identity."""

Points = NDArray[np.integer]
Floats = NDArray[np.floating]


def measure_placement(seen: Seen) -> Numbers:
    """Differences of the image's features between surface and background, by where the image is looked at.

    Returns:
        `at` [S, P, F]: class means' difference by shift and part of the surface, NaN where much of that has left the
        volume; `turned` [48, P, F]: by orientation, NaN where the shape forbids it or the cube is not the middle one;
        `kept` [S] and `kept_turned` [48]: share of the surface on which surface lies; `scatter` [F, F]: the features'
        covariance, both classes weighing the same; `facing` [3, 2]: how much of the surface has its denser side towards
        the end and the start of each axis; `side`: the volume's
        least, in voxels. Nothing where the image is constant or a class has too few
        voxels.
    """
    shape, start = np.array(seen.label.shape), _corner(seen.label)
    side = np.minimum(shape, SIDE)
    inner = tuple(slice(int(one), int(one + length)) for one, length in zip(start, side, strict=True))
    surface, background = (_points(seen.label[inner], code) + start for code in (SURFACE, BACKGROUND))
    if min(len(surface), len(background)) < FEWEST_POINTS:
        return {}
    grey = seen.image[inner]
    if grey.min() == grey.max():
        return {}
    field = _Field(seen, start - REACH, start + side + REACH)
    at, kept = field.shifted(surface, background)
    at[(np.abs(np.array(SHIFTS)) > shape / 4).any(axis=1)] = np.nan  # of a small volume too little is left
    turned, kept_turned = np.full((len(ORIENTATIONS), PARTS, FEATURES), np.nan), np.full(len(ORIENTATIONS), np.nan)
    for number, orientation in enumerate(ORIENTATIONS):
        if tuple(shape[list(orientation[0])]) == tuple(shape) and not (start - (shape - side) // 2).any():
            moved = (turn(points, orientation, shape) for points in (surface, background))
            turned[number], kept_turned[number] = field.difference(*moved)
    return {
        "at": at.astype(np.float16),
        "facing": field.facing(surface),
        "turned": turned.astype(np.float16),
        "scatter": field.scatter(surface, background).astype(np.float32),
        "kept": kept.astype(np.float16),
        "kept_turned": kept_turned.astype(np.float16),
        "side": np.array(shape.min()),
    }


PLACEMENT = Measure("placement", 4, measure_placement)


def turn(points: Points, orientation: Orientation, shape: Points) -> Points:
    """Voxels [N, 3] of a label as its image would have them, about the middle of the volume."""
    axes, signs = orientation
    moved = points[:, list(axes)]
    return np.where(np.array(signs) > 0, moved, shape - 1 - moved)


class _Field:
    """Features about the cube, and what the label says there; beyond the volume there is nothing."""

    def __init__(self, seen: Seen, low: Points, high: Points) -> None:
        shape = np.array(seen.label.shape)
        first, last = np.maximum(low, 0), np.minimum(high, shape)
        outer = tuple(slice(int(one), int(end)) for one, end in zip(first, last, strict=True))
        label = seen.label[outer]
        features, self._gradient = _invariants(seen.image, outer, label != IGNORE)
        holds = ~_empty(seen.image[outer], label)
        field = np.zeros((*(high - low), FEATURES + 2), dtype=np.float32)
        place = tuple(slice(int(a), int(b)) for a, b in zip(first - low, last - low, strict=True))
        field[place][..., :FEATURES] = features * holds[..., None]
        field[place][..., FEATURES] = holds
        field[place][..., FEATURES + 1] = holds & (label == SURFACE)
        self._flat, self._shape, self._low, self._first = field.reshape(-1, FEATURES + 2), high - low, low, first

    def _index(self, points: Points) -> Points:
        inside = np.clip(points - self._low, 0, self._shape - 1)
        return np.asarray(np.ravel_multi_index(tuple(inside.T), tuple(self._shape)))

    def _difference(self, surface: Points, background: Points) -> tuple[Floats, float]:
        bounds = np.linspace(0, len(surface), PARTS + 1).astype(int)
        values = self._flat[surface]
        ones = np.ones(len(surface), dtype=np.float32)
        totals = np.stack([ones[a:b] @ values[a:b] for a, b in pairwise(bounds)])
        others = np.ones(len(background), dtype=np.float32) @ self._flat[background]
        means = totals[:, :FEATURES] / np.maximum(totals[:, FEATURES : FEATURES + 1], 1)
        kept = totals[:, FEATURES + 1].sum() / max(float(totals[:, FEATURES].sum()), 1.0)
        return means - others[:FEATURES] / max(float(others[FEATURES]), 1.0), float(kept)

    def difference(self, surface: Points, background: Points) -> tuple[Floats, float]:
        """Of the class means, by part [P, F], and the share of the places where surface is."""
        return self._difference(self._index(surface), self._index(background))

    def shifted(self, surface: Points, background: Points) -> tuple[Floats, Floats]:
        """`difference` at each of the shifts."""
        strides = np.array([self._shape[1] * self._shape[2], self._shape[2], 1])
        ones, noes = self._index(surface), self._index(background)
        steps = (np.array(SHIFTS) @ strides).tolist()
        found = [self._difference(ones + step, noes + step) for step in steps]
        left = np.array([self._flat[ones + step, FEATURES].mean() for step in steps])
        left /= max(float(self._flat[ones, FEATURES].mean()), 1e-9)
        means = np.where((left < LEAST_INSIDE)[:, None, None], np.nan, np.array([one for one, _ in found]))
        return means, np.array([kept for _, kept in found])

    def scatter(self, surface: Points, background: Points) -> Floats:
        """Covariance of the features, both classes weighing the same."""
        both = [self._flat[self._index(points), :FEATURES] for points in (surface, background)]
        middle = (both[0].mean(0) + both[1].mean(0)) / 2
        return np.asarray(sum((one - middle).T @ (one - middle) / (2 * len(one)) for one in both))

    def facing(self, points: Points) -> Floats:
        """Mean squares of the parts of the unit normals to the denser side, [3, 2]: along each axis, against it."""
        normal = self._gradient[(slice(None), *(points - self._first).T)]
        normal = normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
        return np.stack([(np.maximum(sign * normal, 0) ** 2).mean(axis=1) for sign in (1, -1)], axis=1)


def _corner(label: NDArray[np.uint8]) -> Points:
    """Of the middle cube, or of the one with the most surface where the middle has less than a quarter of that."""
    shape = np.array(label.shape)
    middle = (shape - np.minimum(shape, SIDE)) // 2
    sums = (label == SURFACE).astype(np.int32)
    for axis in range(3):
        starts = np.arange(0, label.shape[axis], SIDE // 2)
        sums = np.add.reduceat(sums, starts, axis=axis)
        if len(starts) > 1:
            sums = np.take(sums, range(len(starts) - 1), axis) + np.take(sums, range(1, len(starts)), axis)
    most = np.array(np.unravel_index(int(sums.argmax()), sums.shape)) * (SIDE // 2)
    inner = tuple(slice(int(one), int(one) + SIDE) for one in middle)
    enough = 4 * np.count_nonzero(label[inner] == SURFACE) >= sums.max()
    return np.asarray(middle if enough else np.minimum(most, shape - np.minimum(shape, SIDE)))


def _empty(image: NDArray[np.generic], label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where filters see something of what the scan does not hold: unlabelled voxels of one value."""
    flat: NDArray[np.bool_] = np.equal(label, IGNORE)
    for axis in range(3):
        flat &= np.diff(image, axis=axis, append=np.take(image, [-1], axis)) == 0
    if not flat.any():
        return flat
    lone = ndimage.uniform_filter(flat.astype(np.float32), 3) > 0.99  # voxels that are alike by chance are no hole
    near = ndimage.uniform_filter(lone.astype(np.float32), 2 * EDGE + 1) > 1e-6
    return np.asarray(near, dtype=np.bool_)


def _points(label: NDArray[np.uint8], code: int) -> Points:
    places = np.flatnonzero(label == code)
    if len(places) > MOST_POINTS:
        places = np.sort(np.random.default_rng(0).choice(places, MOST_POINTS, replace=False))
    return np.stack(np.unravel_index(places, label.shape), axis=1)


def _invariants(
    image: NDArray[np.generic], outer: tuple[slice, ...], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [Z, Y, X, F], of unit variance where labels are known, and the gradient of the last scale [3, Z, Y, X].

    Of the Hessian H and the gradient g: |g|, tr H, |H| and g'Hg / |g|^2 keep their values under every rotation.
    """
    halo = int(3 * max(SCALES_VOXELS))
    wide = tuple(slice(max(0, one.start - halo), one.stop + halo) for one in outer)
    cut = tuple(slice(one.start - more.start, one.stop - more.start) for one, more in zip(outer, wide, strict=True))
    blurred, before, found = np.asarray(image[wide], dtype=np.float32), 0.0, []
    for scale in SCALES_VOXELS:
        blurred = ndimage.gaussian_filter(blurred, np.sqrt(scale**2 - before**2), truncate=3.0)
        before = scale
        first = np.stack(np.gradient(blurred))
        square, trace, norm, along = (np.zeros_like(blurred) for _ in range(4))
        for a in range(3):
            square += first[a] ** 2
            for b in range(a, 3):
                second = np.gradient(first[a], axis=b)
                trace += second if a == b else 0
                norm += (1 if a == b else 2) * second**2
                along += (1 if a == b else 2) * first[a] * first[b] * second
        found += [blurred[cut], np.sqrt(square)[cut], trace[cut], np.sqrt(norm)[cut]]
        found.append((along / np.maximum(square, 1e-6))[cut])
    scaled = [np.clip((one - one[known].mean()) / max(float(one[known].std()), 1e-9), -4, 4) for one in found]
    return np.stack(scaled, axis=-1), first[(slice(None), *cut)]

"""Does a label lie where its image shows something: in place, or better mirrored, exchanged or shifted?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SCALES_VOXELS = (1.0, 2.0, 4.0)
MOST_VOXELS = 8000
FEWEST_VOXELS = 60
DISTANCES = (2, 3, 4, 6, 8, 12, 16)
MOST_SIDE = 64
"""Voxels of an image that are looked at, from its middle."""

Array = NDArray[np.generic]
Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes in their new order, and the new axes that are mirrored."""
Shift = tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """Share of the label's variance that symmetric filters of the image explain."""

    turned: dict[Turn, float]
    shifted: dict[Shift, float]

    @property
    def here(self) -> float:
        """As it was given."""
        return next(iter(self.turned.values()))


def turns(shape: Sequence[int]) -> list[Turn]:
    """Every order and mirroring of the axes that keeps a shape, the identity first."""
    axes = range(len(shape))
    orders = [
        order for order in permutations(axes) if all(shape[a] == shape[b] for a, b in zip(order, axes, strict=True))
    ]
    mirrors = [tuple(a for a, on in zip(axes, ons, strict=True) if on) for ons in product((0, 1), repeat=len(shape))]
    return [(order, mirrored) for order in orders for mirrored in mirrors]


def turn(array: Array, how: Turn) -> Array:
    """An array with its axes in another order, some of them mirrored."""
    return np.flip(np.transpose(array, how[0]), how[1])


def words(how: Turn) -> str:
    """What was done to the axes, those of a volume called z y x."""
    names = "zyx"[-len(how[0]) :]
    order = "" if how[0] == tuple(range(len(how[0]))) else f"axes in the order {' '.join(names[a] for a in how[0])}"
    mirrored = f"mirrored along {' '.join(names[a] for a in how[1])}" if how[1] else ""
    return " and ".join(part for part in (order, mirrored) if part)


def measure(image: Array, surface: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Agreement | None:
    """Agreement of one image and its label, all of one shape; None where too little of either class is known."""
    middle = tuple(
        slice((side - min(side, MOST_SIDE)) // 2, (side + min(side, MOST_SIDE)) // 2) for side in image.shape
    )
    image, surface, valid = image[middle], surface[middle], valid[middle]
    features = _features(image)
    places = np.flatnonzero(np.ones(image.shape, bool))
    places = places[:: max(1, len(places) // MOST_VOXELS)]
    solver = _Fit(features, places)
    turned: dict[Turn, float] = {}
    for how in turns(image.shape):
        found = solver.explained(turn(surface, how).ravel(), turn(valid, how).ravel())
        if found is None and not turned:
            return None
        turned[how] = 0.0 if found is None else found
    shifted: dict[Shift, float] = {}
    for axis, distance, sign in product(range(image.ndim), DISTANCES, (1, -1)):
        if distance * 3 > image.shape[axis]:
            continue
        known = np.roll(valid, sign * distance, axis)
        known[(slice(None),) * axis + (slice(0, distance) if sign > 0 else slice(-distance, None),)] = False
        found = solver.explained(np.roll(surface, sign * distance, axis).ravel(), known.ravel())
        shift = tuple(sign * distance if one == axis else 0 for one in range(image.ndim))
        shifted[shift] = 0.0 if found is None else found
    return Agreement(turned, shifted)


def _features(image: Array) -> NDArray[np.float64]:
    """Smoothed grey values and second derivatives, which say nothing of a direction; [features, voxels]."""
    grey = np.asarray(image, dtype=np.float32)
    found = [ndimage.gaussian_filter(grey, scale) for scale in SCALES_VOXELS]
    for scale in SCALES_VOXELS[:2]:
        for axis in range(grey.ndim):
            order = [2 if one == axis else 0 for one in range(grey.ndim)]
            found.append(ndimage.gaussian_filter(grey, scale, order=order))
        found.append(ndimage.gaussian_gradient_magnitude(grey, scale))
    return np.stack([one.ravel() for one in found]).astype(np.float64)


class _Fit:
    """Least squares of any label on the same features."""

    def __init__(self, features: NDArray[np.float64], places: NDArray[np.integer]) -> None:
        chosen = features[:, places].T
        spread = chosen.std(axis=0)
        self.features, self.places = (chosen - chosen.mean(axis=0)) / np.where(spread > 0, spread, 1), places

    def explained(self, label: Array, valid: Array) -> float | None:
        known = valid[self.places].astype(bool)
        truth = label[self.places][known].astype(np.float64)
        if min(truth.sum(), len(truth) - truth.sum()) < FEWEST_VOXELS:
            return None
        features = self.features[known]
        features = features - features.mean(axis=0)
        scatter = features.T @ features
        scatter[np.diag_indices_from(scatter)] += 1e-6 * len(features)
        wanted = truth - truth.mean()
        residual = wanted - features @ np.linalg.solve(scatter, features.T @ wanted)
        return 1.0 - float(residual.var() / truth.var())

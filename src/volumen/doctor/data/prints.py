"""A print of a volume by which another one that shares a part of it is found, however it is turned, moved or coloured.

Keypoints are where the smoothed volume bends most in all three directions: maxima of the Hessian's |determinant| (Bay
et al. 2008 for images). A descriptor is the volume sampled about one, without its mean, of unit length, in that of 48
turns and 2 signs in which it looks most like a fixed pattern: what is turned or inverted has the same one.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.doctor.data.readings import Measure, Numbers, Seen
from volumen.doctor.data.turns import TURNS, turned

Descriptors = NDArray[np.float32]
STEPS = (2, 1)
"""Voxels along an axis that are averaged first: a volume of few voxels is looked at finely too."""
SMALL = 100**3
SIGMA = 1.5  # of the smoothing, after that
SIDE, SPACING = 5, 2  # samples along an axis of a descriptor, and between them
APART = 2  # nearest two keypoints
KEYPOINTS = 320
VARIANTS = 3
"""Turns of a descriptor that are kept, the likeliest first: noise may exchange them."""
REACH = SPACING * (SIDE // 2)
SCALE = 256  # of stored descriptors
_OFFSETS = np.indices((SIDE,) * 3).reshape(3, -1).T * SPACING - REACH


def _orders() -> NDArray[np.int64]:
    """The samples' order after each turn, [48, samples]."""
    numbers = np.arange(SIDE**3).reshape((SIDE,) * 3)
    return np.stack([turned(numbers, turn).ravel() for turn in range(len(TURNS))]).astype(np.int64)


ORDERS = _orders()
_PATTERN = np.random.default_rng(0).standard_normal(SIDE**3)
_VIEWS = np.empty((SIDE**3, len(TURNS)), dtype=np.float32)
for _turn, _order in enumerate(ORDERS):
    _VIEWS[_order, _turn] = _PATTERN  # patch[order] . pattern = patch . view


def print_of(seen: Seen) -> Numbers:
    """Keypoints [N, 3] in voxels from the middle, those of a step strongest first, and what they look like.

    `samples` [N, 125] int8 are as they lie in the volume, `turns` and `signs` [N, variants] make descriptors of them.
    """
    steps = [step for step in STEPS if step > 1 or seen.image.size <= SMALL]
    found = [_at_step(seen, step) for step in steps]
    numbers = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return {**numbers, "steps": np.repeat(steps, [len(one["places"]) for one in found]).astype(np.uint8)}


def _at_step(seen: Seen, step: int) -> dict[str, NDArray[np.generic]]:
    small = reduced(seen.image, step)
    scan = reduced(_scan(seen), step) > 0.999 if seen.case.empty is not None else None
    if scan is not None:
        small = np.where(scan, small, small[scan].mean() if scan.any() else np.float32(0))
    smooth = ndimage.gaussian_filter(small, SIGMA, truncate=3)
    places = _keypoints(smooth, scan)
    at = places[:, None] + _OFFSETS
    patches = smooth[at[..., 0], at[..., 1], at[..., 2]]
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-6)
    likeness = patches @ _VIEWS
    best = np.argsort(-np.abs(likeness), axis=1)[:, :VARIANTS]
    signs = np.sign(np.take_along_axis(likeness, best, axis=1))
    middle = (np.array(seen.image.shape) - 1) / 2
    return {
        "places": (step * places + (step - 1) / 2 - middle).astype(np.float32),
        "samples": np.clip(np.rint(patches * SCALE), -127, 127).astype(np.int8),
        "turns": best.astype(np.uint8),
        "signs": np.where(signs < 0, -1, 1).astype(np.int8),
    }


def descriptors_of(samples: NDArray[np.generic], turns: NDArray[np.generic], signs: NDArray[np.generic]) -> Descriptors:
    """Descriptors of unit length, float32 [N, variants, samples]."""
    values = samples.astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    order = ORDERS[turns.astype(np.int64)]
    found: Descriptors = np.take_along_axis(values[:, None], order, axis=2) * signs[..., None].astype(np.float32)
    return found


PRINT = Measure("print", 1, print_of)


def reduced(volume: NDArray[np.generic], step: int) -> NDArray[np.float32]:
    """Means of step^3 voxels; what is left over at the ends is cut off."""
    z, y, x = (length // step for length in volume.shape)
    total = np.zeros((z, y, x), dtype=np.float32)
    for a, b, c in product(range(step), repeat=3):
        total += volume[a : a + z * step : step, b : b + y * step : step, c : c + x * step : step]
    return np.asarray(total / np.float32(step**3))


def _scan(seen: Seen) -> NDArray[np.bool_]:
    values = () if seen.case.empty is None else seen.case.empty.values
    return ~np.isin(seen.image, values)


def _keypoints(smooth: NDArray[np.float32], scan: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    if min(smooth.shape) <= 2 * REACH:
        return np.empty((0, 3), dtype=np.int64)
    first = [np.gradient(smooth, axis=axis) for axis in range(3)]
    zz, yy, xx = (np.gradient(first[axis], axis=axis) for axis in range(3))
    zy, zx, yx = np.gradient(first[0], axis=1), np.gradient(first[0], axis=2), np.gradient(first[1], axis=2)
    bend = np.abs(zz * (yy * xx - yx * yx) - zy * (zy * xx - yx * zx) + zx * (zy * yx - yy * zx))
    inside = np.zeros(smooth.shape, dtype=bool)
    inside[(slice(REACH, -REACH),) * 3] = True
    if scan is not None:
        inside &= ndimage.minimum_filter(scan, 2 * REACH + 1)
    peak = inside & (bend > 0) & (bend == ndimage.maximum_filter(bend, 2 * APART + 1))
    found = np.argwhere(peak)
    return found[np.argsort(-bend[peak], kind="stable")[:KEYPOINTS]]

"""Do two volumes really share a part? Their voxels say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from volumen.doctor.data.turns import turned

FINE, COARSE = 1.5, 5.0
"""Sigmas of the Gaussians between which structure is compared, in voxels: neither noise nor shading."""
LONGEST = 96
"""Voxels along an axis that are compared."""
SHORTEST = 8
NEAR = 8
"""Voxels that the move may be off, and within which a maximum of the correlation is the same one."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Overlap:
    """What two volumes share."""

    share: float
    """Of the smaller volume, 0..1."""
    voxels: int
    """That are shared."""
    move: tuple[int, int, int]
    """Of the turned other volume's first voxel from that of the first volume, z y x."""
    agreement: float
    """Correlation of their structure there, -1..1; negative where grey values are inverted."""
    elsewhere: float
    """The greatest magnitude of the correlation at any other place of the compared part."""


def measure_overlap(
    one: NDArray[np.generic], other: NDArray[np.generic], turn: int, move: tuple[float, float, float]
) -> Overlap | None:
    """Compare two volumes [Z, Y, X] where they would overlap.

    Args:
        one: The first.
        other: The second, as it is.
        turn: Of the second.
        move: Of the turned second volume's middle from that of the first, in voxels; it may be off by a few.

    Returns:
        None where they share less than 8 voxels along an axis, or nothing but constant grey values.
    """
    other = turned(other, turn)
    middles = (np.array(one.shape) - np.array(other.shape)) / 2
    origin = np.rint(middles + np.array(move)).astype(int)
    for _ in range(2):
        boxes = _boxes(one.shape, other.shape, origin, LONGEST)
        if boxes is None:
            return None
        ours, theirs = _structure(one[boxes[0]]), _structure(other[boxes[1]])
        correlation = _correlations(ours, theirs)
        near = _shifts(correlation.shape, NEAR)
        peak = max(near, key=lambda shift: abs(correlation[shift]))
        if not any(peak):
            break
        origin = origin + np.array(peak)
    scale = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if not scale > 0:
        return None
    found = float(correlation[peak])
    for shift in _shifts(correlation.shape, NEAR, peak):
        correlation[shift] = 0
    whole = _boxes(one.shape, other.shape, origin, None)
    if whole is None:
        return None
    voxels = int(np.prod([part.stop - part.start for part in whole[0]]))
    z, y, x = (int(place) for place in origin)
    agreement, elsewhere = found / scale, float(np.abs(correlation).max()) / scale
    return Overlap(voxels / min(one.size, other.size), voxels, (z, y, x), agreement, elsewhere)


def _boxes(
    shape: tuple[int, ...], other: tuple[int, ...], origin: NDArray[np.int64], longest: int | None
) -> tuple[Box, Box] | None:
    """The shared part in both, or the middle of it."""
    ours, theirs = [], []
    for length, second, start in zip(shape, other, origin.tolist(), strict=True):
        low, high = max(0, start), min(length, start + second)
        if high - low < SHORTEST:
            return None
        if longest is not None and high - low > longest:
            low += (high - low - longest) // 2
            high = low + longest
        ours.append(slice(low, high))
        theirs.append(slice(low - start, high - start))
    return (ours[0], ours[1], ours[2]), (theirs[0], theirs[1], theirs[2])


def _structure(part: NDArray[np.generic]) -> NDArray[np.float32]:
    """Between two Gaussians, without what is extreme, of mean 0."""
    grey = part.astype(np.float32)
    grey = np.clip(grey, *np.percentile(grey, (0.5, 99.5)))
    difference = ndimage.gaussian_filter(grey, FINE, truncate=3) - ndimage.gaussian_filter(grey, COARSE, truncate=3)
    found: NDArray[np.float32] = difference - difference.mean()
    return found


def _correlations(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of products for every circular move of `theirs`."""
    spectrum = fft.rfftn(ours) * np.conj(fft.rfftn(theirs))
    return np.asarray(fft.irfftn(spectrum, s=ours.shape))


def _shifts(shape: tuple[int, ...], reach: int, about: tuple[int, int, int] = (0, 0, 0)) -> list[tuple[int, int, int]]:
    ranges = [range(-min(reach, length // 4), min(reach, length // 4) + 1) for length in shape]
    return [(z + about[0], y + about[1], x + about[2]) for z in ranges[0] for y in ranges[1] for x in ranges[2]]

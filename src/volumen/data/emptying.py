"""Empty a part of a training patch, and fill it as prediction does, so that a network learns to do without it.

A part is where a sum of one function per axis exceeds a bound: slabs, oblique cuts, corners, frames, what lies outside
or inside of cylinders, balls and boxes. Hence a mask is three short vectors, and any device makes it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.data.emptiness import fill_in
from volumen.data.labels import IGNORE

SHARE = (0.1, 0.9)
"""Of a patch that is emptied."""
BEYOND = 0.25
"""Of a side: how far from the patch the middle of a shape may lie."""
ROUND, SQUARE = 2, 16
COARSE = 16
"""Points along an axis by which the share is measured."""


@dataclass(frozen=True)
class Emptied:
    """The part of a patch [Z, Y, X] that is emptied."""

    levels: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    """One function per axis."""
    bound: np.float32
    """What exceeds it is emptied."""

    def scan(self) -> NDArray[np.bool_]:
        """True where the patch stays, bool [Z, Y, X]."""
        z, y, x = self.levels
        return np.asarray(z[:, None, None] + y[:, None] + x <= self.bound)


def draw_emptied(patch: tuple[int, int, int], random: np.random.Generator) -> Emptied:
    """Draw a part: half of the time beyond a plane, else outside, or more rarely inside, of a round or square shape."""
    places = [np.linspace(-1, 1, side) for side in patch]
    if random.random() < 0.5:
        slopes = random.standard_normal(3)
        if random.random() < 0.5:  # a slab
            slopes[np.arange(3) != random.integers(3)] = 0.0
        levels = [slope * place for slope, place in zip(slopes, places, strict=True)]
    else:
        power = SQUARE if random.random() < 0.5 else ROUND
        counts = random.random(3) < 0.75
        counts[int(random.integers(3))] = True
        middles = random.uniform(-1 - 2 * BEYOND, 1 + 2 * BEYOND, 3)
        sign = 1 if random.random() < 0.75 else -1
        levels = [sign * used * (np.abs(place - middle) / 2) ** power
                  for used, place, middle in zip(counts, places, middles, strict=True)]  # fmt: skip
    z, y, x = (level.astype(np.float32) for level in levels)
    some = [level[np.linspace(0, len(level) - 1, min(len(level), COARSE)).round().astype(int)] for level in (z, y, x)]
    sums = some[0][:, None, None] + some[1][:, None] + some[2]
    return Emptied((z, y, x), np.float32(np.quantile(sums, 1 - random.uniform(*SHARE))))


def empty(
    image: NDArray[np.float32], codes: NDArray[np.uint8], emptied: Emptied
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image and canonical codes [Z, Y, X] of a patch without its emptied part, which is filled and ignored.

    Where nothing labelled would be left, both stay as they are.
    """
    scan = emptied.scan()
    if not (scan & (codes != IGNORE)).any():
        return image, codes
    return fill_in(image, scan), np.where(scan, codes, np.uint8(IGNORE))

"""Labels made as uncertain as a network's knowledge of them.

Weights, thresholds and regularisers change nothing for who knows the truth, and much for who does not. Here the place
of a surface is known up to a normal error. How large it is, is told by the Dice that the best mask can expect:
2 sum(q) over the mask / (its voxels + sum(q) over all), q being a voxel's probability of surface (Lipton et al. 2014).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import IGNORE, SURFACE

SIGMAS = tuple(0.3 * 1.25**step for step in range(14))
"""Standard deviations that are tried, 0.3 to 5.5 voxels."""
LEVELS = 200
Levels = NDArray[np.float64]


def blurred(label: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """Probability of surface, float32 [Z, Y, X], where a label's place is known up to `sigma` voxels; 0 if ignored."""
    valid = (label != IGNORE).astype(np.float32)
    weight = ndimage.gaussian_filter(valid, sigma)
    surface = ndimage.gaussian_filter((label == SURFACE).astype(np.float32), sigma)
    found: NDArray[np.float32] = np.where(valid > 0, surface / np.maximum(weight, 1e-6), 0).astype(np.float32)
    return found


@dataclass(frozen=True)
class Expected:
    """The Dice to expect of {answer > level}, for levels from 0 to 1."""

    levels: Levels
    dice: Levels

    @property
    def best(self) -> float:
        """At the best level."""
        return float(self.dice.max())

    @property
    def best_level(self) -> float:
        """The middle of the levels that do about as well as the best."""
        good = np.flatnonzero(self.dice >= self.dice.max() - 0.005)
        return float(self.levels[good[len(good) // 2]])

    def at(self, level: float) -> float:
        """At the next level that was counted."""
        return float(self.dice[min(int(np.ceil(level * LEVELS - 1e-9)), LEVELS - 1)])


def expected_dice(answer: NDArray[np.floating], probability: NDArray[np.floating]) -> Expected:
    """What masks of an answer can expect.

    Args:
        answer: Predicted probabilities of the labelled voxels, [N].
        probability: Their true probabilities of surface, [N].
    """
    bins = np.ceil(answer * LEVELS - 1e-9).astype(int).clip(0, LEVELS)  # above level k / LEVELS lie the bins from k + 1
    counts = np.bincount(bins, minlength=LEVELS + 1)[::-1].cumsum()[::-1][1:]
    hits = np.bincount(bins, weights=probability, minlength=LEVELS + 1)[::-1].cumsum()[::-1][1:]
    return Expected(np.arange(LEVELS) / LEVELS, 2 * hits / np.maximum(counts + probability.sum(), 1e-9))


def sigma_for(label: NDArray[np.uint8], dice: float) -> float:
    """How uncertain a label's place is where the best mask can expect this Dice.

    Args:
        label: Canonical codes [Z, Y, X], or [N, Z, Y, X] of which each is blurred by itself.
        dice: Between 0 and 1.
    """
    parts = label[None] if label.ndim == 3 else label
    for sigma in SIGMAS:
        known = np.concatenate([blurred(part, sigma)[part != IGNORE] for part in parts])
        if known.size == 0 or expected_dice(known, known).best < dice:
            return sigma
    return SIGMAS[-1]

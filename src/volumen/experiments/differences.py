"""Differences between matched runs: paired by seed, with an interval, and what may be said of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from volumen.metrics import beats_noise, mean_and_noise

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences."""

    mean: float
    noise: float
    """Standard error; NaN with one pair."""
    half: float
    """Half the width of the 95 % interval (Student's t); NaN with one pair."""
    pairs: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half

    def sign(self, comparisons: int = 1) -> int:
        """1 or -1 where the difference is more than noise, else 0.

        Args:
            comparisons: How many differences were looked at; the interval widens, so that the best of many does not
                count for what one alone would (Bonferroni).
        """
        half = self.half if comparisons == 1 else half_width(self.noise, self.pairs, comparisons)
        if not beats_noise(abs(self.mean), self.noise, self.pairs) or not abs(self.mean) > half:
            return 0
        return 1 if self.mean > 0 else -1


def half_width(noise: float, pairs: int, comparisons: int = 1) -> float:
    """Half of a 95 % interval about the mean of some pairs, by Student's t; NaN with fewer than two."""
    if pairs < 2:
        return math.nan
    return float(stdtrit(pairs - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons))) * noise


def paired(candidate: Sequence[float | None], control: Sequence[float | None]) -> Paired | None:
    """The difference candidate - control over the places where both have a value; None where there is none."""
    differences = [
        one - other
        for one, other in zip(candidate, control, strict=True)
        if one is not None and other is not None and math.isfinite(one) and math.isfinite(other)
    ]
    if not differences:
        return None
    mean, noise = mean_and_noise(differences)
    if np.ptp(differences) == 0:
        noise = 0.0 if len(differences) > 1 else math.nan  # and not what rounding leaves of it
    return Paired(mean, noise, half_width(noise, len(differences)), len(differences))

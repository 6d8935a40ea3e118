"""What beats noise: the one rule by which the tool prefers anything, whatever it compares.

Both sides saw the same volumes, so their differences are paired. A gain is real where its mean over the volumes exceeds
twice its standard error; what fewer than three volumes say is never enough, since two agree by chance too often.
"""

import math
from collections.abc import Sequence

import numpy as np

NOISE_ERRORS = 2.0
"""Standard errors, or deviations, up to which a difference is called noise."""
FEWEST_VOLUMES = 3


def beats_noise(gain: float, noise: float, volumes: int) -> bool:
    """Whether a gain is more than noise; one that cannot be told (NaN) is not.

    Args:
        gain: Mean of paired differences, positive where something is better.
        noise: Its standard error.
        volumes: How many differences there are.
    """
    return volumes >= FEWEST_VOLUMES and gain > NOISE_ERRORS * noise


def unproven(volumes: int) -> str:
    """Why a difference does not count, in words."""
    if volumes >= FEWEST_VOLUMES:
        return "within the noise"
    return f"{'one volume does' if volumes == 1 else f'{volumes} volumes do'} not tell whether that is noise"


def mean_and_noise(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and its standard error."""
    return float(np.mean(differences)), standard_error(differences)


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of one number per case; NaN with one case, which says nothing about its noise."""
    numbers = np.array(values, np.float64)
    return float(numbers.std(ddof=1) / math.sqrt(numbers.size)) if numbers.size > 1 else math.nan

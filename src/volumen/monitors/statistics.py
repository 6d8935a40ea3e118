"""The few statistics that the rules share; robust ones, because a run has few numbers and some of them are odd."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

MOST_POINTS = 100
_NORMAL = 1.4826  # median absolute deviation to standard deviation, for normal noise


def finite(values: Sequence[float]) -> list[float]:
    """The finite ones, in their order."""
    return [value for value in values if math.isfinite(value)]


def median(values: Sequence[float]) -> float:
    """Of the finite ones; NaN where there is none."""
    known = sorted(finite(values))
    middle = len(known) // 2
    if not known:
        return math.nan
    return float(known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2)


def noise_of(values: Sequence[float]) -> float | None:
    """Standard deviation of a series around its own course: from second differences, which a trend does not touch.

    None for fewer than five values.
    """
    known = finite(values)
    if len(known) < 5:
        return None
    return float(_NORMAL * np.median(np.abs(np.diff(known, n=2))) / math.sqrt(6.0))


def slope(values: Sequence[float]) -> tuple[float, float, float]:
    """Theil-Sen slope a place, with its 95 % interval (Sen 1968); zeros and infinities for fewer than three values."""
    known = finite(values)
    if len(known) < 3:
        return 0.0, -math.inf, math.inf
    every = -(-len(known) // MOST_POINTS)  # its pairs grow with the square
    found = stats.theilslopes(known[::every], np.arange(len(known))[::every])
    return float(found.slope), float(found.low_slope), float(found.high_slope)


def robust_scores(values: Sequence[float], window: int, floor: float) -> list[float]:
    """Of each value: its distance from the median of the `window` values before it, in their robust deviations.

    Args:
        values: A series.
        window: Values that are looked back at; 0 is the score of those that have fewer than a third of it before them.
        floor: Least deviation.
    """
    scores = []
    for index, value in enumerate(values):
        before = finite(values[max(0, index - window) : index])
        if len(before) < window / 3 or not math.isfinite(value):
            scores.append(0.0)
            continue
        middle = float(np.median(before))
        spread = _NORMAL * float(np.median(np.abs(np.asarray(before) - middle)))
        scores.append((value - middle) / max(spread, floor))
    return scores


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; 0 where one of them does not vary."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)

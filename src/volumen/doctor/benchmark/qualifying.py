"""Whether a fault does harm: only then missing it is a miss. What does none is a control."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

LEAST_SEEDS = 5
LEVEL, SIGMAS = 0.05, 2.0
CLEARLY_NEUTRAL = 0.5
"""A drop below so many sigma after the first seeds is not looked at further."""
FIRST_LOOK = 3


@dataclass(frozen=True)
class Harm:
    """What a fault costs, against healthy runs of the same set-up."""

    verdict: Literal["harmful", "neutral", "open"]
    """`open`: too few runs to say, or not proven either way."""
    runs: int
    mean: float
    drop: float
    """Healthy mean less the faulty one."""
    sigma: float
    """Standard deviation of the healthy runs over their seeds."""
    p: float
    """One-sided, of the test of Mann and Whitney."""


def judge(faulty: Sequence[float], healthy: Sequence[float]) -> Harm:
    """Whether faulty runs score lower: p < 0.05 over at least five seeds each, and by more than two sigma.

    A drop of less than half a sigma over the first three seeds ends the matter: neutral. So is one of less than a sigma
    over all. Between that and harm lies what is not proven either way: `open`, neither a fault nor a control.
    """
    if len(faulty) < 2 or len(healthy) < 2:
        mean = statistics.fmean(faulty) if faulty else math.nan
        return Harm("open", len(faulty), mean, math.nan, math.nan, 1.0)
    mean, drop = statistics.fmean(faulty), statistics.fmean(healthy) - statistics.fmean(faulty)
    sigma, p = statistics.stdev(healthy), mann_whitney(healthy, faulty)
    verdict: Literal["harmful", "neutral", "open"] = "open"
    if len(faulty) >= FIRST_LOOK and drop < CLEARLY_NEUTRAL * sigma:
        verdict = "neutral"
    elif min(len(faulty), len(healthy)) >= LEAST_SEEDS:
        if p < LEVEL and drop > SIGMAS * sigma:
            verdict = "harmful"
        elif drop < sigma:
            verdict = "neutral"
    return Harm(verdict, len(faulty), mean, drop, sigma, p)


def mann_whitney(higher: Sequence[float], lower: Sequence[float]) -> float:
    """p of the exact one-sided test of Mann and Whitney (1947) that the first scores are higher.

    Scores of faulty runs are no normal sample: some seeds collapse and others do not.
    """
    return float(stats.mannwhitneyu(higher, lower, alternative="greater", method="exact").pvalue)


def clopper_pearson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share (Clopper and Pearson 1934); (0, 1) where there is nothing."""
    if of == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, of - hits + 1))
    high = 1.0 if hits == of else float(stats.beta.ppf(1 - tail, hits + 1, of - hits))
    return low, high


def upper_bound(hits: int, of: int, level: float = 0.95) -> float:
    """The one-sided upper bound of a share."""
    return 1.0 if hits >= of else float(stats.beta.ppf(level, hits + 1, of - hits))

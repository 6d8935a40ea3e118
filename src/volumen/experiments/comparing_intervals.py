"""What a comparison may say: intervals over cases and seeds, ties, rank groups, and how much more would be needed.

A score varies over cases and, trained again, over seeds. The mean's variance is the sum of both: over the cases, of
each case's mean over the runs; over the runs, of their mean distance from the means of the same cases, pooled over what
is compared, or each side's own where that is more. Degrees of freedom by Satterthwaite (1946). With one seed of several
folds the folds are the clusters; with one run each the interval is over the cases alone, which says nothing of another
seed. Where both sides know the same cases, their difference is paired by case.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, ndtri, stdtr, stdtrit

from volumen.experiments.differences import CONFIDENCE
from volumen.metrics import beats_noise

CASES, CASES_AND_SEEDS, CASES_AND_FOLDS = "cases", "cases and seeds", "cases and folds"
LEVEL = 0.03
"""Below which an adjusted p-value tells rows apart: scores are not normal, few seeds give rough p-values, and a false
winner should be named in less than 5 % of all comparisons."""
POWER = 0.8
"""Chance by which a difference should be told, where it is said how many cases that takes."""
MOST_GROWTH = 1000.0

ROUNDING = 1e-12
"""Differences up to which are what arithmetic leaves of 0."""

Scores = Mapping[str, float]
"""A run's value by case; NaN where a case has none."""


@dataclass(frozen=True)
class Interval:
    """A mean, or a mean difference, with its 95 % interval."""

    mean: float
    noise: float
    """Standard error; NaN with one case."""
    freedom: float
    """Degrees of freedom; NaN where there is no standard error."""
    cases: int
    over: str
    """What the interval is over: `cases`, `cases and seeds`, `cases and folds`."""
    of_cases: float = math.nan
    """The part of the variance of the mean that is the cases'."""
    of_runs: float = 0.0
    """The part that is the runs'."""

    @property
    def half(self) -> float:
        """Half of the interval's width (Student's t); NaN where there is none."""
        if math.isnan(self.noise):
            return math.nan
        return self.noise * float(stdtrit(self.freedom, 0.5 + CONFIDENCE / 2)) if self.noise > 0 else 0.0

    @property
    def p_value(self) -> float:
        """Chance of a mean as far from 0 where the true one is 0; 1 where it cannot be told."""
        if math.isnan(self.noise) or self.mean == 0:
            return 1.0
        return 2 * float(stdtr(self.freedom, -abs(self.mean) / self.noise)) if self.noise > 0 else 0.0


@dataclass(frozen=True)
class Pair:
    """Two rows of a comparison."""

    left: str
    right: str
    difference: Interval
    """Left less right, paired by case."""
    adjusted: float
    """The p-value after Holm (1979) over all pairs."""

    @property
    def sign(self) -> int:
        """1 where left is larger beyond the noise, -1 where right is, 0 where that cannot be told."""
        found = self.difference
        if self.adjusted >= LEVEL or not beats_noise(abs(found.mean), found.noise, found.cases):
            return 0
        return 1 if found.mean > 0 else -1


def interval(runs: Sequence[Scores], cases: Sequence[str], less: Sequence[Scores] | None = None) -> Interval | None:
    """The mean over cases of runs of one configuration, or the paired difference of two configurations.

    Args:
        runs: Of one configuration.
        cases: Cases that may count; those without a value on both sides are left out.
        less: Runs of another configuration, whose mean is taken off, case by case.

    Returns:
        None where no case has a value.
    """
    sides = [_known(runs, cases)] + ([] if less is None else [_known(less, cases)])
    shared = [case for case in cases if all(any(case in run for run in side) for side in sides)]
    if not shared:
        return None
    sides = [_known(side, shared) for side in sides]
    means = [_case_means(side, shared) for side in sides]
    values = means[0] - (means[1] if less is not None else 0.0)
    if less is not None:
        values[np.abs(values) <= ROUNDING] = 0.0
    mean, count = float(values.mean()), len(shared)
    if count < 2:
        return Interval(mean, math.nan, math.nan, count, CASES)
    of_runs, freedom = _of_runs([_spread(one, shared) for one in sides])
    of_cases = 0.0 if np.ptp(values) <= ROUNDING else float(values.var(ddof=1)) / count
    if freedom:
        degrees = _degrees(of_cases, count - 1, of_runs, freedom)
        return Interval(mean, math.sqrt(of_cases + of_runs), degrees, count, CASES_AND_SEEDS, of_cases, of_runs)
    clusters = _clusters([run for side in sides for run in side], shared)
    if len(clusters) == 1:
        return Interval(mean, math.sqrt(of_cases), count - 1, count, CASES, of_cases)
    sums = np.array([sum(values[shared.index(case)] - mean for case in cluster) for cluster in clusters])
    folds = float((sums**2).sum()) / count**2 * len(clusters) / (len(clusters) - 1)
    return Interval(mean, math.sqrt(max(folds, of_cases)), len(clusters) - 1, count, CASES_AND_FOLDS, of_cases)


def _of_runs(spreads: Sequence[tuple[float, int, float]]) -> tuple[float, float]:
    """The runs' part of the variance, with its degrees of freedom: pooled, or each side's own where that is more."""
    freedom = sum(one for _, one, _ in spreads)
    if not freedom:
        return 0.0, 0.0
    pooled = math.fsum(squares for squares, _, _ in spreads) / freedom * math.fsum(weight for _, _, weight in spreads)
    parts = [(squares / one * weight, one) for squares, one, weight in spreads if one]
    apart = math.fsum(part for part, _ in parts)
    if apart <= pooled * (1 + ROUNDING):
        return pooled, freedom
    return apart, apart**2 / math.fsum(part**2 / one for part, one in parts)


def _degrees(of_cases: float, cases: int, of_runs: float, runs: float) -> float:
    """Satterthwaite's degrees of freedom of the sum of two variances.

    Few runs often find too small a variance of theirs, and the sum would seem as well known as the cases' part is: so
    theirs is weighed as the largest that they allow in four of five draws.
    """
    larger = of_runs * runs / float(chdtri(runs, POWER))
    total = of_cases + larger
    return total**2 / (of_cases**2 / cases + larger**2 / runs) if total > 0 else math.inf


def _known(runs: Sequence[Scores], cases: Iterable[str]) -> list[dict[str, float]]:
    """What runs say of these cases; a run that knows none of them is left out."""
    wanted = list(cases)
    found = [{case: run[case] for case in wanted if math.isfinite(run.get(case, math.nan))} for run in runs]
    return [run for run in found if run]


def _case_means(runs: Sequence[Scores], cases: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([math.fsum(known := [run[case] for run in runs if case in run]) / len(known) for case in cases])


def _spread(runs: Sequence[Scores], cases: Sequence[str]) -> tuple[float, int, float]:
    """Squared distances of runs from each other, their degrees of freedom, and the mean's share of that variance."""
    means = dict(zip(cases, _case_means(runs, cases), strict=True))
    counts = {case: sum(case in run for run in runs) for case in cases}
    away = [math.fsum(run[case] - means[case] for case in run) / len(run) for run in runs]
    weights = [math.fsum(1 / counts[case] for case in run) / len(cases) for run in runs]
    squares = math.fsum(one**2 for one in away if abs(one) > ROUNDING)
    return squares, len(runs) - len(_clusters(runs, cases)), math.fsum(one**2 for one in weights)


def _clusters(runs: Sequence[Scores], cases: Sequence[str]) -> list[set[str]]:
    """Cases that hang together by runs which know several of them."""
    clusters: list[set[str]] = []
    for run in runs:
        joined = {case for case in cases if case in run}
        apart = []
        for cluster in clusters:
            if cluster & joined:
                joined |= cluster
            else:
                apart.append(cluster)
        clusters = [*apart, joined]
    return sorted(clusters, key=min)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): what is rejected below a level errs in that share of families."""
    adjusted, most = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        most = max(most, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = most
    return adjusted


def all_pairs(rows: Mapping[str, Sequence[Scores]], cases: Sequence[str]) -> tuple[Pair, ...]:
    """Every two rows that share a case, in the order of their names."""
    names = sorted(rows)
    found = [
        (left, right, difference)
        for place, left in enumerate(names)
        for right in names[place + 1 :]
        if (difference := interval(rows[left], cases, rows[right])) is not None
    ]
    adjusted = holm([difference.p_value for _, _, difference in found])
    return tuple(Pair(*one, value) for one, value in zip(found, adjusted, strict=True))


def rank_groups(names: Iterable[str], pairs: Sequence[Pair]) -> dict[str, tuple[int, int]]:
    """The first and the last rank that each row can have: what cannot be told apart shares its ranks."""
    ranks = {}
    everyone = list(names)
    for name in everyone:
        signs = [one.sign if one.left == name else -one.sign for one in pairs if name in (one.left, one.right)]
        ranks[name] = (1 + signs.count(-1), len(everyone) - signs.count(1))
    return ranks


def more_needed(difference: Interval, comparisons: int = 1) -> tuple[str, float | None]:
    """How many times the cases or seeds would tell a difference of this size, with a chance of 80 %.

    Args:
        difference: One that is not beyond the noise.
        comparisons: How many pairs there are.

    Returns:
        `cases`, `seeds` or `cases and seeds`, whichever is the cheapest, and by how much their number has to grow;
        None where that is beyond all measure, or where nothing can be said.
    """
    if math.isnan(difference.noise) or difference.mean == 0:
        return CASES, None
    reach = float(ndtri(1 - LEVEL / (2 * comparisons)) + ndtri(POWER))
    wanted = (difference.mean / reach) ** 2
    if difference.over == CASES_AND_FOLDS:
        return CASES, _factor(difference.noise**2, wanted)
    by_cases = _factor(difference.of_cases, wanted - difference.of_runs)
    by_seeds = _factor(difference.of_runs, wanted - difference.of_cases)
    if by_cases is None and by_seeds is None:
        return CASES_AND_SEEDS, _factor(difference.noise**2, wanted)
    if by_seeds is None or (by_cases is not None and by_cases <= by_seeds):
        return CASES, by_cases
    return "seeds", by_seeds


def _factor(variance: float, wanted: float) -> float | None:
    factor = variance / wanted if wanted > 0 else math.inf
    return max(1.0, factor) if factor <= MOST_GROWTH else None

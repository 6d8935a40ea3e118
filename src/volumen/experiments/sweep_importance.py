"""Which factors matter: how much of what trials differ by goes with each factor alone, and whether chance would do it.

The measure is the share of the variance of the values' ranks that lies between groups of a factor's values (its
choices, or quarters of its range by rank), less what that many groups take by chance (omega squared).
Ranks, since one diverged trial would otherwise be all that is seen. All trials count, with their values at the first
rung, since only there all were trained equally long. What two factors do only together does not show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from volumen.experiments.sweep_halving import Entry, Value
from volumen.experiments.sweep_space import Factor, Space

FEWEST_TRIALS = 8
SHUFFLES, RESAMPLES = 2000, 500
QUARTERS = 4
CHANCE = 0.05
MATTERS = "matters"

Numbers = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Importance:
    """What a factor does alone."""

    factor: str
    trials: int
    """That had a value of it, and of the metric."""
    share: float | None
    """Of the variance of ranks, 0 to 1; None for too few trials."""
    low: float | None = None
    """95 % interval, by resampling trials."""
    high: float | None = None
    chance: float | None = None
    """How often shuffled values give as much, times the number of factors."""

    @property
    def verdict(self) -> str:
        """Whether it can be told."""
        if self.trials < FEWEST_TRIALS:
            return f"cannot tell: {self.trials} trials, {FEWEST_TRIALS} are needed"
        if self.share is None:
            return "cannot tell: all trials had the same value"
        return MATTERS if self.chance is not None and self.chance <= CHANCE else "cannot tell from chance"


def importances(space: Space, entries: Sequence[Entry], seed: int = 0) -> tuple[Importance, ...]:
    """Every factor's importance: those that matter first, the largest of them on top.

    Args:
        space: The factors.
        entries: Trials with all their parameters; those without a value at the first rung do not count.
        seed: Of the shuffles.
    """
    found = []
    for number, factor in enumerate(space.factors):
        pairs = [(one.parameters[factor.key], one.values[0]) for one in entries if one.values and
                 factor.key in one.parameters]  # fmt: skip
        found.append(_importance(factor, pairs, len(space.factors), np.random.default_rng([seed, number])))
    return tuple(sorted(found, key=lambda one: (one.verdict != MATTERS, -1.0 if one.share is None else -one.share)))


def _importance(
    factor: Factor, pairs: Sequence[tuple[Value, float]], factors: int, random: np.random.Generator
) -> Importance:
    groups = groups_of(factor, [value for value, _ in pairs])
    if len(pairs) < FEWEST_TRIALS or len(np.unique(groups)) < 2 or len({value for _, value in pairs}) < 2:
        return Importance(factor.key, len(pairs), None)
    ranks = rankdata([value for _, value in pairs])
    share = explained(ranks, groups)
    shuffled = _explained(random.permuted(np.tile(ranks, (SHUFFLES, 1)), axis=1), groups)
    chance = (1 + np.count_nonzero(shuffled >= share - 1e-12)) / (1 + SHUFFLES)
    drawn = [random.integers(0, len(ranks), len(ranks)) for _ in range(RESAMPLES)]
    spread = [explained(ranks[each], groups[each]) for each in drawn]
    low, high = np.quantile(spread, (0.025, 0.975))
    return Importance(factor.key, len(pairs), share, float(low), float(high), min(1.0, chance * factors))


def groups_of(factor: Factor, values: Sequence[Value]) -> Groups:
    """A group for each value: its choice, its own where there are few numbers, or its quarter by rank."""
    if factor.low is None:
        names = list(factor.choices)
        return np.array([names.index(str(value)) for value in values], np.int64)
    numbers = np.array(values, np.float64)
    if len(np.unique(numbers)) <= QUARTERS:
        return np.array(np.searchsorted(np.unique(numbers), numbers), np.int64)
    share = (rankdata(numbers) - 0.5) / len(numbers)
    return np.array(np.minimum(np.floor(share * QUARTERS), QUARTERS - 1), np.int64)


def explained(values: Numbers, groups: Groups) -> float:
    """Share of the variance between groups, less what chance gives to so many of them; never below 0."""
    return float(_explained(values[None], groups)[0])


def _explained(rows: Numbers, groups: Groups) -> Numbers:
    """The same for every row of values."""
    kinds = np.unique(groups)
    left = rows.shape[1] - len(kinds)
    if left <= 0:
        return np.zeros(len(rows))
    belongs = (groups[:, None] == kinds).astype(np.float64)
    centred = rows - rows.mean(1, keepdims=True)
    total = (centred**2).sum(1)
    between = ((centred @ belongs) ** 2 / belongs.sum(0)).sum(1)
    within = np.maximum(total - between, 0.0) / left
    known = total > 0
    share = np.divide(between - (len(kinds) - 1) * within, total + within, out=np.zeros(len(rows)), where=known)
    return np.array(np.clip(share, 0.0, 1.0), np.float64)

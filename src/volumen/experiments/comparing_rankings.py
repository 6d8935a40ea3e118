"""Rows in order of one metric: rank groups, a winner where there is one, and else what it would take to name one.

A winner is better than every other row by more than noise, after Holm over all pairs. Rows that cannot be told apart
share their ranks: `1-3` is one of the first three places, and nobody knows which.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volumen.experiments.comparing_intervals import (
    Interval,
    Pair,
    Scores,
    all_pairs,
    interval,
    more_needed,
    rank_groups,
)
from volumen.metrics.comparison import FEWEST_VOLUMES
from volumen.system.output import counted

OWN, AT_MATCHED = "own threshold", "matched share"
MOST_NAMED = 5


@dataclass(frozen=True)
class Standing:
    """A row's place."""

    label: str
    mean: Interval | None
    """None where it has no value."""
    ranks: tuple[int, int] | None
    """First and last rank that it may have; None where it is not ranked."""
    behind: Interval | None = None
    """Its difference from the row with the best mean, paired by case; None for that row."""
    adjusted: float | None = None
    """The p-value of that difference after Holm over all pairs."""
    reason: str = ""
    """Why it is not ranked."""

    @property
    def rank(self) -> str:
        """The rank, or the group of ranks; a dash where there is none."""
        if self.ranks is None:
            return "-"
        first, last = self.ranks
        return str(first) if first == last else f"{first}-{last}"


@dataclass(frozen=True)
class Ranking:
    """Rows in order of their means; who cannot be told apart shares ranks."""

    point: str
    """Where masks are cut: `own threshold` or `matched share`."""
    metric: str
    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    winner: str
    """The one row that is better than all others beyond the noise; empty where there is none."""
    verdict: str
    """The winner with its evidence, or why none can be named."""


def unranked(point: str, metric: str, reason: str) -> Ranking:
    """No ranking, with the reason."""
    return Ranking(point, metric, (), (), "", f"not ranked: {reason}")


def rank(point: str, metric: str, rows: Mapping[str, Sequence[Scores]], cases: Sequence[str]) -> Ranking:
    """Rank rows by a metric that is better the higher it is.

    Args:
        point: Where masks were cut.
        metric: Its name.
        rows: By label, a mapping from case to value for each run.
        cases: The cases that count.
    """
    means = {label: interval(runs, cases) for label, runs in rows.items()}
    with_value = {label: runs for label, runs in rows.items() if means[label] is not None}
    without = [
        Standing(label, None, None, reason=f"no value at the {point}")
        for label in sorted(rows)
        if label not in with_value
    ]
    if len(with_value) < 2:
        return Ranking(
            point, metric, (*_alone(with_value, means), *without), (), "", "not ranked: too few rows have a value"
        )
    pairs = all_pairs(with_value, cases)
    ranks = rank_groups(with_value, pairs)
    order = sorted(with_value, key=lambda label: (-_mean(means[label]), label))
    by_names = {frozenset((one.left, one.right)): one for one in pairs}
    standings = [Standing(label, means[label], ranks[label], *_behind(label, order[0], by_names)) for label in order]
    winner = order[0] if ranks[order[0]] == (1, 1) else ""
    verdict = _won(standings, metric, len(pairs)) if winner else _open(standings, metric, len(pairs))
    return Ranking(point, metric, (*standings, *without), pairs, winner, verdict)


def _alone(rows: Mapping[str, Sequence[Scores]], means: Mapping[str, Interval | None]) -> list[Standing]:
    return [Standing(label, means[label], None, reason="no other row to compare with") for label in rows]


def _mean(one: Interval | None) -> float:
    return -math.inf if one is None else one.mean


def _behind(label: str, best: str, pairs: Mapping[frozenset[str], Pair]) -> tuple[Interval | None, float | None]:
    """The difference of a row from the best one."""
    pair = pairs.get(frozenset((label, best)))
    return (None, None) if pair is None or label == best else (towards(pair, label), pair.adjusted)


def towards(pair: Pair, label: str) -> Interval:
    """The difference of a pair, seen from one of its rows: that one less the other."""
    found = pair.difference
    if label == pair.left:
        return found
    return Interval(
        0.0 - found.mean, found.noise, found.freedom, found.cases, found.over, found.of_cases, found.of_runs
    )


def _won(standings: Sequence[Standing], metric: str, comparisons: int) -> str:
    best, second = standings[:2]
    lead = second.behind
    if lead is None or second.adjusted is None:
        raise ValueError("a winner has a difference from the next row")
    holm = f" after Holm over {counted(comparisons, 'pair')}" if comparisons > 1 else ""
    return (
        f"{best.label} is best: {metric} {_mean(best.mean):.4f}, above {second.label} by {said(lead, negated=True)} "
        f"(95 % interval over {counted(lead.cases, 'case')}{_seeds(lead)}; p {second.adjusted:.2g}{holm})"
    )


def said(one: Interval, *, negated: bool = False) -> str:
    """A difference with half of its interval."""
    mean = 0.0 - one.mean if negated else one.mean
    return f"{mean:+.4f}" + ("" if math.isnan(one.half) else f" ± {one.half:.4f}")


def _seeds(one: Interval) -> str:
    return one.over.removeprefix("cases")


def _open(standings: Sequence[Standing], metric: str, comparisons: int) -> str:
    """Why no winner is named, and what it would take."""
    best = standings[0]
    tied = [one for one in standings[1:] if one.ranks is not None and one.ranks[0] == 1]
    nearest = tied[0] if tied else standings[1]
    names = _listed([best.label, *(one.label for one in tied)] if tied else [best.label, nearest.label])
    found = nearest.behind
    if found is None:
        return f"cannot tell {names} apart"
    cases = counted(found.cases, "case")
    if found.mean == 0 and found.noise == 0:
        return f"cannot tell {names} apart: {best.label} and {nearest.label} have the same {metric} on all {cases}"
    head = f"cannot tell {names} apart: {cases}, {metric} difference {said(found, negated=True)}"
    if found.cases < FEWEST_VOLUMES:
        return f"{head}; fewer than {FEWEST_VOLUMES} cases never tell a difference from noise: hold out more volumes"
    return f"{head}; {_needed(found, comparisons)}"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence, of many the first ones."""
    more = len(names) - MOST_NAMED
    shown = [*names[: MOST_NAMED - 1], f"{more + 1} others"] if more > 0 else list(names)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _needed(found: Interval, comparisons: int) -> str:
    what, factor = more_needed(found, comparisons)
    if factor is None:
        return "a difference as small as that is beyond any number of cases or seeds: take either"
    how = " (with a chance of 80 %)"
    if what == "cases":
        return f"if it is real, it would need about {math.ceil(factor * found.cases)} cases to be told{how}"
    return f"if it is real, it would need about {factor:.1f} times the {what} to be told{how}"


def orders(rankings: Sequence[Ranking]) -> list[str]:
    """What is to be said where the order at the own threshold is not the one at a matched share."""
    if len(rankings) < 2 or not all(one.pairs for one in rankings):
        return []
    own, matched = ({(one.left, one.right): one for one in each.pairs} for each in rankings[:2])
    both = [(own[key], matched[key]) for key in own if key in matched]
    if not any(one.difference.mean * other.difference.mean < 0 for one, other in both):
        return []
    changed = [one for one, other in both if one.sign != other.sign]
    first, other = (each.standings[0].label for each in rankings[:2])
    head = f"the two orders differ: {first} leads at the own thresholds, {other} at a matched share of surface"
    if first == other:
        head = "the two orders differ below the first place"
    if not changed:
        return [f"{head}; both within the noise"]
    return [
        f"{head}; what changes there is how much surface is predicted, not what is found: a threshold "
        "gives the same gain without a training (`volumen tune`)"
    ]

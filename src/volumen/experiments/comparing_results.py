"""What a comparison holds: rows with their scores, and what came of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from volumen.config.postprocessing import Threshold
from volumen.experiments.comparing_intervals import Interval, Scores, interval
from volumen.experiments.comparing_rankings import OWN, Ranking
from volumen.experiments.comparing_runs import Row, Told
from volumen.experiments.comparing_scores import NetworkScores


@dataclass(frozen=True)
class Entry:
    """A row, with what its networks reach."""

    row: Row
    scores: Mapping[str, NetworkScores]
    """By name of the run; runs with the very weights of another one are left out."""
    own_totals: Mapping[str, float]
    """Each run's validation total under its own objective, as recorded; by name."""

    @property
    def label(self) -> str:
        """Name of the row."""
        return self.row.label

    @property
    def cases(self) -> frozenset[str]:
        """Volumes that any of its runs was scored on."""
        return frozenset(case for one in self.scores.values() for case in one.own)

    def by_case(self, metric: str, point: str = OWN) -> list[Scores]:
        """A metric by case, a mapping for each network."""
        found = (one.own if point == OWN else one.at_matched for one in self.scores.values())
        return [{case: values.get(metric, math.nan) for case, values in one.items()} for one in found]

    def terms(self, term: str) -> list[Scores]:
        """A raw term of the reference objective by case; the total where it is empty."""
        if not term:
            return [one.totals for one in self.scores.values()]
        return [
            {case: values.get(term, math.nan) for case, values in one.terms.items()} for one in self.scores.values()
        ]

    @property
    def thresholds(self) -> tuple[float | None, float | None]:
        """The row's own threshold, None where its masks are not made by one, and the mean of the matched ones."""
        first = self.row.config.postprocessing.steps[0]
        points = [one.point.threshold for one in self.scores.values() if one.point is not None]
        known = [one for one in points if one is not None]
        matched = sum(known) / len(known) if known and len(known) == len(points) else None
        return (first.level if isinstance(first, Threshold) else None), matched


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it."""

    told: tuple[Told, ...]
    problems: Mapping[str, str]
    """By run, why it was not scored."""
    entries: tuple[Entry, ...]
    shared: tuple[str, ...]
    """Cases that every scored row has."""
    metric: str
    rankings: tuple[Ranking, ...]
    reference: str
    """Whose objective measures all of them; empty where none does."""
    terms: tuple[str, ...]
    objectives_differ: tuple[str, ...]
    """Keys of the objective in which rows differ."""
    quick: bool
    which: str
    notes: tuple[str, ...]

    @property
    def scored(self) -> tuple[Entry, ...]:
        """Rows that have scores."""
        return tuple(one for one in self.entries if one.cases)

    @property
    def true_share(self) -> float:
        """Mean of the shared cases."""
        found = [interval(one.by_case("true_share"), self.shared) for one in self.scored]
        return next((one.mean for one in found if one is not None), math.nan)

    def mean(self, entry: Entry, metric: str, point: str = OWN) -> Interval | None:
        """A metric's mean over the shared cases."""
        return interval(entry.by_case(metric, point), self.shared)

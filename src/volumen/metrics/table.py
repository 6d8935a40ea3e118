"""Every number of a mask that people and files are given: one table, in the order in which they are shown.

To add a metric, add a line. `volumen evaluate` computes, keeps, averages and prints all that are `evaluated`; the
validations of a training those that are `validated`; `volumen score`, which counts no overlap, all of the first part.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from volumen.metrics.leaderboard import LeaderboardScore
from volumen.metrics.overlap import Overlap

Given = TypeVar("Given", LeaderboardScore, Overlap)
ROUNDING = 1e-9
SHARE = (0.0, 1 + ROUNDING)
BITS = (0.0, 1000.0)
POINTS = (-100 - ROUNDING, 100 + ROUNDING)


@dataclass(frozen=True)
class Metric(Generic[Given]):
    """One number of a mask against its truth."""

    name: str
    """In records and configurations."""
    compute: Callable[[Given], float | None]
    """None, or NaN, where it has no value."""
    heading: str = ""
    """Of its column; without one it is in no table of an evaluation."""
    higher_is_better: bool | None = True
    """None where neither is."""
    span: tuple[float, float] = SHARE
    """Least and most that it can be."""
    decimals: int = 3
    percent: bool = False
    signed: bool = False
    evaluated: bool = True
    validated: bool = False

    def text(self, value: float | None) -> str:
        """The value for people; a dash where there is none."""
        if value is None or math.isnan(value):
            return "-"
        return f"{100 * value if self.percent else value:{'+' if self.signed else ''}.{self.decimals}f}"


_OF_SCORES: tuple[Metric[LeaderboardScore], ...] = (
    Metric("leaderboard", lambda found: found.score, "score", validated=True),
    Metric("topo", lambda found: found.topo.score, "topo", validated=True),
    Metric("f1_components", lambda found: found.topo.f1[0], "F1 comp.", evaluated=False),
    Metric("f1_tunnels", lambda found: found.topo.f1[1], "F1 tunnels", evaluated=False),
    Metric("f1_cavities", lambda found: found.topo.f1[2], "F1 cavities", evaluated=False),
    Metric("surface_dice", lambda found: found.surface_dice, "surface Dice", validated=True),
    Metric("voi", lambda found: found.voi.score, "VOI", validated=True),
    Metric("voi_split", lambda found: found.voi.split, "split", higher_is_better=False, span=BITS),
    Metric("voi_merge", lambda found: found.voi.merge, "merge", higher_is_better=False, span=BITS),
)
_OF_OVERLAPS: tuple[Metric[Overlap], ...] = (
    Metric("accuracy", lambda found: found.accuracy, "accuracy", validated=True),
    Metric("precision", lambda found: found.precision, "precision", validated=True),
    Metric("recall", lambda found: found.recall, "recall", validated=True),
    Metric("dice", lambda found: found.dice, "Dice", validated=True),
    Metric("iou", lambda found: found.iou, "IoU", validated=True),
    Metric(
        "predicted_share", lambda found: found.predicted_share, "surface %", higher_is_better=None,
        decimals=2, percent=True, validated=True,
    ),
    Metric(
        "true_share", lambda found: found.true_share, "true %", higher_is_better=None,
        decimals=2, percent=True, validated=True,
    ),
    Metric(
        "overestimation_points", lambda found: found.overestimation_points, "surface - true",
        higher_is_better=None, span=POINTS, decimals=2, signed=True,
    ),
    # What predicting surface everywhere would get: a Dice means something only above it.
    Metric("all_surface_dice", lambda found: 2 * found.true_share / (1 + found.true_share), higher_is_better=None),
)  # fmt: skip
LEADERBOARD_METRICS = {one.name: one for one in _OF_SCORES}
OVERLAP_METRICS = {one.name: one for one in _OF_OVERLAPS}
_ALL: dict[str, Metric[Any]] = {**LEADERBOARD_METRICS, **OVERLAP_METRICS}
METRICS = {name: one for name, one in _ALL.items() if one.evaluated}
"""What an evaluation holds of each case."""


def evaluated_values(score: LeaderboardScore, counts: Overlap) -> dict[str, float]:
    """The numbers of `METRICS`; NaN where one has no value."""
    return _values(LEADERBOARD_METRICS, score, "evaluated") | _values(OVERLAP_METRICS, counts, "evaluated")


def validated_values(score: LeaderboardScore, counts: Overlap, *, exact: bool) -> dict[str, float]:
    """The numbers of one volume of a validation; the score is `leaderboard_quick` where no tunnels were matched."""
    parts = _values(LEADERBOARD_METRICS, score, "validated")
    whole, topo = parts.pop("leaderboard"), parts.pop("topo")
    named = {"leaderboard": whole, "topo": topo} if exact else {"leaderboard_quick": whole}
    return _values(OVERLAP_METRICS, counts, "validated") | parts | named


def _values(table: Mapping[str, Metric[Given]], found: Given, where: str) -> dict[str, float]:
    values = {name: one.compute(found) for name, one in table.items() if getattr(one, where)}
    return {name: math.nan if value is None else float(value) for name, value in values.items()}

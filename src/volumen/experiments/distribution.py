"""Validation of the class distribution: how sure the predictions are, how right, and how much surface they hold.

A threshold is one point of a curve. The counts of voxels by predicted probability and truth, a few kilobytes a case,
give precision and recall at every threshold, the calibration of the probabilities and the share of surface at each.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from volumen.criteria import Records, State, judge_all, known_quantity, parse_criterion, print_criterion, statements
from volumen.data.labels import IGNORE, SURFACE
from volumen.metrics import mean_of_known, ratio
from volumen.system.records import Count, Text

BINS = 100
CALIBRATION_BINS = 10
Bins = Annotated[tuple[Count, ...], Field(min_length=BINS, max_length=BINS)]
SHARE_SLACK = 0.25
"""Of the labels' own range of surface shares, by which a prediction may lie outside on either side."""


@dataclass(frozen=True)
class ProbabilityCounts:
    """Labelled voxels by probability and truth; bin i holds probabilities from i / 100 to (i + 1) / 100."""

    background: Bins
    surface: Bins

    @staticmethod
    def of(probabilities: NDArray[np.float32], label: NDArray[np.uint8]) -> "ProbabilityCounts":
        """Count a volume: probabilities float32 [Z, Y, X], canonical codes [Z, Y, X]."""
        counts = np.zeros((2, BINS), np.int64)
        for plane, truth in zip(probabilities, label, strict=True):  # plane by plane: no second volume
            known = truth != IGNORE
            bins = np.minimum((plane[known] * BINS).astype(np.int64), BINS - 1)
            both = np.bincount(bins + BINS * (truth[known] == SURFACE), minlength=2 * BINS)
            counts += both.reshape(2, BINS)
        return ProbabilityCounts(tuple(counts[0].tolist()), tuple(counts[1].tolist()))

    @staticmethod
    def total(parts: Iterable["ProbabilityCounts"]) -> "ProbabilityCounts":
        """The counts of several volumes together."""
        rows = np.sum([[part.background, part.surface] for part in parts], axis=0)
        return ProbabilityCounts(tuple(rows[0].tolist()), tuple(rows[1].tolist()))

    @cached_property
    def curve(self) -> tuple["Operating", ...]:
        """Precision, recall, Dice and share at the thresholds 0, 0.01, ... 0.99."""
        background, surface = np.asarray(self.background), np.asarray(self.surface)
        hits, false = surface[::-1].cumsum()[::-1], background[::-1].cumsum()[::-1]
        true, valid = int(surface.sum()), int(surface.sum() + background.sum())
        return tuple(
            Operating(
                threshold=number / BINS,
                precision=ratio(hit, hit + wrong),
                recall=ratio(hit, true),
                dice=ratio(2 * hit, hit + wrong + true),
                predicted_share=ratio(hit + wrong, valid),
            )
            for number, (hit, wrong) in enumerate(zip(hits.tolist(), false.tolist(), strict=True))
        )

    def at(self, threshold: float) -> "Operating":
        """The point of the curve that is nearest to a threshold."""
        return self.curve[min(BINS - 1, max(0, round(threshold * BINS)))]

    @property
    def best_dice(self) -> "Operating":
        """The threshold with the best Dice of the pooled voxels."""
        return max(self.curve, key=lambda point: (not math.isnan(point.dice), point.dice))

    @cached_property
    def calibration(self) -> tuple["Reliability", ...]:
        """Observed share of surface by predicted probability, in tenths; tenths without voxels are left out."""
        counts = np.asarray([self.background, self.surface], np.float64).reshape(2, CALIBRATION_BINS, -1)
        middles = ((np.arange(BINS) + 0.5) / BINS).reshape(CALIBRATION_BINS, -1)
        voxels = counts.sum(axis=0)
        return tuple(
            Reliability(
                predicted=float((middles[part] * voxels[part]).sum() / voxels[part].sum()),
                observed=float(counts[1, part].sum() / voxels[part].sum()),
                voxels=int(voxels[part].sum()),
            )
            for part in range(CALIBRATION_BINS)
            if voxels[part].any()
        )

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean distance of predicted from observed, by voxels."""
        voxels = sum(one.voxels for one in self.calibration)
        return ratio(sum(one.voxels * abs(one.predicted - one.observed) for one in self.calibration), voxels)


@dataclass(frozen=True)
class Operating:
    """What a threshold gives."""

    threshold: float
    precision: float
    recall: float
    dice: float
    predicted_share: float


@dataclass(frozen=True)
class Reliability:
    """What became of the voxels that were predicted with about one probability."""

    predicted: float
    observed: float
    voxels: int


@dataclass(frozen=True)
class Judgement:
    """A target held against what was reached."""

    quantity: Text
    target: Text
    value: float | None
    """None where an evaluation does not know the quantity."""
    reached: bool | None
    percent: bool = False
    """Whether the value is said in percent, as its target is."""

    def __post_init__(self) -> None:
        if self.value is None and self.reached is not None:  # JSON cannot say NaN
            object.__setattr__(self, "value", math.nan)

    @property
    def sentence(self) -> str:
        """The judgement for a person."""
        asked = f"{self.quantity} {self.target}".rstrip()
        if self.value is None or self.reached is None:
            return f"{asked}: not a number of an evaluation; see the run's metrics"
        if math.isnan(self.value):
            return f"{asked}: missed, no volume gives it a value"
        value = f"{100 * self.value:.1f} %" if self.percent else f"{self.value:.3f}"
        return f"{asked}: {'reached' if self.reached else 'missed'}, {value}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values and the sentence."""
        return {**asdict(self), "sentence": self.sentence}


def judge(means: Mapping[str, float], criteria: Sequence[str]) -> tuple[Judgement, ...]:
    """The configured criteria against means over the cases: those that an evaluation can tell, by value alone.

    Told are criteria on metrics that name no epoch, `val.dice > 0.8` or `score > 0.6`; of others it is said that the
    run's records tell them.
    """
    known = {f"val.{name}": {1: value} for name, value in means.items()}
    known |= {f"score.{name}": {1: value} for name, value in means.items()}
    if "leaderboard" in means:
        known["score"] = {1: means["leaderboard"]}
    records = Records(known, epochs=1, ended=True, best=1)
    found = []
    for text in criteria:
        criterion = parse_criterion(text)
        (verdict,) = judge_all([criterion], records)
        parts = list(statements(criterion))
        known_here = all(known_quantity(part).name in known and "epoch" not in print_criterion(part) for part in parts)
        name, _, target = print_criterion(criterion).partition(" ") if len(parts) == 1 else (text, "", "")
        percent = "%" in target
        told = known_here and verdict.state is not State.undecidable
        value = verdict.value if told else None
        found.append(Judgement(name, target, value, verdict.state is State.met if told else None, percent))
    return tuple(found)


def tolerated_shares(least: float, most: float) -> tuple[float, float]:
    """The range of surface shares that a prediction may have where labels have shares from `least` to `most`."""
    return least * (1 - SHARE_SLACK), most * (1 + SHARE_SLACK)


def judge_share(shares: Mapping[str, float], labels: Sequence[float]) -> tuple[Judgement, ...]:
    """The share of predicted surface, by case, against the range of the data set's own labels.

    Returns:
        The mean's judgement, and one for each case outside of the range.
    """
    low, high = tolerated_shares(min(labels), max(labels))
    target = f"within {100 * low:.1f} to {100 * high:.1f} % (the labels' own range, a quarter wider)"
    mean = mean_of_known(shares.values())
    outside = {case: share for case, share in shares.items() if share < low or share > high}
    return (
        Judgement("predicted_share", target, mean, low <= mean <= high, percent=True),
        *(
            Judgement(f"predicted_share of {case}", target, share, False, percent=True)
            for case, share in outside.items()
        ),
    )

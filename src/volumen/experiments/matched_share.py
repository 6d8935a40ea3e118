"""Masks at a matched surface share: where a threshold gives as much surface as there is, and the Dice of that mask.

A remedy that only moves the operating point, so that more or less is called surface, gains nothing here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import IGNORE, SURFACE
from volumen.metrics import mean_of_known, ratio

REACH, BINS = 16.0, 8192
"""Logits from -16 to 16 are told apart, to 1/256."""
SLACK = 0.1
"""Of the true share, by which the predicted one may miss it: a network of few different answers has few shares."""


@dataclass(frozen=True)
class LogitCounts:
    """Labelled voxels of a volume by logit, int64 [BINS] each."""

    background: NDArray[np.int64]
    surface: NDArray[np.int64]

    @classmethod
    def of(cls, logits: NDArray[np.float32], label: NDArray[np.uint8]) -> "LogitCounts":
        """Count a volume: logits float32 [Z, Y, X], canonical codes [Z, Y, X]."""
        counts = np.zeros((2, BINS), np.int64)
        for plane, truth in zip(logits, label, strict=True):  # plane by plane: no second volume
            known = truth != IGNORE
            bins = np.clip((plane[known] + REACH) * (BINS / (2 * REACH)), 0, BINS - 1).astype(np.int64)
            both = np.bincount(bins + BINS * (truth[known] == SURFACE), minlength=2 * BINS)
            counts += both.reshape(2, BINS)
        return cls(counts[0], counts[1])


@dataclass(frozen=True)
class Matched:
    """The operating point at which as much surface is predicted as there is."""

    threshold: float | None
    """Probability; None where no threshold gives that share."""
    predicted_share: float
    """Over all volumes together, at the nearest threshold."""
    true_share: float
    dice: float | None
    """Mean over the volumes that have a value."""
    cases: tuple[float | None, ...] = ()
    """Dice of each volume, in their order."""


def matched(volumes: Sequence[LogitCounts]) -> Matched:
    """The threshold, common to all volumes, whose predicted share is nearest to the true one."""
    surface, background = (
        np.sum([getattr(one, name) for one in volumes], axis=0) for name in ("surface", "background")
    )
    predicted = (surface + background)[::-1].cumsum()[::-1]  # at or above the lower edge of a bin
    true, valid = int(surface.sum()), int((surface + background).sum())
    place = int(np.abs(predicted[1:] - true).argmin()) + 1  # the lowest bin holds whatever lies below it
    share, wanted = ratio(int(predicted[place]), valid), ratio(true, valid)
    if true == 0 or abs(int(predicted[place]) - true) > SLACK * true:
        return Matched(None, share, wanted, None)
    dice = [ratio(2 * int(one.surface[place:].sum()), int(_above(one, place) + one.surface.sum())) for one in volumes]
    edge = place * 2 * REACH / BINS - REACH
    mean = mean_of_known(dice)
    known = tuple(None if math.isnan(value) else value for value in dice)
    return Matched(1 / (1 + math.exp(-edge)), share, wanted, None if math.isnan(mean) else mean, known)


def _above(counts: LogitCounts, place: int) -> int:
    return int(counts.surface[place:].sum() + counts.background[place:].sum())

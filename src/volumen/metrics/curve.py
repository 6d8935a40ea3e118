"""The leaderboard score over thresholds: which probability should count as surface?

What depends on the truth alone is found once. The thresholds are applied in one pass over the probabilities, which
leaves the number of thresholds that each voxel exceeds in a byte; a mask is then a comparison of bytes, and thresholds
between which no voxel lies share their score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.leaderboard import (
    Definition,
    LeaderboardOptions,
    LeaderboardScore,
    analyse_truth,
    score_masks,
)
from volumen.metrics.masks import Masks, binarise

MOST_THRESHOLDS = 255


@dataclass(frozen=True)
class CurvePoint:
    """A threshold and the score of the mask `probabilities > threshold`."""

    threshold: float
    score: LeaderboardScore


@dataclass(frozen=True)
class LeaderboardCurve:
    """The score at every threshold, in ascending order of the thresholds."""

    points: tuple[CurvePoint, ...]

    @property
    def best(self) -> CurvePoint:
        """The point of highest score, the lowest threshold among equals."""
        return max(self.points, key=lambda point: point.score.score)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        points = [{"threshold": point.threshold, **point.score.to_dict()} for point in self.points]
        return {"best_threshold": self.best.threshold, "points": points}


def leaderboard_curve(
    probabilities: ArrayLike,
    truth: ArrayLike,
    thresholds: Sequence[float],
    *,
    match_tunnels: bool = True,
    **options: Unpack[LeaderboardOptions],
) -> LeaderboardCurve:
    """Score a volume of probabilities at several thresholds; each score is exactly that of `leaderboard`.

    Args:
        probabilities: [Z,Y,X], of any numeric type and range, such as uint8 of 0 to 255; NaN is background.
        truth: [Z,Y,X] labels; voxels of the ignore label are background in both.
        thresholds: 1 to 255 finite numbers in the unit of the probabilities, in any order; a voxel is surface where its
            probability is above the threshold.
        match_tunnels: False gives the quick upper bound of `leaderboard_without_matching_tunnels`.
        options: as for `leaderboard`.

    Raises:
        UserError: volumes that cannot be compared, no threshold or one that is not finite, or an option out of range.
    """
    definition = Definition(**options)
    ordered = _ordered(thresholds)
    levels = _levels(np.asarray(probabilities), ordered)
    masks = binarise(levels, truth, definition.ignore_label)
    known = analyse_truth(masks.truth, definition)
    occupied = _occupied(levels, np.asarray(truth), definition.ignore_label, len(ordered) + 1)
    points: list[CurvePoint] = []
    for number, threshold in enumerate(ordered):
        if number > 0 and occupied[number] == 0:
            score = points[-1].score  # no voxel lies between the two thresholds
        else:
            np.greater(levels, number, out=masks.prediction.view(np.bool_))
            score = score_masks(Masks(*masks), definition, known, match_tunnels=match_tunnels)
        points.append(CurvePoint(threshold, score))
    return LeaderboardCurve(tuple(points))


def _ordered(thresholds: Sequence[float]) -> list[float]:
    ordered = sorted({float(threshold) for threshold in thresholds})
    if not ordered or len(ordered) > MOST_THRESHOLDS or not all(map(math.isfinite, ordered)):
        raise UserError(
            f"thresholds must be 1 to {MOST_THRESHOLDS} finite numbers, got {list(thresholds)[:5]}"
            f"{' ...' if len(thresholds) > 5 else ''}: pass for example [0.3, 0.4, 0.5]"
        )
    return ordered


def _levels(probabilities: NDArray[Any], ordered: Sequence[float]) -> NDArray[np.uint8]:
    """How many thresholds each voxel exceeds; plane by plane, so that no temporary has the size of the volume."""
    if probabilities.ndim != 3 or probabilities.dtype.kind not in "buif":
        raise UserError(
            f"probabilities must be numbers on three axes (z, y, x), got {probabilities.dtype} of shape "
            f"{probabilities.shape}: index away batch and channel axes"
        )
    levels = np.zeros(probabilities.shape, np.uint8)
    for plane, level in zip(probabilities, levels, strict=True):
        for threshold in ordered:
            level += plane > threshold
    return levels


def _occupied(levels: NDArray[np.uint8], truth: NDArray[Any], ignore_label: int, count: int) -> NDArray[np.int64]:
    """Hide the levels of ignored voxels, in place, and count the voxels of each level."""
    occupied = np.zeros(count, np.int64)
    for level, true in zip(levels, truth, strict=True):
        level *= true != ignore_label
        occupied += np.bincount(level.ravel(), minlength=count)
    return occupied

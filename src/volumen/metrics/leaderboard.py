"""The leaderboard's number: 0.30 TopoScore + 0.35 surface Dice + 0.35 VOI score, exactly as the hosts compute it.

The defaults are the competition's arguments. The hosts' library has others (alpha 1.0), and so has its description
(tolerance 1.0): scores made with those are not leaderboard scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from volumen.errors import UserError
from volumen.metrics.masks import binarise
from volumen.metrics.parallel import run_all
from volumen.metrics.surface_dice import surface_dice_of_masks
from volumen.metrics.topology import TopoScore, counting_tasks, score_of_counts
from volumen.metrics.voi import VoiScore, voi_of_masks

WEIGHTS = (0.30, 0.35, 0.35)
"""Weights of TopoScore, surface Dice and VOI score, in this order."""


@dataclass(frozen=True)
class LeaderboardScore:
    """The weighted score and its three parts."""

    score: float
    topo: TopoScore
    surface_dice: float
    voi: VoiScore

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers under the names of the fields, ready for JSON; dimensions are the keys "0", "1", "2"."""
        return {
            "score": self.score,
            "topo": self.topo.to_dict(),
            "surface_dice": self.surface_dice,
            "voi": self.voi.to_dict(),
        }


def _check_weights(weights: tuple[float, float, float]) -> None:
    if len(weights) != 3 or not all(weight >= 0 for weight in weights):
        raise UserError(
            f"weights must be three numbers of 0 or more (topology, surface Dice, VOI), got {weights}: "
            f"the leaderboard uses {WEIGHTS}"
        )


def _combined(
    prediction: ArrayLike,
    truth: ArrayLike,
    ignore_label: int,
    tolerance: float,
    voi_alpha: float,
    weights: tuple[float, float, float],
    threads: int | None,
    match_tunnels: bool,
) -> LeaderboardScore:
    _check_weights(weights)
    masks = binarise(prediction, truth, ignore_label)
    tasks: list[Callable[[], Any]] = [
        partial(surface_dice_of_masks, masks, tolerance),
        partial(voi_of_masks, masks, voi_alpha),
        *counting_tasks(masks, match_tunnels=match_tunnels),
    ]
    dice, voi, *counts = run_all(tasks, threads)
    topo = score_of_counts(np.sum(counts, axis=0))
    score = weights[0] * topo.score + weights[1] * dice + weights[2] * voi.score
    return LeaderboardScore(score, topo, dice, voi)


def leaderboard(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    ignore_label: int = 2,
    tolerance: float = 2.0,
    voi_alpha: float = 0.3,
    weights: tuple[float, float, float] = WEIGHTS,
    threads: int | None = None,
) -> LeaderboardScore:
    """Score one volume as the leaderboard does.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        tolerance: of the surface Dice, in voxels.
        voi_alpha: how steeply the VOI score falls.
        weights: of TopoScore, surface Dice and VOI score.
        threads: how many parts and tiles to work on at a time; None takes the processors this process may use. The
            result does not depend on it.

    Returns:
        the score, 1 for a perfect prediction, and its parts.

    Raises:
        UserError: volumes that cannot be compared (not 3-D, shapes differ, fractions, negative values) or an argument
            out of range.
    """
    return _combined(prediction, truth, ignore_label, tolerance, voi_alpha, weights, threads, match_tunnels=True)


def leaderboard_without_matching_tunnels(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    ignore_label: int = 2,
    tolerance: float = 2.0,
    voi_alpha: float = 0.3,
    weights: tuple[float, float, float] = WEIGHTS,
    threads: int | None = None,
) -> LeaderboardScore:
    """An upper bound of `leaderboard`, for quick selection: everything exact but the matched tunnels.

    In every tile the number of matched tunnels is replaced by the least of the numbers of tunnels of prediction, truth
    and their union, which it cannot exceed; so `topo.matched[1]`, `topo.f1[1]`, `topo.score` and `score` are upper
    bounds. Arguments, results and errors are those of `leaderboard`.
    """
    return _combined(prediction, truth, ignore_label, tolerance, voi_alpha, weights, threads, match_tunnels=False)

"""The leaderboard's number: 0.30 TopoScore + 0.35 surface Dice + 0.35 VOI score, exactly as the hosts compute it.

The defaults are the competition's arguments. The hosts' library has others (alpha 1.0), and so has its description
(tolerance 1.0): scores made with those are not leaderboard scores.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.masks import Masks, binarise, checked_volume
from volumen.metrics.parallel import run_all
from volumen.metrics.runs import Runs, labelled_runs
from volumen.metrics.surface_dice import Surface, check_distances, surface_dice_of, surface_of
from volumen.metrics.surface_elements import UNIT, Spacing
from volumen.metrics.topology import (
    SPLITS,
    Splits,
    TopoScore,
    check_splits,
    score_of_counts,
    tile_counts,
    tiles,
    truth_features,
)
from volumen.metrics.voi import VoiScore, check_alpha, voi_of_runs

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
        return {**asdict(self), "topo": self.topo.to_dict()}


class LeaderboardOptions(TypedDict, total=False):
    """The keyword arguments of `leaderboard`, which explains them."""

    ignore_label: int
    tolerance: float
    spacing: Spacing
    splits: Splits
    voi_alpha: float
    weights: tuple[float, float, float]
    threads: int | None


@dataclass(frozen=True)
class Definition:
    """What is scored and how: the arguments of `leaderboard`, checked."""

    ignore_label: int = 2
    tolerance: float = 2.0
    spacing: Spacing = UNIT
    splits: Splits = SPLITS
    voi_alpha: float = 0.3
    weights: tuple[float, float, float] = WEIGHTS
    threads: int | None = None

    def __post_init__(self) -> None:
        check_distances(self.tolerance, self.spacing)
        check_splits(self.splits)
        check_alpha(self.voi_alpha)
        if len(self.weights) != 3 or not all(weight >= 0 for weight in self.weights):
            raise UserError(
                f"weights must be three numbers of 0 or more (topology, surface Dice, VOI), got {self.weights}: "
                f"the leaderboard uses {WEIGHTS}"
            )


@dataclass(frozen=True)
class Truth:
    """What a truth contributes to the score whatever the prediction, found once for many of them."""

    features: tuple[tuple[int, int], ...]
    """Components and cavities, by tile."""
    surface: Surface | None
    runs: Runs


def analyse_truth(mask: NDArray[np.uint8], definition: Definition) -> Truth:
    """What `score_masks` need not find again for another prediction."""
    tasks: list[partial[Any]] = [partial(truth_features, mask, box) for box in tiles(mask.shape, definition.splits)]
    tasks.append(partial(surface_of, mask, definition.tolerance, definition.spacing))
    tasks.append(partial(labelled_runs, mask))
    *features, surface, runs = run_all(tasks, definition.threads)
    return Truth(tuple(features), surface, runs)


def score_masks(
    masks: Masks, definition: Definition, truth: Truth | None = None, *, match_tunnels: bool = True
) -> LeaderboardScore:
    """Score two binary masks; see `leaderboard`, and `tile_counts` for `match_tunnels`."""
    boxes = tiles(masks.truth.shape, definition.splits)
    known = [None] * len(boxes) if truth is None else truth.features
    tasks: list[partial[Any]] = [
        partial(tile_counts, masks, box, match_tunnels=match_tunnels, truth=features)
        for box, features in zip(boxes, known, strict=True)
    ]
    for mask in masks if truth is None else (masks.prediction,):
        tasks.append(partial(surface_of, mask, definition.tolerance, definition.spacing))
        tasks.append(partial(labelled_runs, mask))
    found = run_all(tasks, definition.threads)
    counts, (surface, runs, *rest) = found[: len(boxes)], found[len(boxes) :]
    true_surface, true_runs = rest if truth is None else (truth.surface, truth.runs)
    comparisons: list[partial[Any]] = [
        partial(surface_dice_of, surface, true_surface, definition.spacing),
        partial(voi_of_runs, runs, true_runs, definition.voi_alpha),
    ]
    dice, voi = run_all(comparisons, definition.threads)
    topo = score_of_counts(np.sum(counts, axis=0))
    parts = (topo.score, dice, voi.score)
    score = sum(weight * part for weight, part in zip(definition.weights, parts, strict=True))
    return LeaderboardScore(score, topo, dice, voi)


def leaderboard(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    ignore_label: int = 2,
    tolerance: float = 2.0,
    spacing: Spacing = UNIT,
    splits: Splits = SPLITS,
    voi_alpha: float = 0.3,
    weights: tuple[float, float, float] = WEIGHTS,
    threads: int | None = None,
) -> LeaderboardScore:
    """Score one volume as the leaderboard does.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        tolerance: of the surface Dice, in the unit of `spacing`.
        spacing: of the voxels along z, y and x, for the surface Dice; the leaderboard counts in voxels.
        splits: how many tiles there are along z, y and x, for the TopoScore.
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
    definition = Definition(ignore_label, tolerance, spacing, splits, voi_alpha, weights, threads)
    return score_masks(binarise(prediction, truth, ignore_label), definition)


def leaderboard_without_matching_tunnels(
    prediction: ArrayLike, truth: ArrayLike, **options: Unpack[LeaderboardOptions]
) -> LeaderboardScore:
    """An upper bound of `leaderboard`, for quick selection; arguments, results and errors are the same.

    Of each tile the matched tunnels are taken to be as many as they can: the least of the numbers of tunnels of
    prediction, truth and union. So `topo.matched[1]`, `topo.f1[1]`, `topo.score` and `score` are upper bounds.
    """
    definition = Definition(**options)
    return score_masks(binarise(prediction, truth, definition.ignore_label), definition, match_tunnels=False)


def leaderboard_by_label(
    prediction: ArrayLike,
    truth: ArrayLike,
    labels: tuple[int, ...] | None = None,
    **options: Unpack[LeaderboardOptions],
) -> dict[int, LeaderboardScore]:
    """Score a segmentation of several classes, each label against all others.

    Args:
        prediction: [Z,Y,X] labels.
        truth: [Z,Y,X] labels; voxels of the ignore label are background for every class.
        labels: the labels to score; None takes every label of the truth but 0 and the ignore label, ascending.
        options: as for `leaderboard`. With three or more classes the ignore label 2 may be one of them: pass another.

    Returns:
        a score for each label.

    Raises:
        UserError: as for `leaderboard`, or a label that is the background or the ignore label.
    """
    definition = Definition(**options)
    if labels is None:
        values = np.unique(checked_volume(truth, "truth"))
        labels = tuple(int(v) for v in values if v == v and v not in (0, definition.ignore_label))
    for label in labels:
        if label in (0, definition.ignore_label):
            what = "the background" if label == 0 else "the ignore label"
            raise UserError(f"label {label} is {what} and cannot be scored: leave it out, or pass another ignore_label")
    return {
        label: score_masks(binarise(prediction, truth, definition.ignore_label, label), definition) for label in labels
    }

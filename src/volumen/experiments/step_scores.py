"""What every step of the post-processing does to held-out volumes: voxels, topology, and the leaderboard score.

A step is there to raise the score. One that lowers it is named, beside the noise of that difference: the score after
the step less the one before it, paired by volume.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing
from volumen.metrics import LeaderboardScore, beats_noise, standard_error
from volumen.metrics.comparison import unproven
from volumen.metrics.leaderboard import Definition, Truth, analyse_truth, score_masks
from volumen.metrics.masks import binarise
from volumen.postprocess import Counts, StepReport, walk_masks
from volumen.system.output import counted
from volumen.system.records import Share

FEATURES = ("components", "tunnels", "cavities")


@dataclass(frozen=True)
class StepScore:
    """One step on one volume."""

    report: StepReport
    score: Share
    """Leaderboard score of the mask after the step."""


@dataclass(frozen=True)
class ScoredMask:
    """The mask that the last step leaves, its score, and how the steps came there."""

    mask: NDArray[np.uint8]
    score: LeaderboardScore
    steps: tuple[StepScore, ...]


def score_steps(
    probabilities: NDArray[np.float32],
    settings: Postprocessing,
    label: NDArray[np.uint8],
    scan: NDArray[np.bool_] | None = None,
) -> ScoredMask:
    """Apply the steps to one volume and score the mask after each, from the one that decides on.

    What depends on the truth alone is found once, and a step that turns no voxel is not scored again.

    Args:
        probabilities: float32 [Z, Y, X].
        settings: The steps.
        label: Canonical codes [Z, Y, X].
        scan: Where the scan holds something, [Z, Y, X]; None: everywhere.
    """
    definition = Definition()
    truth: Truth | None = None
    score: LeaderboardScore | None = None
    steps: list[StepScore] = []
    for mask, report in walk_masks(probabilities, settings, scan):
        if score is None or report.voxels_added or report.voxels_removed:
            masks = binarise(mask, label, definition.ignore_label)
            truth = truth or analyse_truth(masks.truth, definition)
            score = score_masks(masks, definition, truth)
            del masks  # two volumes that the next step need not find in memory
        steps.append(StepScore(report, score.score))
    if score is None:
        raise RuntimeError("no step decides between surface and background")  # the schema refuses that
    return ScoredMask(mask, score, tuple(steps))


@dataclass(frozen=True)
class StepEffect:
    """One step over all volumes; counts and scores are means."""

    name: str
    volumes: int
    voxels_added: float
    voxels_removed: float
    before: Mapping[str, float] | None
    """By the names in `FEATURES`; None for the step that decides, which finds no mask."""
    after: Mapping[str, float]
    score_before: float | None
    score_after: float
    noise: float | None
    """Standard error of the difference of the scores, paired by volume; NaN with one volume."""

    @property
    def difference(self) -> float:
        """Score after less score before; 0 for the step that decides."""
        return 0.0 if self.score_before is None else self.score_after - self.score_before

    @property
    def lowers(self) -> bool:
        """Whether the mean score falls."""
        return self.difference < 0

    @property
    def within_noise(self) -> bool:
        """Whether the difference is no more than noise, or cannot be told."""
        return self.noise is None or not beats_noise(abs(self.difference), self.noise, self.volumes)

    @property
    def sentence(self) -> str:
        """What is to be said of a step that lowers the score; nothing of another."""
        if not self.lowers or self.noise is None:
            return ""
        noise = "" if math.isnan(self.noise) else f" ± {self.noise:.4f}"
        said = f"the step {self.name} lowers the leaderboard score by {-self.difference:.4f}{noise}"
        volumes = counted(self.volumes, "held-out volume")
        return f"{said} over {volumes}: {unproven(self.volumes) if self.within_noise else 'leave it out'}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with what follows from them."""
        return {
            **asdict(self),
            "difference": self.difference,
            "within_noise": self.within_noise if self.lowers else None,
            "sentence": self.sentence,
        }


def step_effects(volumes: Sequence[Sequence[StepScore]]) -> tuple[StepEffect, ...]:
    """The effect of each step over volumes; none where one has no steps.

    Raises:
        ValueError: The volumes went through different steps.
    """
    if not volumes or not all(volumes):
        return ()
    names = [step.report.name for step in volumes[0]]
    if any([step.report.name for step in steps] != names for steps in volumes):
        raise ValueError("the volumes went through different steps: they have no means")
    columns = list(zip(*volumes, strict=True))
    said = [f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
            for place, name in enumerate(names)]  # fmt: skip
    before: list[Sequence[StepScore] | None] = [None, *columns[:-1]]
    return tuple(_effect(*one) for one in zip(said, before, columns, strict=True))


def _effect(name: str, before: Sequence[StepScore] | None, after: Sequence[StepScore]) -> StepEffect:
    reports = [step.report for step in after]
    scores = [step.score for step in after]
    earlier = None if before is None else [step.score for step in before]
    noise = None if earlier is None else standard_error([b - a for a, b in zip(earlier, scores, strict=True)])
    return StepEffect(
        name=name,
        volumes=len(after),
        voxels_added=float(np.mean([report.voxels_added for report in reports])),
        voxels_removed=float(np.mean([report.voxels_removed for report in reports])),
        before=None if before is None else _means([report.before for report in reports]),
        after=_means([report.after for report in reports]),
        score_before=None if earlier is None else float(np.mean(earlier)),
        score_after=float(np.mean(scores)),
        noise=noise,
    )


def _means(counts: Sequence[Counts]) -> dict[str, float]:
    return {name: float(np.mean([getattr(one, name) for one in counts])) for name in FEATURES}

"""Score masks against the truth: per case, per scroll, and what a glance at the numbers would miss.

Overlap is counted on labelled voxels only. Beside every Dice stands the one that predicting surface everywhere would
get, 2 f / (1 + f) at a true share f: agreement with the truth means something only above that.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.files import strict_json
from volumen.inference.degenerate import Appearance, appearance_of, degenerate_warnings
from volumen.metrics import LeaderboardScore, Overlap, Summary, leaderboard, overlap, summarise

FORMAT_VERSION = 1
# Every number of a case, in the order in which they are shown.
METRICS: dict[str, Callable[[LeaderboardScore, Overlap], float]] = {
    "leaderboard": lambda score, counts: score.score,
    "topo": lambda score, counts: score.topo.score,
    "surface_dice": lambda score, counts: score.surface_dice,
    "voi": lambda score, counts: score.voi.score,
    "voi_split": lambda score, counts: score.voi.split,
    "voi_merge": lambda score, counts: score.voi.merge,
    "accuracy": lambda score, counts: counts.accuracy,
    "precision": lambda score, counts: counts.precision,
    "recall": lambda score, counts: counts.recall,
    "dice": lambda score, counts: counts.dice,
    "iou": lambda score, counts: counts.iou,
    "predicted_share": lambda score, counts: counts.predicted_share,
    "true_share": lambda score, counts: counts.true_share,
    "overestimation_points": lambda score, counts: counts.overestimation_points,
    "all_surface_dice": lambda score, counts: 2 * counts.true_share / (1 + counts.true_share),
}


@dataclass(frozen=True)
class LabelledCase:
    """A volume's truth."""

    id: str
    scroll_id: str
    label: NDArray[np.uint8]
    """Canonical codes, [Z, Y, X]."""


@dataclass(frozen=True)
class CaseResult:
    """One case's numbers."""

    id: str
    scroll_id: str
    values: Mapping[str, float]
    """By the names in `METRICS`; shares 0..1, `overestimation_points` in percentage points."""
    leaderboard: Mapping[str, Any]
    """The leaderboard score with all of its parts."""
    appearance: Appearance

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `evaluation.json`."""
        return {
            "id": self.id,
            "scroll_id": self.scroll_id,
            "values": dict(self.values),
            "leaderboard": dict(self.leaderboard),
            "appearance": asdict(self.appearance),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "CaseResult":
        """Inverse of `to_dict`."""
        values = {name: float(record["values"][name]) for name in METRICS}
        appearance = Appearance(**record["appearance"])
        return cls(record["id"], record["scroll_id"], values, record["leaderboard"], appearance)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases."""

    cases: tuple[CaseResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Where the masks came from."""
    notes: tuple[str, ...] = ()
    """What a reader has to know to read the numbers right."""

    @cached_property
    def summary(self) -> dict[str, Summary]:
        """Mean, median, standard deviation, range and histogram over the cases, by metric."""
        return {name: summarise([case.values[name] for case in self.cases]) for name in METRICS}

    @property
    def mean(self) -> dict[str, float]:
        """Mean over the cases, by metric."""
        return {name: summary.mean for name, summary in self.summary.items()}

    @property
    def by_scroll(self) -> dict[str, dict[str, float]]:
        """Mean over each scroll's cases, by scroll and metric; `cases` is their number."""
        result = {}
        for scroll in sorted({case.scroll_id for case in self.cases}):
            rows = [case.values for case in self.cases if case.scroll_id == scroll]
            means = {name: float(np.mean([row[name] for row in rows])) for name in METRICS}
            result[scroll] = {"cases": float(len(rows)), **means}
        return result

    @property
    def warnings(self) -> tuple[str, ...]:
        """Predictions that say nothing, or no more than a constant does."""
        looks = degenerate_warnings([case.appearance for case in self.cases])
        return (*looks, *(warning for case in self.cases if (warning := _no_better_than_constant(case))))

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values, as in `evaluation.json`."""
        return strict_json(
            {
                "version": FORMAT_VERSION,
                "settings": dict(self.settings),
                "cases": [case.to_dict() for case in self.cases],
                "mean": self.mean,
                "summary": {name: asdict(summary) for name, summary in self.summary.items()},
                "by_scroll": self.by_scroll,
                "warnings": list(self.warnings),
                "notes": list(self.notes),
            }
        )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Evaluation":
        """Inverse of `to_dict`; means and summaries are computed anew.

        Raises:
            ValueError: The record is of another version.
        """
        if record["version"] != FORMAT_VERSION:
            raise ValueError(f"version {record['version']}, expected {FORMAT_VERSION}")
        cases = tuple(CaseResult.from_dict(case) for case in record["cases"])
        return cls(cases, record["settings"], tuple(record["notes"]))


def score_case(
    case: LabelledCase, mask: NDArray[np.uint8], probabilities: NDArray[np.float32] | None = None
) -> CaseResult:
    """Score one mask [Z, Y, X] of 0 and 1 against its truth; the probabilities are only looked at.

    Raises:
        UserError: The mask has another shape than the truth.
    """
    if mask.shape != case.label.shape:
        raise UserError(
            f"the mask of case {case.id} has shape {list(mask.shape)}, its label {list(case.label.shape)}: "
            "predict the image that belongs to this label"
        )
    score, counts = leaderboard(mask, case.label), overlap(mask, case.label)
    values = {name: float(number(score, counts)) for name, number in METRICS.items()}
    return CaseResult(case.id, case.scroll_id, values, score.to_dict(), appearance_of(case.id, mask, probabilities))


def evaluate_masks(
    cases: Iterable[LabelledCase], masks: Mapping[str, NDArray[np.uint8]], settings: Mapping[str, Any] | None = None
) -> Evaluation:
    """Score masks from anywhere, such as a baseline's.

    Args:
        cases: The truth.
        masks: Mask uint8 [Z, Y, X] by case id.
        settings: What made the masks, for the record.

    Raises:
        UserError: There is no case, a case has no mask, or a mask has another shape than its truth.
    """
    chosen = tuple(cases)
    missing = [case.id for case in chosen if case.id not in masks]
    if missing or not chosen:
        raise UserError(f"there is no mask for the cases {missing}" if missing else "there is no case to evaluate")
    return Evaluation(tuple(score_case(case, masks[case.id]) for case in chosen), settings or {})


def labelled_cases(dataset: PreparedDataset, case_ids: Sequence[str]) -> tuple[LabelledCase, ...]:
    """The truth of these cases, labels memory-mapped."""
    return tuple(LabelledCase(name, dataset.case(name).scroll_id, dataset.label(name)) for name in case_ids)


def _no_better_than_constant(case: CaseResult) -> str | None:
    dice, constant = case.values["dice"], case.values["all_surface_dice"]
    if dice > constant or case.appearance.surface_voxels == 0:
        return None
    return f"{case.id}: Dice {dice:.3f} is no better than predicting surface everywhere ({constant:.3f})"

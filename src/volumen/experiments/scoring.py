"""Score masks against the truth: per case, per scroll, and what a glance at the numbers would miss.

Overlap is counted on labelled voxels only. Beside every Dice stands the one that predicting surface everywhere would
get, 2 f / (1 + f) at a true share f: agreement with the truth means something only above that.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.distribution import (
    Operating,
    ProbabilityCounts,
    Verdict,
    counts_from_json,
    counts_to_json,
)
from volumen.experiments.evaluation_types import Case, EvaluationRecord
from volumen.experiments.step_scores import StepEffect, StepScore, step_effects
from volumen.files import strict_json
from volumen.inference.degenerate import Appearance, appearance_of, degenerate_warnings, emptiness_notes
from volumen.metrics import LeaderboardScore, Summary, leaderboard, mean_of_known, overlap, summarise
from volumen.metrics.table import METRICS, evaluated_values

FORMAT_VERSION = 4


@dataclass(frozen=True)
class LabelledCase:
    """A volume's truth."""

    id: str
    scroll_id: str
    label: NDArray[np.uint8]
    """Canonical codes, [Z, Y, X]."""
    scan: NDArray[np.bool_] | None = None
    """Where the scan holds something, [Z, Y, X]; None: everywhere."""
    empty_values: tuple[int, ...] = ()
    """Grey values that were taken for empty."""


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
    probability_counts: ProbabilityCounts | None = None
    """Labelled voxels by probability; None where only a mask is known."""
    steps: tuple[StepScore, ...] = ()
    """What the post-processing did, from the step that decides on; empty where the mask came from elsewhere."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `evaluation.json`."""
        counts = self.probability_counts
        return {
            "id": self.id,
            "scroll_id": self.scroll_id,
            "values": dict(self.values),
            "leaderboard": dict(self.leaderboard),
            "appearance": asdict(self.appearance),
            "probability_counts": None if counts is None else counts_to_json(counts),
            "steps": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def from_dict(cls, record: Case) -> "CaseResult":
        """Inverse of `to_dict`.

        Raises:
            ValueError: More surface than there are voxels.
        """
        look = Appearance(**record["appearance"])
        if look.surface_voxels > look.voxels:
            raise ValueError(f"case {record['id']} has {look.surface_voxels} surface voxels of {look.voxels}")
        counts = record["probability_counts"]
        return cls(
            record["id"],
            record["scroll_id"],
            {name: math.nan if value is None else cast(float, value) for name, value in record["values"].items()},
            record["leaderboard"],
            look,
            None if counts is None else counts_from_json(counts),
            tuple(StepScore.from_dict(step) for step in record["steps"]),
        )


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases."""

    cases: tuple[CaseResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Where the masks came from."""
    notes: tuple[str, ...] = ()
    """What a reader has to know to read the numbers right."""
    verdicts: tuple[Verdict, ...] = ()
    """The run's own criteria, and its surface shares, held against what was reached."""
    label_range: tuple[float, float] | None = None
    """Least and most surface share of all labels of the data set, where it is known."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the slices that were left, by case id."""

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
            means = {name: mean_of_known(row[name] for row in rows) for name in METRICS}
            result[scroll] = {"cases": float(len(rows)), **means}
        return result

    @cached_property
    def probability_counts(self) -> ProbabilityCounts | None:
        """The counts of all cases together, where every case has them."""
        counts = [case.probability_counts for case in self.cases if case.probability_counts is not None]
        return ProbabilityCounts.total(counts) if counts and len(counts) == len(self.cases) else None

    @property
    def postprocessing(self) -> Postprocessing | None:
        """The steps that made the masks, where the settings say them."""
        steps = self.settings.get("postprocessing")
        return None if steps is None else Postprocessing.model_validate_json(json.dumps(steps))

    @property
    def operating_point(self) -> Operating | None:
        """The threshold in use on the curve of all cases.

        None where there is no curve, or its probabilities are not what a single threshold was applied to.
        """
        counts, steps = self.probability_counts, self.postprocessing
        if counts is None or steps is None or not isinstance(steps.steps[0], Threshold):
            return None
        return counts.at(steps.threshold)

    @cached_property
    def step_effects(self) -> tuple[StepEffect, ...]:
        """What each step of the post-processing does, over the cases."""
        return step_effects([case.steps for case in self.cases])

    @property
    def degenerate(self) -> tuple[str, ...]:
        """Predictions that say nothing, or no more than a constant does."""
        looks = degenerate_warnings([case.appearance for case in self.cases])
        return (*looks, *(warning for case in self.cases if (warning := _no_better_than_constant(case))))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong: predictions that say nothing, and steps that lower the score by more than noise."""
        harmful = (step.sentence for step in self.step_effects if step.lowers and not step.within_noise)
        return (*self.degenerate, *harmful)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know, and the steps that lower the score by no more than noise."""
        empty = emptiness_notes([case.appearance for case in self.cases])
        return (
            *self.notes,
            *empty,
            *(step.sentence for step in self.step_effects if step.lowers and step.within_noise),
        )

    def record(self) -> dict[str, Any]:
        """What stands in `evaluation.json`."""
        return {
            "version": FORMAT_VERSION,
            "settings": dict(self.settings),
            "cases": [case.to_dict() for case in self.cases],
            "mean": self.mean,
            "summary": {name: asdict(summary) for name, summary in self.summary.items()},
            "by_scroll": self.by_scroll,
            "label_range": None if self.label_range is None else list(self.label_range),
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "distribution": self._distribution(),
            "step_effects": [step.to_dict() for step in self.step_effects],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "pictures": dict(self.pictures),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as strict JSON values."""
        return strict_json(self.record())

    @classmethod
    def from_dict(cls, record: EvaluationRecord) -> "Evaluation":
        """Inverse of `record`; means, summaries and effects of steps are computed anew.

        Raises:
            ValueError: Two cases are alike, a picture is of no case, or cases went through different steps.
        """
        span = record["label_range"]
        found = cls(
            tuple(CaseResult.from_dict(case) for case in record["cases"]),
            cast(Mapping[str, Any], record["settings"]),
            tuple(record["notes"]),
            tuple(Verdict.from_dict(verdict) for verdict in record["verdicts"]),
            None if span is None else (span[0], span[1]),
            record["pictures"],
        )
        ids = [case.id for case in found.cases]
        if len(set(ids)) != len(ids):
            raise ValueError("two of its cases have the same id")
        if not set(found.pictures) <= set(ids):
            raise ValueError("it names pictures of cases that it does not have")
        if not found.step_effects and any(case.steps for case in found.cases):
            raise ValueError("some of its cases went through steps and others did not")
        return found

    def _distribution(self) -> dict[str, Any] | None:
        counts, used = self.probability_counts, self.operating_point
        if counts is None:
            return None
        return {
            "in_use": None if used is None else asdict(used),
            "best_dice": asdict(counts.best_dice),
            "calibration_error": counts.calibration_error,
        }


def score_case(
    case: LabelledCase,
    mask: NDArray[np.uint8],
    probabilities: NDArray[np.float32] | None = None,
    *,
    score: LeaderboardScore | None = None,
    steps: Sequence[StepScore] = (),
) -> CaseResult:
    """Score one mask against its truth.

    Args:
        case: The truth.
        mask: uint8 [Z, Y, X], 0 or 1.
        probabilities: What the mask was made of, float32 [Z, Y, X]; counted and looked at.
        score: The mask's leaderboard score, where it is known already.
        steps: How the mask was made, for the record.

    Raises:
        UserError: The mask has another shape than the truth.
    """
    if mask.shape != case.label.shape:
        raise UserError(
            f"the mask of case {case.id} has shape {list(mask.shape)}, its label {list(case.label.shape)}: "
            "predict the image that belongs to this label"
        )
    score, counts = score or leaderboard(mask, case.label), overlap(mask, case.label)
    values = evaluated_values(score, counts)
    appearance = appearance_of(case.id, mask, probabilities, case.scan, case.empty_values)
    distribution = None if probabilities is None else ProbabilityCounts.of(probabilities, case.label)
    return CaseResult(case.id, case.scroll_id, values, score.to_dict(), appearance, distribution, tuple(steps))


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
    """The truth of these cases, labels in memory."""
    found = []
    for case in map(dataset.case, case_ids):
        values = () if case.empty is None else case.empty.values
        label, scan = np.asarray(dataset.label(case.id)), dataset.scan(case.id)
        found.append(LabelledCase(case.id, case.scroll_id, label, scan, values))
    return tuple(found)


def label_shares(dataset: PreparedDataset) -> tuple[float, ...]:
    """Surface share, 0..1, of every volume of a data set that has labelled voxels."""
    return tuple(case.surface_voxels / case.valid_voxels for case in dataset.cases if case.valid_voxels)


def _no_better_than_constant(case: CaseResult) -> str | None:
    dice, constant = case.values["dice"], case.values["all_surface_dice"]
    if dice > constant or case.appearance.surface_voxels == 0:
        return None
    return f"{case.id}: Dice {dice:.3f} is no better than predicting surface everywhere ({constant:.3f})"

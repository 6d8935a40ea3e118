"""Score masks against the truth: per case, per scroll, and what a glance at the numbers would miss.

Overlap is counted on labelled voxels only. Beside every Dice stands the one that predicting surface everywhere would
get, 2 f / (1 + f) at a true share f: agreement with the truth means something only above that.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, GetPydanticSchema
from typing_extensions import TypedDict

from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.distribution import Judgement, Operating, ProbabilityCounts
from volumen.experiments.step_scores import StepEffect, StepScore, step_effects
from volumen.files import strict_json
from volumen.inference.degenerate import Appearance, appearance_of, degenerate_warnings, emptiness_notes
from volumen.metrics import LeaderboardScore, Summary, leaderboard, mean_of_known, overlap, summarise
from volumen.metrics.table import LEADERBOARD_METRICS, METRICS, evaluated_values
from volumen.system.records import Count, Share, Text, Word

FORMAT_VERSION = 4
Bits = Annotated[float, Field(ge=0, le=1000)]
Dimension = Literal["0", "1", "2"]


class TopoRecord(TypedDict):
    """`metrics.TopoScore` in a record."""

    score: Share
    f1: dict[Dimension, Share | None]
    matched: dict[Dimension, Count]
    predicted: dict[Dimension, Count]
    true: dict[Dimension, Count]


class VoiRecord(TypedDict):
    """`metrics.VoiScore` in a record."""

    score: Share
    split: Bits
    merge: Bits


class LeaderboardRecord(TypedDict):
    """`metrics.LeaderboardScore` in a record."""

    score: Share
    topo: TopoRecord
    surface_dice: Share
    voi: VoiRecord


class Settings(TypedDict):
    """Where the masks came from."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012

    run: NotRequired[Text]
    which: NotRequired[Word]
    fold: NotRequired[Count | None]
    dataset: NotRequired[Text]
    dataset_identity: NotRequired[Word]
    tile: NotRequired[tuple[Count, Count, Count]]
    overlap: NotRequired[Share]
    mirror: NotRequired[bool]
    rotate: NotRequired[bool]
    engine: NotRequired[Word]
    precision: NotRequired[Word]
    postprocessing: NotRequired[dict[str, Any]]
    slices: NotRequired[dict[Word, tuple[Count, Count, Count]]]


def _checked_as(kind: Any) -> GetPydanticSchema:
    """Read a mapping from a record as the type that says what may stand in it."""
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(kind))


def _value_of(name: str) -> Any:
    """A metric's value in a record; null is NaN where it may have none."""
    least, most = METRICS[name].span
    known = Annotated[float, Field(ge=least, le=most)]
    return known if name in LEADERBOARD_METRICS else Annotated[known | None, AfterValidator(_or_nan)]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


VALUES: Any = TypedDict("VALUES", {name: _value_of(name) for name in METRICS})  # type: ignore[misc]


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

    id: Word
    scroll_id: Text
    values: Annotated[Mapping[str, float], _checked_as(VALUES)]
    """By the names in `METRICS`; shares 0..1, `overestimation_points` in percentage points."""
    leaderboard: Annotated[Mapping[str, Any], _checked_as(LeaderboardRecord)]
    """The leaderboard score with all of its parts."""
    appearance: Appearance
    probability_counts: ProbabilityCounts | None = None
    """Labelled voxels by probability; None where only a mask is known."""
    steps: Annotated[tuple[StepScore, ...], Field(max_length=100)] = ()
    """What the post-processing did, from the step that decides on; empty where the mask came from elsewhere."""

    def __post_init__(self) -> None:
        look = self.appearance
        if look.surface_voxels > look.voxels:
            raise ValueError(f"case {self.id} has {look.surface_voxels} surface voxels of {look.voxels}")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases."""

    cases: Annotated[tuple[CaseResult, ...], Field(min_length=1, max_length=100_000)]
    settings: Annotated[Mapping[str, Any], _checked_as(Settings)] = field(default_factory=dict)
    """Where the masks came from."""
    notes: tuple[Annotated[str, Field(max_length=1_000_000)], ...] = ()
    """What a reader has to know to read the numbers right."""
    verdicts: tuple[Judgement, ...] = ()
    """The run's own criteria, and its surface shares, held against what was reached."""
    label_range: tuple[Share, Share] | None = None
    """Least and most surface share of all labels of the data set, where it is known."""
    pictures: Mapping[Word, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = field(default_factory=dict)
    """SHA-256 of the slices that were left, by case id."""

    def __post_init__(self) -> None:
        ids = [case.id for case in self.cases]
        if len(set(ids)) != len(ids):
            raise ValueError("two of its cases have the same id")
        if not set(self.pictures) <= set(ids):
            raise ValueError("it names pictures of cases that it does not have")
        if not self.step_effects and any(case.steps for case in self.cases):
            raise ValueError("some of its cases went through steps and others did not")

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
            "cases": [asdict(case) for case in self.cases],
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
    """Score one mask, uint8 [Z, Y, X] of 0 and 1, against its truth.

    Args:
        case: The truth.
        mask: Of the same shape.
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
    """Score masks from anywhere, uint8 [Z, Y, X] by case id; `settings` say what made them, for the record.

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

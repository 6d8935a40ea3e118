"""What `evaluation.json` may hold, as types; a number is what it can be, a share no more than 1."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

ROUNDING = 1e-9
Count = Annotated[int, Field(ge=0, le=2**48)]
Unit = Annotated[float, Field(ge=0, le=1 + ROUNDING)]
Bits = Annotated[float, Field(ge=0, le=1000)]
Points = Annotated[float, Field(ge=-100 - ROUNDING, le=100 + ROUNDING)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=100_000)]
Note = Annotated[str, Field(max_length=1_000_000)]
"""Some list the cases that they are about."""
Bins = Annotated[list[Count], Field(min_length=100, max_length=100)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Values(TypedDict):
    """The numbers of a case, under the names of `scoring.METRICS`; null where a ratio has no value."""

    leaderboard: Unit
    topo: Unit
    surface_dice: Unit
    voi: Unit
    voi_split: Bits
    voi_merge: Bits
    accuracy: Unit | None
    precision: Unit | None
    recall: Unit | None
    dice: Unit | None
    iou: Unit | None
    predicted_share: Unit | None
    true_share: Unit | None
    overestimation_points: Points | None
    all_surface_dice: Unit | None


Dimension = Literal["0", "1", "2"]


class Topo(TypedDict):
    """`metrics.TopoScore`."""

    score: Unit
    f1: dict[Dimension, Unit | None]
    matched: dict[Dimension, Count]
    predicted: dict[Dimension, Count]
    true: dict[Dimension, Count]


class Voi(TypedDict):
    """`metrics.VoiScore`."""

    score: Unit
    split: Bits
    merge: Bits


class Leaderboard(TypedDict):
    """`metrics.LeaderboardScore`."""

    score: Unit
    topo: Topo
    surface_dice: Unit
    voi: Voi


class Look(TypedDict):
    """`inference.Appearance`."""

    id: Word
    voxels: Annotated[int, Field(ge=1, le=2**48)]
    surface_voxels: Count
    probability_minimum: Unit | None
    probability_maximum: Unit | None
    empty_voxels: Count
    empty_values: tuple[int, ...]


class ByProbability(TypedDict):
    """`ProbabilityCounts`."""

    background: Bins
    surface: Bins


class Features(TypedDict):
    """`postprocess.Counts`."""

    voxels: Count
    components: Count
    tunnels: Count
    cavities: Count


class Report(TypedDict):
    """`postprocess.StepReport`."""

    name: Word
    voxels_added: Count
    voxels_removed: Count
    before: Features
    after: Features


class Step(TypedDict):
    """`StepScore`."""

    report: Report
    score: Unit


class Case(TypedDict):
    """`CaseResult`."""

    id: Word
    scroll_id: Text
    values: Values
    leaderboard: Leaderboard
    appearance: Look
    probability_counts: ByProbability | None
    steps: Annotated[list[Step], Field(max_length=100)]


class Settings(TypedDict):
    """Where the masks came from."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012

    run: NotRequired[Text]
    which: NotRequired[Word]
    fold: NotRequired[Count | None]
    dataset: NotRequired[Text]
    dataset_identity: NotRequired[Word]
    tile: NotRequired[tuple[Count, Count, Count]]
    overlap: NotRequired[Unit]
    mirror: NotRequired[bool]
    rotate: NotRequired[bool]
    engine: NotRequired[Word]
    precision: NotRequired[Word]
    postprocessing: NotRequired[dict[str, Any]]
    slices: NotRequired[dict[Word, tuple[Count, Count, Count]]]


class Judgement(TypedDict):
    """`Verdict`."""

    quantity: Text
    target: Text
    value: float | None
    reached: bool | None
    percent: bool


class EvaluationRecord(TypedDict):
    """`Evaluation`, without what follows from the rest."""

    settings: Settings
    cases: Annotated[list[Case], Field(min_length=1, max_length=100_000)]
    label_range: tuple[Unit, Unit] | None
    verdicts: list[Judgement]
    notes: list[Note]
    pictures: dict[Word, Sha256]

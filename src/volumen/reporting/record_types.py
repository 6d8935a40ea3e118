"""What the records of a run may hold, as types: a page shows nothing else.

A record's check tells damage. These types tell what no run writes, whoever sealed it: text for a number, a share of
300 %, a name of a megabyte.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Discriminator, Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0, le=10**15)]
Number = Annotated[float, Field(allow_inf_nan=False)] | None
"""None where it was not finite."""
Share = Annotated[float, Field(ge=0, le=1)] | None
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Moment = Annotated[float, Field(ge=0, le=2.5e11)]
"""Seconds since 1970; up to the year 9999 there is a date for it."""
Word = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=100_000)]
ByTerm = Annotated[dict[Word, Number], Field(max_length=100)]


class _Measured(TypedDict):
    step: Count
    epoch: Count
    total: Number
    terms: ByTerm
    weighted: ByTerm
    predicted_share: Share
    true_share: Share
    seconds: Seconds
    progress: NotRequired[ByTerm]


class TrainRecord(_Measured):
    """An epoch's means over its training steps."""

    kind: Literal["train"]
    learning_rate: Number
    gradient_norm: Number
    gradient_norm_maximum: Number
    loader_seconds: Seconds


class ValidationRecord(_Measured):
    """A validation after an epoch."""

    kind: Literal["validation", "validation_swa"]
    metrics: ByTerm
    weights_of: Literal["plain", "average", "swa"]


MetricRecord = Annotated[TrainRecord | ValidationRecord, Discriminator("kind")]
"""Of `metrics.jsonl`."""

_Scalar = bool | Annotated[int, Field(ge=-(10**20), le=10**20)] | Number | Text
_Few = Annotated[list[_Scalar], Field(max_length=1000)]
_Named = Annotated[dict[Word, _Scalar | _Few], Field(max_length=1000)]
Details = Annotated[dict[Word, _Scalar | _Few | _Named], Field(max_length=100)]
"""Whatever an event tells beside when and what."""


class EventRecord(TypedDict):
    """Of `events.jsonl`, when and what; more keys are `Details`."""

    step: Count
    epoch: Count
    time: Moment
    kind: Word


class FindingRecord(TypedDict):
    """Of `findings.jsonl`."""

    code: Word
    severity: Literal["stop", "warn", "note"]
    accepted: bool
    title: Text
    evidence: Text
    where: Text
    remedies: Annotated[list[Text], Field(max_length=100)]


class BestRecord(TypedDict):
    """The validation that was best so far."""

    metric: Word
    value: Number
    epoch: Count


State = Literal["running", "finished", "early_stopping", "out_of_time", "stopped", "failed", "broken_off"]


class StatusRecord(TypedDict):
    """Of `status.json`."""

    state: State
    epoch: Count
    planned_epochs: Count
    best: BestRecord | None
    seconds: Seconds
    seconds_left: Seconds | None
    reason: NotRequired[Text]

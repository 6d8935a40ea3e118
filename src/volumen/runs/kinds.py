"""The kinds of lines in a run's logs, and what each may hold.

A record's check tells damage; the types here tell what no run writes, whoever sealed it: text for a number, a share of
300 %, a name of a megabyte.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field
from typing_extensions import TypedDict

from volumen.errors import DamagedError
from volumen.system.records import typed

Record = dict[str, Any]
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
ByPart = Annotated[dict[Word, Number], Field(max_length=10_000)]
"""By layer or parameter."""


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
    clipped_share: NotRequired[Share]
    loader_seconds: Seconds
    memory_gb: NotRequired[Number]


class ValidationRecord(_Measured):
    """A validation after an epoch."""

    kind: Literal["validation", "validation_swa"]
    metrics: ByTerm
    cases: NotRequired[Annotated[dict[Word, ByTerm], Field(max_length=100_000)]]
    weights_of: Literal["plain", "average", "swa"]


class StepsRecord(TypedDict):
    """The steps of an epoch one by one."""

    step: Count
    epoch: Count
    kind: Literal["steps"]
    totals: Annotated[list[Number], Field(max_length=10**6)]
    gradient_norms: Annotated[list[Number], Field(max_length=10**6)]


class ProbeRecord(TypedDict):
    """A closer look at one step."""

    step: Count
    epoch: Count
    kind: Literal["probe"]
    batch: Count
    update_ratio: ByPart
    gradient: ByPart
    frozen: Annotated[list[Word], Field(max_length=10_000)]
    dead_share: ByPart
    term_mass: ByPart
    term_cosine: ByPart
    probability: ByTerm
    loss: Number
    shuffled_loss: Number
    moved: Number
    gradient_cosine: NotRequired[Number]
    image: NotRequired[ByTerm]


MetricRecord = Annotated[TrainRecord | ValidationRecord | StepsRecord | ProbeRecord, Discriminator("kind")]
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


def typed_lines(records: Sequence[Record], kinds: tuple[Any, ...], name: str, faults: list[str]) -> list[Any]:
    """The records of a log that are of all these types; of the others there is a fault, with the first one's reason."""
    whole: list[Any] = []
    strange: list[str] = []
    for record in records:
        try:
            checked: Record = {}
            for kind in kinds:
                checked |= typed(record, kind, name, "left out")
            whole.append(checked)
        except DamagedError as error:
            strange.append(str(error))
    if strange:
        count = f"{len(strange)} such lines" if len(strange) > 1 else "a line"
        faults.append(f"{strange[0]} ({count})")
    return whole

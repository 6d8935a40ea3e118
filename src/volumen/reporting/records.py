"""Read a run folder into plain values; the report and everything like it start here.

Only `config.yaml` has to exist. A run that has just begun, failed, or was never evaluated still has a report. Lines of
logs that are damaged, or hold what no run writes, are left out, and said. A record's check tells damage; the types here
tell what no run writes, whoever sealed it: text for a number, a share of 300 %, a name of a megabyte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field
from typing_extensions import TypedDict

from volumen.config.schema import Config
from volumen.config.stamp import read_stamp
from volumen.errors import DamagedError
from volumen.experiments.evaluation_file import EVALUATION, load_evaluation, read_pictures
from volumen.experiments.scoring import Evaluation
from volumen.runs.folder import FINDINGS, WORK, run_config
from volumen.runs.records import read_run_logs, read_status
from volumen.system.locks import is_held
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


State = Literal["running", "finished", "early_stopping", "out_of_time", "stopped", "sick", "failed", "broken_off"]


class StatusRecord(TypedDict):
    """Of `status.json`."""

    state: State
    epoch: Count
    planned_epochs: Count
    best: BestRecord | None
    seconds: Seconds
    seconds_left: Seconds | None
    reason: NotRequired[Text]
    repairs: NotRequired[Annotated[dict[Word, Count], Field(max_length=100)]]


@dataclass(frozen=True)
class RunRecords:
    """What a run folder says."""

    path: Path
    config: Config
    versions: dict[str, str]
    """Of volumen, Python and the libraries when the run began."""
    records: tuple[Record, ...]
    """`metrics.jsonl`, each step and kind once."""
    events: tuple[Record, ...]
    findings: tuple[FindingRecord, ...] | None
    """What the audit said before the run; None where none was made."""
    status: StatusRecord | None
    evaluation: Evaluation | None
    slices: Mapping[str, bytes]
    """PNG by case id."""
    faults: tuple[str, ...] = ()
    """What is damaged and left out, a sentence each."""


def read_run(run: Path, config: Config | None = None) -> RunRecords:
    """Read a run folder.

    Args:
        run: The folder.
        config: Its configuration, where that has been read already.

    Raises:
        UserError: It is none, or its configuration, status or evaluation is damaged.
    """
    config = config or run_config(run)
    logs = read_run_logs(run)
    faults = [*logs.faults]
    metrics: list[Record] = _typed_lines(logs.metrics, (MetricRecord,), "metrics.jsonl", faults)
    events: list[Record] = _typed_lines(logs.events, (EventRecord, Details), "events.jsonl", faults)
    findings = None if logs.findings is None else _typed_lines(logs.findings, (FindingRecord,), FINDINGS, faults)
    faults += _missing_findings(events, 0 if findings is None else len(findings))
    evaluation = load_evaluation(run) if (run / EVALUATION).is_file() else None
    slices, lost = read_pictures(run, evaluation) if evaluation is not None else ({}, ())
    once = {(record["step"], record["kind"]): record for record in metrics}
    return RunRecords(
        path=run,
        config=config,
        versions={name: str(version) for name, version in read_stamp(run / "config.yaml").versions.items()},
        records=tuple(once[key] for key in sorted(once)),
        events=tuple(events),
        findings=None if findings is None else tuple(findings),
        status=_status(run),
        evaluation=evaluation,
        slices=slices,
        faults=(*faults, *lost),
    )


def _typed_lines(records: Sequence[Record], kinds: tuple[Any, ...], name: str, faults: list[str]) -> list[Any]:
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


def _missing_findings(events: Sequence[Record], found: int) -> list[str]:
    """A fault where the audit said that it found more; a log that was cut at its end does not show it itself."""
    counts = [event.get("findings") for event in events if event["kind"] == "audit"]
    told = max((count for count in counts if type(count) is int), default=0)
    return [f"{FINDINGS}: the audit found {told}, {found} can be read"] if told > found else []


def _status(run: Path) -> StatusRecord | None:
    plain = read_status(run)
    if plain is not None and plain.get("state") == "running" and not is_held(run, WORK):
        plain["state"] = "broken_off"
    fix = "remove it, the report does without"
    return None if plain is None else typed(plain, StatusRecord, run / "status.json", fix)

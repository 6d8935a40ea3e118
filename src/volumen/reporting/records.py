"""Read a run folder into plain values; the report and everything like it start here.

Only `config.yaml` has to exist. A run that has just begun, failed, or was never evaluated still has a report. Lines of
logs that are damaged, or hold what no run writes, are left out, and said. A record's check tells damage; the types here
tell what no run writes, whoever sealed it: text for a number, a share of 300 %, a name of a megabyte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from volumen.config.schema import Config
from volumen.config.stamp import read_stamp
from volumen.experiments.evaluation_file import EVALUATION, load_evaluation, read_pictures
from volumen.experiments.scoring import Evaluation
from volumen.runs.folder import FINDINGS, WORK, run_config
from volumen.runs.kinds import (
    Count,
    Details,
    EventRecord,
    MetricRecord,
    Number,
    Record,
    Seconds,
    Text,
    Word,
    typed_lines,
)
from volumen.runs.records import read_run_logs, read_status
from volumen.system.locks import is_held
from volumen.system.records import typed


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
    """Epochs and validations of `metrics.jsonl`, each step and kind once."""
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
    metrics: list[Record] = typed_lines(logs.metrics, (MetricRecord,), "metrics.jsonl", faults)
    events: list[Record] = typed_lines(logs.events, (EventRecord, Details), "events.jsonl", faults)
    findings = None if logs.findings is None else typed_lines(logs.findings, (FindingRecord,), FINDINGS, faults)
    faults += _missing_findings(events, 0 if findings is None else len(findings))
    evaluation = load_evaluation(run) if (run / EVALUATION).is_file() else None
    slices, lost = read_pictures(run, evaluation) if evaluation is not None else ({}, ())
    once = {(record["step"], record["kind"]): record for record in metrics if record["kind"] not in ("steps", "probe")}
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

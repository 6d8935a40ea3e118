"""What a run wrote down as it went: metrics, events, findings, status."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.errors import UserError
from volumen.files import is_regular_file
from volumen.runs.folder import EVENTS, FINDINGS, METRICS, STATUS, run_owner
from volumen.system.records import Log, read_log, read_record


@dataclass(frozen=True)
class RunLogs:
    """What a run wrote down as it went, and what is wrong with that."""

    metrics: tuple[dict[str, Any], ...]
    """Each step and kind once: after a resume the later record stands."""
    events: tuple[dict[str, Any], ...]
    findings: tuple[dict[str, Any], ...] | None
    """What the audit said before the run; None where none was made."""
    faults: tuple[str, ...]
    """Damaged or missing lines, a sentence each."""


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`, each step and kind once: after a resume the later record stands."""
    return list(read_run_logs(run).metrics)


def read_run_logs(run: Path) -> RunLogs:
    """Metrics, events and findings of a run; damaged lines are left out and counted.

    Raises:
        UserError: No run there.
    """
    owner = run_owner(run)
    faults: list[str] = []
    lines: dict[str, Any] = {}
    try:
        lines = (read_status(run) or {}).get("lines", {})
    except UserError as error:
        faults.append(str(error))
    logs = {name: _log_of(run / name, owner, faults) for name in (METRICS, EVENTS, FINDINGS)}
    for name, log in logs.items():
        faults += log.faults(name, lines.get(name))
    keyed = [record for record in logs[METRICS].records if type(record.get("step")) is int]
    if len(keyed) < len(logs[METRICS].records):
        faults.append(f"{METRICS}: {len(logs[METRICS].records) - len(keyed)} records are of no step and left out")
    by_key = {(record["step"], str(record.get("kind"))): record for record in keyed}
    return RunLogs(
        tuple(by_key[key] for key in sorted(by_key)),
        logs[EVENTS].records,
        logs[FINDINGS].records if (run / FINDINGS).exists() else None,
        tuple(faults),
    )


def _log_of(path: Path, owner: str, faults: list[str]) -> Log:
    """A log; one that cannot be read at all is empty, and a fault."""
    try:
        return read_log(path, owner=owner)
    except UserError as error:
        faults.append(str(error))
        return Log((), 0, 0, 0)


def read_status(run: Path) -> dict[str, Any] | None:
    """`status.json`; None where a run has not written one.

    Raises:
        UserError: It is damaged, or of another run.
    """
    path = run / STATUS
    if not is_regular_file(path):
        return None
    status: dict[str, Any] = read_record(path, dict[str, Any], "remove it, a report does without", owner=run_owner(run))
    return status

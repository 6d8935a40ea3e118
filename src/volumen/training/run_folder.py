"""The run folder, the truth about a run: everything that shows a run reads these files and nothing else.

`config.yaml` (resolved), `metrics.jsonl` and `events.jsonl` (append-only, keyed by step), `findings.jsonl` and
`progress_scale.json` (what the audit said), `status.json` (replaced atomically), `checkpoints/`. After a crash a
resumed run writes some steps again; `read_metrics` lets the later record win.
"""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from volumen.config import diff_configs, load_config
from volumen.config.dump import dump_yaml, resolved
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.files import write_atomically
from volumen.system.records import append_record, read_log, read_record, write_record
from volumen.training.checkpoint import CheckpointStore
from volumen.training.progress import ProgressScales

FINDINGS = "findings.jsonl"
# Where a run may differ from its own configuration when it is resumed: nothing of this changes a number.
MAY_CHANGE = {"data.workers", "data.dataset", "data.folds"}


@dataclass(frozen=True)
class Audited:
    """What an audit said of a run before it started."""

    findings: tuple[dict[str, Any], ...]
    """Plain values, gravest first."""
    accepted: tuple[str, ...]
    """Codes that would have stopped the run and were accepted by name."""
    scales: ProgressScales


class RunFolder:
    """A run's folder on disk.

    Use `create` for a new run and `reopen` to go on with one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = CheckpointStore(path / "checkpoints")

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """The folder of a new run; nothing is written yet.

        Raises:
            UserError: There is something already.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists already: go on with it by --resume, or choose another folder with --out")
        return cls(path)

    def write_config(self, config: Config) -> None:
        """Make the folder, with the resolved configuration in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        values = resolved(config)
        values["provenance"]["run"] = secrets.token_hex(8)
        write_atomically(self.path / "config.yaml", dump_yaml(values))

    def write_audit(self, audited: Audited) -> dict[str, Any]:
        """Record findings, accepted codes and the scale of progress; returns the event that says so."""
        write_atomically(self.path / FINDINGS, "")
        for finding in audited.findings:
            accepted = finding["severity"] == "stop" and finding["code"] in audited.accepted
            record = {"moment": "audit", "accepted": accepted, **finding}
            append_record(self.path / FINDINGS, record, owner=run_owner(self.path))
        audited.scales.save(self.path)
        return {"kind": "audit", "findings": len(audited.findings), "accepted": list(audited.accepted)}

    @classmethod
    def reopen(cls, path: Path, config: Config) -> "RunFolder":
        """Go on with a run, with a configuration that says the same as its own.

        Raises:
            UserError: No run there, or a configuration that differs from the run's.
        """
        differences = [each for each in diff_configs(run_config(path), config) if each.key not in MAY_CHANGE]
        if differences:
            changes = ", ".join(f"{each.key} {each.left} -> {each.right}" for each in differences)
            raise UserError(
                f"{path} was started with another configuration ({changes}): resume with the same one "
                f"(`volumen train {path} --resume` takes it from the folder), or start a new run with --out"
            )
        return cls(path)

    def metric(self, record: dict[str, Any]) -> None:
        """Append a record to `metrics.jsonl`."""
        append_record(self.path / "metrics.jsonl", record, owner=run_owner(self.path))

    def event(self, step: int, epoch: int, event: dict[str, Any]) -> None:
        """Append an event with step, epoch and time to `events.jsonl`."""
        record = {"step": step, "epoch": epoch, "time": time.time(), **event}
        append_record(self.path / "events.jsonl", record, owner=run_owner(self.path))

    def status(self, **values: Any) -> None:
        """Replace `status.json`."""
        write_record(self.path / "status.json", values, owner=run_owner(self.path))


def run_config(path: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: No run there.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(
            f"{path} is not a run folder (it has no config.yaml): give the folder that `volumen train` printed"
        )
    return load_config(path / "config.yaml").config


def run_owner(run: Path) -> str:
    """The id of a run, to which its records belong.

    Raises:
        UserError: The folder's configuration names none.
    """
    path = run / "config.yaml"
    values = YAML(typ="safe").load(path.read_text(encoding="utf-8")) if path.is_file() else None
    provenance = values.get("provenance") if isinstance(values, dict) else None
    owner = provenance.get("run") if isinstance(provenance, dict) else None
    if not isinstance(owner, str) or not owner:
        raise UserError(f"{run} is not a run folder (its config.yaml names no run): train it anew")
    return owner


@dataclass(frozen=True)
class RunLogs:
    """What the logs of a run hold, and what is wrong with them."""

    metrics: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...]
    findings: tuple[dict[str, Any], ...] | None
    """None where no audit was made."""
    faults: tuple[str, ...]


def read_run_logs(run: Path) -> RunLogs:
    """The logs of a run, whole lines only."""
    owner = run_owner(run)
    logs = {name: read_log(run / name, owner=owner) for name in ("metrics.jsonl", "events.jsonl", FINDINGS)}
    metrics, events, findings = (log.records for log in logs.values())
    return RunLogs(
        metrics,
        events,
        findings if (run / FINDINGS).is_file() else None,
        tuple(fault for name, log in logs.items() for fault in log.faults(name)),
    )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`, each step and kind once: after a resume the later record stands."""
    records = {(record["step"], record["kind"]): record for record in read_run_logs(run).metrics}
    return [records[key] for key in sorted(records)]


def read_status(run: Path) -> dict[str, Any] | None:
    """What `status.json` says; None where there is none."""
    path = run / "status.json"
    if not path.is_file():
        return None
    status: dict[str, Any] = read_record(
        path, dict[str, Any], "remove it, the report does without", owner=run_owner(run)
    )
    return status

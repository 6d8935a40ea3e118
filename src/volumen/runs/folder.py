"""The run folder, the truth about a run: everything that shows a run reads these files and nothing else.

`config.yaml` (resolved, with the run's stamp), `metrics.jsonl` and `events.jsonl` (append-only, keyed by step),
`findings.jsonl` and `progress_scale.json` (what the audit said), `status.json` (replaced atomically), `checkpoints/`.
Every record carries the run's name for itself in its check: what was damaged, cut off or taken from another run is told
and never believed. After a crash a resumed run writes some steps again; `read_metrics` lets the later record win.
"""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.config.compare import MAY_CHANGE, Difference, diff_configs, may_change
from volumen.config.dump import config_hash
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.config.stamp import dump_resolved, read_stamp
from volumen.errors import UserError
from volumen.files import write_atomically
from volumen.runs.checkpoints import CheckpointStore
from volumen.runs.saved import checked_state
from volumen.runs.scales import FILE as SCALES
from volumen.runs.scales import ProgressScales
from volumen.system.output import Warn
from volumen.system.records import append_record, read_log, write_record

CONFIG, METRICS, EVENTS, FINDINGS, STATUS = (
    "config.yaml",
    "metrics.jsonl",
    "events.jsonl",
    "findings.jsonl",
    "status.json",
)
CHECKPOINTS, REQUESTS = "checkpoints", "requests"
TENSORBOARD, WANDB, MLFLOW = "tensorboard", "wandb", "mlflow"
"""Folders of trackers."""
WORK = "train"
"""The work by which a training holds its folder (`system.locks`)."""
RESERVE = ".reserve"
"""A file that is removed when the disk is full, so that the run's last word still fits."""
_RESERVED_BYTES = 32768
RAN_OUT = "out_of_memory"
"""Event of a run whose memory ran out, with what would fit."""
_FALSE_START = {CONFIG, METRICS, EVENTS, FINDINGS, STATUS, SCALES, RESERVE}


@dataclass(frozen=True)
class Audited:
    """What an audit said of a run before it started."""

    findings: tuple[dict[str, Any], ...]
    """Plain values, gravest first."""
    accepted: tuple[str, ...]
    """Codes that would have stopped the run and were accepted by name."""
    scales: ProgressScales


class RunFolder:
    """A run's folder on disk: `claim` for a new run, `reopen` to go on with one, `open_run` to read one."""

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        self.checkpoints = CheckpointStore(path / CHECKPOINTS, owner)
        self._lines = {name: read_log(path / name, owner=owner).last for name in (METRICS, EVENTS)}
        self._newest: tuple[dict[str, Any], list[str]] | None = None

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """The folder of a new run; nothing is written yet.

        What a run left that never came to a checkpoint is no run, and makes way.

        Raises:
            UserError: There is something already.
        """
        there = [entry for entry in path.iterdir() if not entry.name.startswith(".lock-")] if path.is_dir() else []
        if (path.exists() and not path.is_dir()) or (there and not _is_false_start(path, there)):
            raise UserError(f"{path} exists already: go on with it by --resume, or choose another folder with --out")
        return cls(path, secrets.token_hex(8))

    def write_config(self, config: Config) -> None:
        """Make the folder, with the resolved configuration in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in _FALSE_START:
            (self.path / name).unlink(missing_ok=True)
        for name in (TENSORBOARD, WANDB, MLFLOW):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for asked in (self.path / REQUESTS).glob("request-*.json"):  # of the run that was here before
            asked.unlink(missing_ok=True)
        self._lines = {METRICS: 0, EVENTS: 0}
        self.replace_config(config)
        self.reserve()

    def replace_config(self, config: Config) -> None:
        """Write the resolved configuration, with the run's stamp."""
        write_atomically(self.path / CONFIG, dump_resolved(config, self.owner))

    def write_audit(self, audited: Audited) -> dict[str, Any]:
        """Record findings, accepted codes and the scale of progress; returns the event that says so."""
        for finding in audited.findings:
            accepted = finding["severity"] == "stop" and finding["code"] in audited.accepted
            record = {"moment": "audit", "accepted": accepted, **finding}
            append_record(self.path / FINDINGS, record, owner=self.owner)
        if not audited.findings:
            write_atomically(self.path / FINDINGS, b"")
        audited.scales.save(self.path, self.owner)
        return {"kind": "audit", "findings": len(audited.findings), "accepted": list(audited.accepted)}

    @classmethod
    def reopen(cls, path: Path, config: Config, meant: Sequence[str] = ()) -> "RunFolder":
        """Go on with a run, with a configuration that differs from its own in nothing that makes another run of it.

        Args:
            path: The folder.
            config: What the run is to go on with.
            meant: Keys that the user set by name, and so knows about.

        Raises:
            UserError: No run there, a `config.yaml` that was changed since, or a configuration of another run.
        """
        run, file = open_run(path), _file_config(path)
        began, ran_out = run.began_with() or file, run.ran_out_of_memory()
        if config_hash(file) != read_stamp(path / CONFIG).hash:
            changed = [each for each in diff_configs(began, file) if not may_change(each.key)]
            if any(each.key not in meant for each in changed) or began is file:
                raise UserError(_changed(path, changed))
        changed = diff_configs(began, config)
        differences = [each for each in changed if not may_change(each.key, ran_out=ran_out)]
        if differences:
            changes = ", ".join(f"{each.key} {each.left} -> {each.right}" for each in differences)
            raise UserError(
                f"{path} was started with another configuration ({changes}): only {', '.join(MAY_CHANGE)} may change; "
                f"resume with the same one (`volumen train {path} --resume` takes it from the folder), or start a new "
                "run with --out"
            )
        return run

    def ran_out_of_memory(self) -> bool:
        """Whether the run says that it once did not fit into memory."""
        return any(one.get("kind") == RAN_OUT for one in read_log(self.path / EVENTS, owner=self.owner).records)

    def began_with(self) -> Config | None:
        """The configuration in the newest checkpoint; None before the first one.

        Raises:
            UserError: There are checkpoints, and none is whole and of this format.
        """
        if self.checkpoints.is_empty():
            return None
        return checked_state(self._read_newest()[0], self.checkpoints.folder)[0]

    def take_newest(self, warn: Warn) -> dict[str, Any]:
        """The newest whole checkpoint; one that `reopen` looked at is not read again.

        Raises:
            UserError: There is no whole checkpoint.
        """
        state, warnings = self._read_newest()
        self._newest = None
        for warning in warnings:
            warn(warning)
        return state

    def _read_newest(self) -> tuple[dict[str, Any], list[str]]:
        if self._newest is None:
            warnings: list[str] = []
            self._newest = self.checkpoints.load_latest(warnings.append), warnings
        return self._newest

    def metric(self, record: dict[str, Any]) -> None:
        """Append a record to `metrics.jsonl`."""
        self._lines[METRICS] = append_record(self.path / METRICS, record, owner=self.owner)

    def event(self, step: int, epoch: int, event: dict[str, Any]) -> None:
        """Append an event with step, epoch and time to `events.jsonl`."""
        record = {"step": step, "epoch": epoch, "time": time.time(), **event}
        self._lines[EVENTS] = append_record(self.path / EVENTS, record, owner=self.owner)

    def status(self, **values: Any) -> None:
        """Replace `status.json`."""
        write_record(self.path / STATUS, {**values, "lines": self._lines}, owner=self.owner)

    def reserve(self) -> None:
        """Set room aside for the last word of a run on a full disk."""
        write_atomically(self.path / RESERVE, os.urandom(_RESERVED_BYTES))

    def release(self) -> None:
        """Give that room back."""
        with suppress(OSError):
            (self.path / RESERVE).unlink(missing_ok=True)


def _is_false_start(path: Path, there: Sequence[Path]) -> bool:
    """Whether a folder holds nothing but what a run wrote that never came to a checkpoint."""
    known = _FALSE_START | {CHECKPOINTS, REQUESTS, TENSORBOARD, WANDB, MLFLOW}
    if not (path / CONFIG).is_file() or any(entry.name not in known for entry in there):
        return False
    return not any((path / CHECKPOINTS).glob("*.pt"))


def _changed(path: Path, changed: Sequence[Difference]) -> str:
    said = "; ".join(f"the run began with {each.key} {each.left}, the file now says {each.right}" for each in changed)
    return (
        f"{path / CONFIG} was changed since the run began ({said or 'its hash differs from the recorded one'}): "
        "put it back, or start a new run with --out"
    )


def open_run(path: Path) -> RunFolder:
    """A run's folder, for reading.

    Raises:
        UserError: No run there, or its stamp is damaged.
    """
    return RunFolder(path, run_owner(path))


def run_owner(path: Path) -> str:
    """A run's name for itself, which its records carry in their checks.

    Raises:
        UserError: No run there, or its stamp is damaged.
    """
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{path} is not a run folder (it has no {CONFIG}): give the folder that `volumen train` printed"
        )
    return read_stamp(path / CONFIG).run


def _file_config(path: Path) -> Config:
    """What `config.yaml` says today."""
    return load_config(path / CONFIG).config


def run_config(path: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: No run there, or `config.yaml` was changed since the run began.
    """
    run_owner(path)
    config = _file_config(path)
    if config_hash(config) != read_stamp(path / CONFIG).hash:
        began = open_run(path).began_with()
        changed = diff_configs(began, config) if began is not None else []
        if changed or began is None:  # a volumen with more settings finds the same values under another hash
            raise UserError(_changed(path, changed))
    return config

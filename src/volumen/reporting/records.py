"""Read a run folder into plain values; the report and everything like it start here.

Only `config.yaml` has to exist. A run that has just begun, failed, or was never evaluated still has a report.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.experiments.evaluate import EVALUATION, SLICES, load_evaluation
from volumen.experiments.scoring import Evaluation
from volumen.files import read_json_lines
from volumen.training.run_folder import FINDINGS, read_metrics, run_config


@dataclass(frozen=True)
class RunRecords:
    """What a run folder says."""

    path: Path
    config: Config
    config_text: str
    versions: dict[str, str]
    """Of volumen, Python and the libraries when the run began."""
    records: tuple[dict[str, Any], ...]
    """`metrics.jsonl`, each step and kind once."""
    events: tuple[dict[str, Any], ...]
    findings: tuple[dict[str, Any], ...] | None
    """What the audit said before the run; None where none was made."""
    status: dict[str, Any] | None
    evaluation: Evaluation | None
    slices: dict[str, bytes]
    """PNG by case id."""


def read_run(run: Path) -> RunRecords:
    """Read a run folder.

    Raises:
        UserError: It is none, or one of its files is damaged.
    """
    config = run_config(run)
    text = (run / "config.yaml").read_text(encoding="utf-8")
    provenance = YAML(typ="safe").load(text).get("provenance") or {}
    events, findings = run / "events.jsonl", run / FINDINGS
    evaluation = load_evaluation(run) if (run / EVALUATION).is_file() else None
    pictures = {case.id: run / SLICES / f"{case.id}.png" for case in (evaluation.cases if evaluation else ())}
    return RunRecords(
        path=run,
        config=config,
        config_text=text,
        versions={name: str(version) for name, version in provenance.get("versions", {}).items()},
        records=tuple(read_metrics(run)),
        events=tuple(read_json_lines(events)) if events.is_file() else (),
        findings=tuple(read_json_lines(findings)) if findings.is_file() else None,
        status=_status(run / "status.json"),
        evaluation=evaluation,
        slices={case_id: path.read_bytes() for case_id, path in pictures.items() if path.is_file()},
    )


def _status(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it, the report does without") from error
    if not isinstance(status, dict):
        raise UserError(f"{path} holds {type(status).__name__}, expected an object: remove it, the report does without")
    return status

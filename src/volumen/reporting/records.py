"""Read a run folder into plain values; the report and everything like it start here.

Only `config.yaml` has to exist. A run that has just begun, failed, or was never evaluated still has a report.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from volumen.config.schema import Config
from volumen.experiments.evaluate import EVALUATION, SLICES, load_evaluation
from volumen.experiments.scoring import Evaluation
from volumen.training.run_folder import read_run_logs, read_status, run_config


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
    logs = read_run_logs(run)
    evaluation = load_evaluation(run) if (run / EVALUATION).is_file() else None
    pictures = {case.id: run / SLICES / f"{case.id}.png" for case in (evaluation.cases if evaluation else ())}
    return RunRecords(
        path=run,
        config=config,
        config_text=text,
        versions={name: str(version) for name, version in provenance.get("versions", {}).items()},
        records=logs.metrics,
        events=logs.events,
        findings=logs.findings,
        status=read_status(run),
        evaluation=evaluation,
        slices={case_id: path.read_bytes() for case_id, path in pictures.items() if path.is_file()},
    )

"""The audit of a run of the benchmark, as `volumen train` would have made it before the start; each is made once.

What looks at the data alone is shared by the runs on one data set, what looks at the objective by those of one
objective on it. Checks of settings, start, protocol, rate and cost are left out: they look at code that the benchmark
has changed behind the configuration's back, or take longer than its runs.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.doctor.audit import open_context, run_audit
from volumen.doctor.benchmark.running import RUNS
from volumen.errors import DamagedError
from volumen.runs.folder import CONFIG, run_config
from volumen.system.records import read_record, write_record

OF_DATA, OF_OBJECTIVE = ("P1", "P2", "P7"), ("P3", "P4", "P5")
AUDITS, FINDINGS = "audits", "findings"
Findings = tuple[dict[str, Any], ...]


def audited(run: Path) -> Findings:
    """Findings of the audit of a run that the benchmark keeps, from its configuration and data set.

    Args:
        run: Its folder below `OUT/runs`.

    Raises:
        UserError: The run's data set is gone.
    """
    config = run_config(run)
    found: list[dict[str, Any]] = []
    for codes in (OF_DATA, OF_OBJECTIVE):
        found += _made_once(run, config, codes)
    return tuple(found)


def audit_all(out: Path, names: Sequence[str]) -> None:
    """Audit the runs of these names, so that an examination afterwards only reads."""
    for name in names:
        audited(out / RUNS / name)


def _made_once(run: Path, config: Config, codes: Sequence[str]) -> list[dict[str, Any]]:
    file = run.parent.parent / AUDITS / f"{_key(config, codes)}.json"
    try:
        if file.is_file():
            kept: dict[str, list[dict[str, Any]]] = read_record(file, dict[str, list[dict[str, Any]]], "remove it")
            return kept[FINDINGS]
    except DamagedError:
        pass  # it is made again
    context = open_context(load_config(run / CONFIG))
    found = [finding.to_dict() for finding in run_audit(context, only=tuple(codes)).findings]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_record(file, {FINDINGS: found})
    return found


def _key(config: Config, codes: Sequence[str]) -> str:
    """Of all that the checks look at."""
    data = config.data
    looked = f"{data.dataset} {data.fold} {data.normalisation} {data.patch} {' '.join(codes)}"
    if tuple(codes) == OF_OBJECTIVE:
        looked += (
            config.loss.model_dump_json()
            + config.experiment.model_dump_json()
            + config.postprocessing.model_dump_json()
        )
    return hashlib.sha256(looked.encode()).hexdigest()[:24]

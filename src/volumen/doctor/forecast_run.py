"""What is left of a run that has begun, by what it has measured itself: seconds of its epochs and validations."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volumen.config.compare import diff_configs
from volumen.config.load import override_config
from volumen.config.schema import Config
from volumen.doctor.forecast import Course, Disk, Forecast, Pace, forecast
from volumen.doctor.forecast_spans import NOTHING, Span, exactly, span_of
from volumen.errors import UserError
from volumen.runs.folder import EVENTS, METRICS, STATUS, run_config
from volumen.runs.records import read_run_logs, read_status

RECENT = 10
"""Epochs of a phase, and validations, that count: a machine may have changed since the ones before."""
EPOCHS = "training.epochs"


@dataclass(frozen=True)
class RunPlan:
    """A run that has begun."""

    state: str
    """As `status.json` says."""
    run: Forecast
    spent_seconds: float
    since: float
    """The moment (seconds since 1970) from which the forecast counts: its last word where it runs, else now."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return {
            "state": self.state,
            "spent_seconds": self.spent_seconds,
            "since": self.since,
            "notes": list(self.notes),
            "run": self.run.to_dict(),
        }


def plan_of_run(path: Path, overrides: Sequence[str] = (), now: float | None = None) -> RunPlan:
    """Forecast what is left of a run.

    Args:
        path: Its folder.
        overrides: `training.epochs=N`: what another length would come to.
        now: Seconds since 1970; None asks the clock.

    Raises:
        UserError: No run there, none of its steps is recorded, or an override of something else.
    """
    config, status, logs = run_config(path), read_status(path), read_run_logs(path)
    if status is None or not status.get("step"):
        raise UserError(
            f"{path} has not recorded an epoch yet: forecast its configuration, volumen plan {path / 'config.yaml'}"
        )
    wanted = _overridden(config, overrides, path)
    done, planned = int(status["step"]), int(status["planned_steps"])
    course = Course(wanted, planned if wanted == config else Course.configured(wanted).steps)
    if course.steps < done:
        raise UserError(f"{path} has done {done} steps, {EPOCHS} asks for {course.steps}: give more")
    pace, notes = pace_of(course, logs.metrics, float(status["seconds"]), done)
    state = str(status["state"])
    now = time.time() if now is None else now
    since = (path / STATUS).stat().st_mtime if state == "running" else now
    run = forecast(course, pace, done, _disk(path, done, course.steps))
    if state in ("finished", "early_stopping", "sick") and wanted == config:
        run = forecast(Course(wanted, done), pace, done, _disk(path, done, done))
        notes = (*notes, f"the run has ended ({state}): nothing is left; -o {EPOCHS}=N forecasts a longer one")
    return RunPlan(state, run, float(status["seconds"]), since, notes)


def _overridden(config: Config, overrides: Sequence[str], path: Path) -> Config:
    if not overrides:
        return config
    wanted = override_config(config, overrides, str(path)).config
    other = [each.key for each in diff_configs(config, wanted) if each.key != EPOCHS]
    if other:
        raise UserError(
            f"{', '.join(other)}: a run that has begun is forecast by what it measured, and only {EPOCHS} may differ; "
            f"forecast volumen plan {path / 'config.yaml'} with these settings"
        )
    return wanted


def pace_of(
    course: Course, records: Sequence[Mapping[str, Any]], spent: float, done: int
) -> tuple[Pace, tuple[str, ...]]:
    """The pace that a run's records tell, and what is not known of it.

    Args:
        course: The run.
        records: Of `metrics.jsonl`, in the order of steps.
        spent: Seconds of all that was done, for a run that has not ended an epoch.
        done: Steps.
    """
    steps, validations, notes = defaultdict[str, list[tuple[float, int]]](list), list[float](), list[str]()
    before = 0
    for record in records:
        kind, seconds = record.get("kind"), record.get("seconds")
        if kind in ("validation", "validation_swa") and seconds is not None:
            validations.append(float(seconds))
        if kind == "train" and seconds is not None and record["step"] > before:
            count = min(int(record["step"]) - before, course.per_epoch)
            before = int(record["step"])
            steps[course.phase_of(min(int(record["epoch"]), course.epochs - 1))].append((float(seconds) / count, count))
    if not steps:
        notes.append("no epoch is done yet: a step takes what all steps took")
        steps[course.phases[0][0]].append((spent / done, done))
    known = {name: _recent(found) for name, found in steps.items()}
    paces, last = dict[str, Span](), known[next(iter(steps))]
    for name, _ in course.phases:
        if name not in known:
            notes.append(f"phase {name} has not begun: its steps are taken to be as those of the phase before")
        last = paces[name] = known.get(name, last)
    if not validations:
        notes.append("no validation is recorded yet: none is counted")
    each = [seconds for found in steps.values() for seconds, _ in found]
    validation = span_of(validations[-RECENT:]) if validations else NOTHING
    return Pace(paces, float(np.median(each)), done, validation=validation), tuple(notes)


def _recent(found: Sequence[tuple[float, int]]) -> Span:
    """Of a step: the mean over the last epochs, and how much they differ."""
    recent = found[-RECENT:]
    span = span_of([seconds for seconds, _ in recent])
    mean = sum(seconds * count for seconds, count in recent) / sum(count for _, count in recent)
    return exactly(mean) if len(recent) == 1 else Span(min(span.low, mean), mean, max(span.high, mean))


def _disk(path: Path, done: int, steps: int) -> Disk | None:
    """What lies there now; the records grow with the steps, the checkpoints no more."""
    files = list((path / "checkpoints").glob("*.pt"))
    if not files:
        return None
    records = sum((path / name).stat().st_size for name in (METRICS, EVENTS) if (path / name).exists())
    grown = round(records * steps / done)
    kept = sum(file.stat().st_size for file in files)
    one = max(file.stat().st_size for file in files)
    return Disk(one, kept + grown, max(kept, 4 * one) + grown, grown)

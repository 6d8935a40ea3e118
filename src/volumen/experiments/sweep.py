"""A sweep from its first trial, or from where it was left, to its report.

Any number of these commands may work in one folder, on one machine or on many that share it.
"""

import importlib.util
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from volumen.config.dump import config_hash, dump_config, dump_yaml
from volumen.config.layers import merge, override_layer
from volumen.config.load import LoadedConfig, load_config
from volumen.config.schema import Config
from volumen.config.source import located
from volumen.errors import DamagedError, UserError
from volumen.experiments.sweep_desk import CONFIRM, TRIALS, Desk, repeats
from volumen.experiments.sweep_halving import BASELINE, Entry, ranked
from volumen.experiments.sweep_plan import SweepPlan
from volumen.experiments.sweep_report import SweepReport, report_of
from volumen.experiments.sweep_training import Objective, Training
from volumen.experiments.sweep_workers import run_workers
from volumen.files import write_atomically
from volumen.runs.folder import CHECKPOINTS
from volumen.system.output import Progress, Warn, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.records import read_record, write_record

SETTINGS, RESULT, BEST = "settings.json", "sweep.json", "best.yaml"
LOOK_SECONDS = 2.0
MOST_WORKERS = 256


def run_sweep(
    plan: SweepPlan,
    out: Path,
    *,
    workers: int = 1,
    objective: Objective | None = None,
    progress: Progress = unheard,
    warn: Warn = unheard,
) -> SweepReport:
    """Do what is left of a sweep, with others that work in the same folder, and write `sweep.json`.

    Args:
        plan: As `plan_sweep` made it.
        out: Folder; what was begun there goes on.
        workers: Processes of this machine.
        objective: What is done with a trial; None trains it.
        progress: Told what runs, and how many of how many trials are done.
        warn: Told of what was damaged or ended from outside.

    Raises:
        UserError: Optuna is missing, the folder belongs to another sweep or cannot be written to, or nothing can be
            trained; the same command goes on.
        StopWanted: A signal asked to stop; what was trained is saved.
        OSError: A full disk; the same command goes on.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a sweep needs Optuna, which is not installed: pip install 'volumen[tune]'")
    if not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers must be a number from 1 to {MOST_WORKERS}, got {workers}")
    writable_folder(out, "choose another --out, or make it writable")
    objective = Training(plan.metric) if objective is None else objective
    desk = Desk(out, plan, objective.saved)
    with desk.journal.held():
        _check_settings(plan, out)
        desk.want(plan.trials)
    planned = desk.trials
    run_workers(out, plan, objective, workers=workers, look=_Shown(desk, planned, progress).look, warn=warn)
    report = read_report(plan, out, desk)
    if not plan.keep:
        _tidy(out, report)
    write_record(out / RESULT, report.to_dict())
    return report


def read_report(plan: SweepPlan, out: Path, desk: Desk | None = None) -> SweepReport:
    """What the journal of a folder says now."""
    desk = desk or Desk(out, plan)
    entries = desk.entries()
    wanted = set(repeats(entries, plan)) if plan.confirm else set()
    again = [one for one in desk.entries(CONFIRM) if (one.of, one.seed) in wanted] if wanted else []
    return report_of(plan, entries, again, desk.trials)


def _check_settings(plan: SweepPlan, out: Path) -> None:
    """Refuse to go on with another sweep; the caller holds the journal."""
    path = out / SETTINGS
    if not path.exists():
        strange = [one.name for one in (out / TRIALS, out / RESULT) if one.exists()]
        if strange:
            raise UserError(f"{out} has {', '.join(strange)} and no {SETTINGS}: choose another --out")
        write_record(path, plan.identity)
        return
    known: dict[str, Any] = read_record(path, dict[str, Any], "begin the sweep anew in another folder with --out")
    changed = [name for name, value in plan.identity.items() if known.get(name) != value]
    if changed:
        raise UserError(
            f"{out} holds a sweep with other settings ({', '.join(changed)}): give the same ones to go on with it, or "
            "choose another --out"
        )


class _Shown:
    """Progress, looked up now and then."""

    def __init__(self, desk: Desk, planned: int, progress: Progress) -> None:
        self._desk, self._planned, self._progress, self._last = desk, planned, progress, 0.0

    def look(self) -> None:
        """Tell how far everything is."""
        if time.monotonic() - self._last < LOOK_SECONDS:
            return
        self._last = time.monotonic()
        plan, entries = self._desk.plan, self._desk.entries()
        again = self._desk.entries(CONFIRM) if plan.confirm else ()
        of = self._planned + (plan.confirm + 1) * plan.seeds * bool(plan.confirm)
        done = sum(one.is_ended(plan.rungs) for one in entries) + sum(one.is_ended(plan.rungs[-1:]) for one in again)
        best = next(iter(ranked(entries)), None)
        said = "" if best is None else f", best so far {best.values[-1]:.4f} (trial {best.number})"
        running = [one.number for one in (*entries, *again) if one.is_wanted(plan.rungs) and one.claim]
        self._progress(f"{counted(len(running), 'trial')} at work{said}", done, of)


def _tidy(out: Path, report: SweepReport) -> None:
    """Remove the checkpoints of trials that nobody goes on with; what they recorded stays."""
    for one in report.entries if report.is_over else ():
        if one.reason:
            shutil.rmtree(out / TRIALS / f"{one.number:04d}" / CHECKPOINTS, ignore_errors=True)


def write_best(out: Path, source: str, overrides: list[str], plan: SweepPlan, report: SweepReport) -> Entry | None:
    """Write `best.yaml`: the recommended trial as a change of the configuration; without repeats, the best one.

    It has the configuration's own length and seed, not those of the trials. None, and no file, where no trial is better
    than the configuration.
    """
    wanted_number = report.recommended
    if not report.repeated and report.complete:
        wanted_number = report.complete[0].number
    best = next((one for one in report.entries if one.number == wanted_number != BASELINE), None)
    if best is None:
        with suppress(OSError):
            (out / BEST).unlink(missing_ok=True)
        return None
    wanted = plan.space.config(plan.config, best.parameters)
    base = source if source.startswith("preset:") else str(Path(source).resolve())
    layer = merge(override_layer(overrides, []), located(plan.space.layer(best.parameters), ""), [])
    write_atomically(out / BEST, dump_yaml({"base": base, **dict(layer.plain())}))
    if not _loads_as(out / BEST, wanted):
        write_atomically(out / BEST, dump_config(wanted))
    return best


def _loads_as(path: Path, wanted: Config) -> bool:
    try:
        loaded: LoadedConfig[Config] = load_config(path)
    except (UserError, DamagedError):
        return False
    return config_hash(loaded.config) == config_hash(wanted)

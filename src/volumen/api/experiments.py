"""Commands over several runs as functions: folds, comparison, sweep, and the forecast of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from volumen.api.commands import Settings, overrides_of

if TYPE_CHECKING:
    from volumen.doctor.forecast_batches import Plan
    from volumen.experiments.comparing_results import Comparison
    from volumen.experiments.fold_summary import FoldsSummary
    from volumen.experiments.sweep_report import SweepReport


def train_folds(
    config: str | Path,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    folds: str = "all",
    jobs: int | None = None,
    gpus: Sequence[int] = (),
    restarts: int = 2,
    first_must_meet: bool = False,
    accept: Sequence[str] = (),
    show: bool = False,
) -> FoldsSummary:
    """Train and score every fold, each in processes of its own: `volumen folds train`.

    The same call goes on where it was left: what is done is not done again. Ctrl-C stops all, and each saves.

    Args:
        config: YAML file, or `preset:NAME`.
        settings: Values in place of the configuration's.
        out: Folder; `runs/NAME-folds` otherwise.
        folds: Which: `0-4`, `0,2,4` or `all`.
        jobs: Folds at a time; as many as there are in `gpus`, or one.
        gpus: Numbers of CUDA devices; a fold at a time has one to itself.
        restarts: Of each fold, after a death or a crash.
        first_must_meet: The later folds only if the first meets `experiment.criteria`.
        accept: Codes of the audit's findings that would stop a run and shall not.
        show: Print progress, as the command does.

    Returns:
        Its `.folds` say what became of each, `.is_complete` whether all are scored.

    Raises:
        UserError: Wrong configuration, folder or folds; or GPUs that are not there.
    """
    import torch

    from volumen.experiments.fold_cluster import refuse_submitted
    from volumen.experiments.fold_jobs import plan_folds, slots_of
    from volumen.experiments.fold_jobs import train_folds as train_planned
    from volumen.experiments.fold_summary import summarise_folds, write_summary
    from volumen.reporting.folds_display import FoldsDisplay

    plan = plan_folds(
        str(config), overrides_of(settings), folds=folds, folder=None if out is None else Path(out), accept=accept
    )
    refuse_submitted(plan)
    slots, _ = slots_of(plan.config, jobs, [str(one) for one in gpus], torch.cuda.device_count())
    with FoldsDisplay(plan.folder, plan.folds, quiet=not show) as display:
        train_planned(plan, slots, display, restarts=restarts, first_must_meet=first_must_meet, warn=display.note)
    summary = summarise_folds(plan.folder)
    write_summary(plan.folder, summary)
    return summary


def compare(
    runs: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    reference: str = "",
    metric: str = "leaderboard",
    quick: bool = False,
    each: bool = False,
    which: str = "best",
    dataset: str | Path | None = None,
) -> Comparison:
    """Compare runs on the whole volumes that they held out: `volumen compare`.

    Args:
        runs: Run folders; those of one configuration are one row.
        settings: Other settings of prediction than the runs', for all of them.
        reference: Run folder, YAML file or `preset:NAME` whose objective measures all; the first run's otherwise.
        metric: By which they are ranked.
        quick: Take what the last validations recorded; predict nothing.
        each: A row for every run.
        which: Weights: best, best_loss, last, plain, average or swa.
        dataset: Prepared data set, where it has moved.

    Raises:
        UserError: Not a run, runs of different data sets, or a metric that ranks nothing.
    """
    from volumen.experiments.comparing import compare_runs

    return compare_runs(
        [Path(run) for run in runs],
        which=which,
        reference=reference,
        metric=metric,
        quick=quick,
        each=each,
        dataset=None if dataset is None else Path(dataset),
        overrides=overrides_of(settings),
    )


def sweep(
    config: str | Path,
    space: str | Path,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    metric: str | None = None,
    workers: int = 1,
    sampler: str = "tpe",
    seed: int = 0,
    confirm: int = 0,
) -> SweepReport:
    """Search in a configuration with successive halving: `volumen sweep`.

    The same call goes on where it was left, and calls of other processes on the same folder work beside it.

    Args:
        config: YAML file, or `preset:NAME`: trial 0.
        space: YAML file of what to search.
        settings: Values in place of the configuration's.
        out: Folder; `sweeps/NAME` otherwise.
        trials: Configurations to try, the file's own among them; a grid has its own number.
        epochs: Of a whole trial; the configuration's otherwise.
        metric: What trials are judged by; the configuration's selection metric otherwise.
        workers: Processes of this machine.
        sampler: `tpe`, `random` or `grid`.
        seed: Of the draws.
        confirm: Repeat so many of the best trials, and trial 0, with three other seeds.

    Returns:
        Its `.complete` are whole trials, the best first; `.recommended` is the number of the one that beats trial 0
        beyond the noise, else 0.

    Raises:
        UserError: Wrong configuration, space or number, or a folder of another sweep.
    """
    from volumen.config.load import load_config
    from volumen.experiments.sweep import run_sweep, write_best
    from volumen.experiments.sweep_plan import plan_sweep
    from volumen.files import write_atomically
    from volumen.reporting.sweep_page import PAGE, sweep_page

    overrides = overrides_of(settings)
    loaded = load_config(config, overrides)
    plan = plan_sweep(
        loaded, Path(space), trials=trials, epochs=epochs, metric=metric, sampler=sampler, seed=seed, confirm=confirm
    )
    folder = Path("sweeps") / loaded.config.name if out is None else Path(out)
    report = run_sweep(plan, folder, workers=workers)
    write_best(folder, str(config), overrides, plan, report)
    write_atomically(folder / PAGE, sweep_page(report, plan.space))
    return report


def plan(
    config: str | Path,
    settings: Settings | None = None,
    *,
    batches: Sequence[int] = (),
    time_budget: str | None = None,
) -> Plan:
    """When a training gets where, and what another batch size would change: `volumen plan`.

    Args:
        config: YAML file, or `preset:NAME`.
        settings: Values in place of the configuration's.
        batches: Sizes to compare; the double of the run's by default.
        time_budget: How many epochs fit, such as `90s`, `20m` or `2h`.

    Raises:
        UserError: Wrong configuration or data set, or a budget that is too short.
    """
    from volumen.config.load import load_config
    from volumen.doctor.context import open_context
    from volumen.doctor.forecast_batches import plan_run
    from volumen.training.budget import parse_duration

    context = open_context(load_config(config, overrides_of(settings)), needs_folds=True)
    return plan_run(context, batches, budget_seconds=None if time_budget is None else parse_duration(time_budget))

"""`volumen sweep`: search in a configuration, with successive halving, by as many processes as there are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset, Fold, Json, Setting, overrides_of, tune_process
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.experiments.sweep_report import SweepReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sweep)


def sweep(
    config: Annotated[str, typer.Argument(help="A YAML file or preset:NAME: trial 0.")],
    space: Annotated[Path, typer.Argument(help="YAML file of what to search: KEY: {from: 1e-5, to: 1e-2, log: true}.")],
    trials: Annotated[
        int | None, typer.Option(help="Configurations to try, the file's own among them; a grid has its own number.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a whole trial; the configuration's otherwise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a whole trial, in place of epochs.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="What trials are judged by; the configuration's selection metric otherwise.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of this machine.")] = 1,
    reduction: Annotated[int, typer.Option(help="One of so many trials goes on from a rung; 1 is no halving.")] = 3,
    first: Annotated[int | None, typer.Option("--first-rung", help="Epochs after which trials are compared.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random or grid.")] = "tpe",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the draws.")] = 0,
    confirm: Annotated[int, typer.Option(help="Repeat so many of the best trials, and trial 0, with other seeds.")] = 0,
    seeds: Annotated[int, typer.Option(help="Other seeds of --confirm; from three on a gain can be told.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder, sweeps/NAME otherwise; what was begun there goes on.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the checkpoints of trials that were stopped.")] = False,
    override: Setting = None,
    fold: Fold = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> int:
    """Search in a configuration: short trials first, the best third of them go on, the best of those to the end.

    Ctrl-C saves and ends with exit code 75; the same command goes on. Given again in another terminal, or on another
    machine that shares the folder, it adds workers. Writes report.html, sweep.json and best.yaml.
    """
    tune_process()
    from volumen.config.load import load_config
    from volumen.errors import EXIT_INTERRUPTED
    from volumen.experiments.sweep import run_sweep, write_best
    from volumen.experiments.sweep_plan import plan_sweep
    from volumen.files import write_atomically
    from volumen.reporting.sweep_page import PAGE, sweep_page
    from volumen.system.stopping import StopWanted

    def warn(sentence: str) -> None:
        say(f"note: {sentence}", aside=True)

    overrides = overrides_of(override, fold, dataset)
    loaded = load_config(config, overrides)
    plan = plan_sweep(
        loaded, space, trials=trials, epochs=epochs, steps=steps, metric=metric, reduction=reduction, first=first,
        sampler=sampler, seed=seed, confirm=confirm, seeds=seeds, keep=keep, warn=warn,
    )  # fmt: skip
    folder = out or Path("sweeps") / loaded.config.name
    warn(
        f"{plan.trials} trials of up to {plan.rungs[-1]} epochs"
        + (f", compared after {', '.join(map(str, plan.rungs[:-1]))}" if len(plan.rungs) > 1 else "")
        + f", by {plan.metric}; in {folder}"
    )
    try:
        with progress_bar("sweep", "trials", plain=not as_json) as progress:
            report = run_sweep(plan, folder, workers=workers, progress=progress, warn=warn)
    except StopWanted:
        say("stopped: what was trained is saved; the same command goes on", aside=True)
        return EXIT_INTERRUPTED
    best = write_best(folder, config, overrides, plan, report)
    write_atomically(folder / PAGE, sweep_page(report, plan.space))
    _report(report, folder, best is not None, as_json)
    return 0


def _report(report: "SweepReport", folder: Path, found: bool, as_json: bool) -> None:
    import json

    from volumen.experiments.sweep import BEST, RESULT
    from volumen.reporting.console import console_for
    from volumen.reporting.sweep_page import PAGE
    from volumen.reporting.sweep_tables import print_sweep

    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
        return
    print_sweep(report, console_for())
    written = (RESULT, PAGE, *([BEST] if found else []))
    say(f"written: {', '.join(str(folder / name) for name in written)}")
    if report.recommended:
        say(f"next: volumen train {folder / BEST}")
    elif found:
        say("next: the same command with --confirm 1, for what one seed shows may be chance")

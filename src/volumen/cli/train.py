"""`volumen train`."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add `train` to the command."""
    app.command()(train)


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, preset:NAME, or with --resume a run folder.")],
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", help="Set one value: -o training.epochs=50. Repeatable.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="The fold held out; the same as -o data.fold=K.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; otherwise runs/NAME-foldK after the configuration's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    time_budget: Annotated[
        str | None, typer.Option(help="Plan as many epochs as fit: 90s, 20m, 2h. Earlier sittings count.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the outcome only.")] = False,
) -> int:
    """Train a configuration on a prepared data set.

    Ctrl-C and SIGTERM save and end with exit code 75; --resume goes on as if nothing had happened.
    """
    from volumen.runtime import tune_allocator

    tune_allocator()  # before torch allocates anything

    from volumen.config import load_config
    from volumen.errors import EXIT_INTERRUPTED, UserError
    from volumen.reporting.terminal import SilentDisplay, TrainingDisplay
    from volumen.training import parse_duration, run_training

    source = Path(config)
    in_place = source.is_dir()
    if in_place and not resume:
        raise UserError(f"{config} is a folder: give a YAML file or preset:NAME, or --resume to go on with that run")
    overrides = [*(override or []), *([] if fold is None else [f"data.fold={fold}"])]
    settings = load_config(source / "config.yaml" if in_place else config, overrides).config
    folder = out or (source if in_place else Path("runs") / f"{settings.name}-fold{settings.data.fold}")
    budget = None if time_budget is None else parse_duration(time_budget)
    with SilentDisplay() if quiet else TrainingDisplay() as display:
        outcome = run_training(settings, folder, display, resume=resume, time_budget_seconds=budget)
    typer.echo(f"{outcome.state} after {outcome.epochs} epochs; best {settings.training.selection_metric} "
               f"{outcome.best_metric:.4f} in epoch {outcome.best_epoch + 1}")  # fmt: skip
    if outcome.state == "stopped":
        typer.echo(f"go on with: volumen train {folder} --resume")
        return EXIT_INTERRUPTED
    typer.echo(f"run folder: {folder}")
    typer.echo(f"next: volumen evaluate {folder}")
    return 0

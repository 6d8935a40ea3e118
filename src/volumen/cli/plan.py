"""`volumen plan`: when a training gets where, before it begins or while it goes on."""

import json
from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.options import Dataset, Fold, Json, Setting, overrides_of, tune_process
from volumen.system.output import say


def register(app: typer.Typer) -> None:
    """Add `plan` to the command."""
    app.command()(plan)


def plan(
    config: Annotated[str, typer.Argument(help="A YAML file, preset:NAME, or a run folder.")],
    override: Setting = None,
    fold: Fold = None,
    dataset: Dataset = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes to compare, 1,2,4,8; the double of the run's by default.")
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="How many epochs fit: 90s, 20m, 2h, as of `volumen train`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """When a training gets where: epoch, validation, phases, averaging, end; and what another batch size would change.

    Does a few real steps of each batch size that fits into memory, in a folder that goes again. Of a run folder it
    says what is left, by the times that the run has measured.
    """
    tune_process()

    from volumen.cli.progress import progress_bar
    from volumen.config.load import load_config
    from volumen.doctor.context import open_context
    from volumen.doctor.forecast_batches import plan_run
    from volumen.doctor.forecast_run import plan_of_run
    from volumen.errors import UserError
    from volumen.files import strict_json
    from volumen.reporting.console import console_for
    from volumen.reporting.plan_tables import print_plan, print_run_plan
    from volumen.training.budget import parse_duration

    budget = None if time_budget is None else parse_duration(time_budget)
    sizes = [] if batch is None else _sizes(batch)
    if Path(config).is_dir():
        if batch is not None or budget is not None or fold is not None or dataset is not None:
            raise UserError(
                f"{config} is a run folder, forecast by its own times: leave the options out, or measure its "
                f"configuration, volumen plan {Path(config) / 'config.yaml'}"
            )
        left = plan_of_run(Path(config), override or [])
        if as_json:
            say(json.dumps(strict_json(left.to_dict()), indent=2))
        else:
            print_run_plan(left, console_for())
        return
    context = open_context(load_config(config, overrides_of(override, fold, dataset)), needs_folds=True)
    with progress_bar("plan", "batch sizes", plain=True) as progress:
        found = plan_run(context, sizes, budget_seconds=budget, progress=progress)
    if as_json:
        say(json.dumps(strict_json(found.to_dict()), indent=2))
    else:
        print_plan(found, console_for())


def _sizes(text: str) -> list[int]:
    """Batch sizes, separated by commas.

    Raises:
        UserError: Something else.
    """
    from volumen.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 and int(part) > 0 for part in parts):
        raise UserError(f"--batch {text}: give batch sizes separated by commas, such as 1,2,4,8")
    return [int(part) for part in parts]

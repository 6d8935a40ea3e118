"""`volumen ablate`: remedies as short matched runs, with a control."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset, Fold, Json, Setting, overrides_of, tune_process
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.experiments.ablation_report import AblationReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ablate)


def ablate(
    config: Annotated[str, typer.Argument(help="A YAML file, preset:NAME, or a run folder: the control.")],
    remedies: Annotated[Path | None, typer.Option("--try", help="YAML file of remedies: NAME: {KEY: VALUE}.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Try the case study's seven solutions and its last recommendation.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Optimiser steps of every run.")] = 300,
    seeds: Annotated[int, typer.Option(help="Runs of each; from three on a gain can be told from noise.")] = 3,
    source: Annotated[
        Path | None, typer.Option("--from", help="Run folder whose best weights every run begins with.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process of its own.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder, ablations/NAME otherwise; what was begun there goes on.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the checkpoints of runs that are scored.")] = False,
    override: Setting = None,
    fold: Fold = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> None:
    """Try remedies as short runs from one start, a control among them, and say which gain more than noise.

    Writes ablation.json, ablation.html and remedies.yaml; Ctrl-C and the same command again go on.
    """
    tune_process()
    from volumen.config.load import load_config
    from volumen.errors import UserError
    from volumen.experiments.ablation import plan_ablation, run_ablation
    from volumen.files import write_atomically
    from volumen.reporting.ablation_page import PAGE, ablation_page

    if plan == (remedies is not None):
        raise UserError("give the remedies with --try FILE, or the case study's with --plan; one of the two")
    place = Path(config)
    loaded = load_config(place / "config.yaml" if place.is_dir() else config, overrides_of(override, fold, dataset))
    folder = out or Path("ablations") / loaded.config.name
    planned = plan_ablation(loaded.config, remedies=remedies, steps=steps, seeds=seeds, source=source)
    with progress_bar("ablation", "steps", plain=not as_json) as progress:
        report = run_ablation(
            planned,
            folder,
            jobs=jobs,
            keep=keep,
            progress=progress,
            warn=lambda sentence: say(f"note: {sentence}", aside=True),
        )
    write_atomically(folder / PAGE, ablation_page(report))
    _report(report, folder, as_json)


def _report(report: "AblationReport", folder: Path, as_json: bool) -> None:
    import json

    from volumen.experiments.ablation import REMEDIES, RESULT
    from volumen.reporting.ablation_page import PAGE
    from volumen.reporting.ablation_tables import print_ablation
    from volumen.reporting.console import console_for

    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
        return
    print_ablation(report, console_for())
    say(f"written: {', '.join(str(folder / name) for name in (RESULT, PAGE, REMEDIES))}")

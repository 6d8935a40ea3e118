"""`volumen evaluate` and `volumen report`: what a run can do, and on one page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.options import Dataset, Override, Pipeline, Run, Which, tune_process
from volumen.cli.parse import prediction_overrides
from volumen.cli.progress import progress_bar
from volumen.system.output import say


def register(app: typer.Typer) -> None:
    """Add the two commands."""
    app.command()(evaluate)
    app.command()(report)


def evaluate(
    run: Run,
    which: Which = "best",
    fold: Annotated[int | None, typer.Option(help="Fold to evaluate; the run's own otherwise.")] = None,
    cases: Annotated[str | None, typer.Option(help="Case ids, separated by commas, instead of a fold.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability above which a voxel is surface.")] = None,
    dataset: Dataset = None,
    postprocessing: Pipeline = None,
    override: Override = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evaluation as JSON.")] = False,
) -> None:
    """Score a run on whole held-out volumes with the leaderboard's metric.

    Writes evaluation.json and evaluation/slices/ID.png into the run folder.
    """
    tune_process()
    import json

    from volumen.experiments.evaluate import evaluate_run
    from volumen.reporting.console import console_for
    from volumen.reporting.score_tables import print_evaluation

    chosen = None if cases is None else [name.strip() for name in cases.split(",") if name.strip()]
    with progress_bar("reading", "tiles") as progress:
        evaluation = evaluate_run(
            run,
            which=which,
            fold=fold,
            cases=chosen,
            threshold=threshold,
            dataset=dataset,
            overrides=prediction_overrides(override, postprocessing),
            progress=progress,
        )
    if as_json:
        say(json.dumps(evaluation.to_dict(), indent=2))
        return
    print_evaluation(evaluation, console_for())
    say(f"written: {run / 'evaluation.json'}, {run / 'evaluation' / 'slices'}")
    say(f"next: volumen report {run}")


def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the run otherwise.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Make it anew until the run ends; an open page loads itself again.")
    ] = False,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds from one page to the next with --live.")] = 20.0,
) -> None:
    """Write one self-contained HTML page about a run, or about the folds of `volumen folds train`."""
    from volumen.experiments.fold_records import RECORD

    if (run / RECORD).is_file():
        from volumen.errors import UserError
        from volumen.reporting.fold_page import write_fold_page

        if live:
            raise UserError(f"{run} holds folds: --live goes with a run, such as {run / 'fold0'}")
        say(f"report: {write_fold_page(run, out)}")
        return
    from volumen.reporting.console import console_for
    from volumen.reporting.report import follow_run, write_report

    page, faults = write_report(run, out)
    for fault in faults:
        console_for(sys.stderr).print(f"warning: {fault}", style="yellow", soft_wrap=True)
    say(f"report: {page}")
    if live:
        say(f"it is made anew every {every:g} s until the run ends; Ctrl-C ends this and not the run")
        follow_run(run, out, every)

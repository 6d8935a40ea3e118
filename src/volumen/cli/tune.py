"""`volumen tune`: the post-processing that the leaderboard score asks for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.experiments.tuned_runs import TuningReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tune)


def tune(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: folds of one data set.")],
    out: Annotated[
        Path, typer.Option(help="Folder for predictions, searches and results; a search begun there continues.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Pipelines to try in each search.")] = 60,
    workers: Annotated[int, typer.Option(min=1, help="Search processes that run in parallel.")] = 1,
    which: Annotated[str, typer.Option(help="Weights: best, best_loss, last, plain, average or swa.")] = "best",
    dataset: Dataset = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the searches.")] = 0,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", help="Change a setting of prediction: -o inference.mirror=true"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Search thresholds and post-processing by the leaderboard score, on volumes that each run never saw.

    Reports what the search gains on volumes that it did not see either, and recommends only what beats the run's own
    post-processing there by more than twice the noise. Writes postprocessing.yaml and tuning.json.
    """
    from volumen.runtime import tune_allocator

    tune_allocator()
    from volumen.experiments.tuned_runs import PIPELINE, RESULT, next_command, tune_runs

    with progress_bar("reading", "") as progress:
        report = tune_runs(
            runs,
            out,
            which=which,
            dataset=dataset,
            overrides=override or (),
            trials=trials,
            workers=workers,
            seed=seed,
            predicting=progress,
            searching=lambda name, done, of: progress(f"searches ({name} done)", done, of),
            warn=lambda sentence: say(f"note: {sentence}", aside=True),
        )
    _report(report, as_json)
    if not as_json:
        say(f"written: {out / PIPELINE}" + (f", {out / RESULT}" if report else ""))
        say(f"next: {next_command(report, runs, which, override or (), out / PIPELINE)}")


def _report(report: "TuningReport | None", as_json: bool) -> None:
    import json

    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_tuning

    if report is None:
        keep = "keep what you have: one held-out volume cannot tell what gains: give more runs, or hold out more"
        say(json.dumps({"advised": "own", "reason": keep}, indent=2) if as_json else keep)
    elif as_json:
        say(json.dumps(report.to_dict(), indent=2))
    else:
        print_tuning(report, console_for())

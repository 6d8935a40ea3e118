"""`volumen compare`: runs side by side, ranked only where the evidence says so."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset, Json, Override, Pipeline, Which, tune_process
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.experiments.comparing_results import Comparison

Runs = Annotated[list[Path], typer.Argument(help="Run folders, in any state.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    runs: Runs,
    reference: Annotated[
        str, typer.Option(help="Run, YAML file or preset:NAME whose objective measures all; the first run's otherwise.")
    ] = "",
    metric: Annotated[str, typer.Option(help="Metric by which runs are ranked.")] = "leaderboard",
    quick: Annotated[
        bool, typer.Option("--quick", help="Take what the last validations recorded; predict nothing.")
    ] = False,
    each: Annotated[bool, typer.Option("--each", help="A row for every run; no mean over seeds or folds.")] = False,
    which: Which = "best",
    dataset: Dataset = None,
    postprocessing: Pipeline = None,
    override: Override = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with charts.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every number in long form.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write tables for LaTeX (booktabs).")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs on the whole volumes that they held out, and say which are better by more than noise.

    Runs of one configuration are one row. Scores stay in each run's comparison.jsonl, so that a second comparison reads
    them; Ctrl-C and the same command again go on.
    """
    tune_process()
    from volumen.cli.parse import prediction_overrides
    from volumen.experiments.comparing import compare_runs
    from volumen.system.places import writable_file

    for path in filter(None, (html, csv, latex)):
        writable_file(path)
    with progress_bar("comparing", "tiles", plain=not as_json) as progress:
        found = compare_runs(
            runs,
            which=which,
            reference=reference,
            metric=metric,
            quick=quick,
            each=each,
            dataset=dataset,
            overrides=prediction_overrides(override, postprocessing),
            progress=progress,
            warn=lambda sentence: say(f"note: {sentence}", aside=True),
        )
    _report(found, {"html": html, "csv": csv, "latex": latex}, as_json)


def _report(found: "Comparison", wanted: dict[str, Path | None], as_json: bool) -> None:
    import json

    from volumen.files import write_atomically
    from volumen.reporting.comparison_formats import comparison_csv, comparison_json, comparison_latex, print_comparison
    from volumen.reporting.comparison_page import comparison_page
    from volumen.reporting.console import console_for

    makers: dict[str, Callable[[Comparison], str]] = {
        "html": comparison_page, "csv": comparison_csv, "latex": comparison_latex,
    }  # fmt: skip
    written: Sequence[Path] = [path for path in wanted.values() if path is not None]
    for name, path in wanted.items():
        if path is not None:
            write_atomically(path, makers[name](found))
    if as_json:
        say(json.dumps(comparison_json(found), indent=2))
        return
    print_comparison(found, console_for())
    if written:
        say(f"written: {', '.join(map(str, written))}")

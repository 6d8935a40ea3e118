"""`volumen bundle`, `volumen ensemble` and `volumen select`: from runs to one file, and what belongs in it."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset, Override, Pipeline, Which, tune_process
from volumen.cli.parse import prediction_overrides
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.inference.bundle import Bundle


class Mean(StrEnum):
    """What an ensemble averages."""

    probability = "probability"
    logit = "logit"


def register(app: typer.Typer) -> None:
    """Add the three commands."""
    app.command()(bundle)
    app.command()(ensemble)
    app.command()(select)


def bundle(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: one, or several to be averaged.")],
    out: Annotated[Path, typer.Option(help="The bundle; its name ends in .volumen.")],
    which: Which = "best",
    mean: Annotated[Mean, typer.Option(help="What to average of several networks.")] = Mean.probability,
    weights: Annotated[
        str | None, typer.Option(help="Weight of each run, separated by commas: 0.5,0.5. Equal by default.")
    ] = None,
    dataset: Dataset = None,
    postprocessing: Pipeline = None,
    override: Override = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
) -> None:
    """Put the networks of runs and all that a prediction needs into one file.

    `volumen predict` and `volumen submit` take the file in place of a run, on any machine.
    """
    tune_process()

    from volumen.cli.parse import numbers
    from volumen.experiments.bundles import bundle_runs
    from volumen.experiments.out_of_fold import RunWeights

    _refuse_place(out, overwrite)
    shares = None if weights is None else numbers(weights, "--weights")
    overrides = prediction_overrides(override, postprocessing)
    sources = [RunWeights(run, which) for run in runs]
    made = bundle_runs(sources, out, shares=shares, mean=mean.value, overrides=overrides, dataset=dataset)
    _report(made, out)


def ensemble(
    runs: Annotated[list[str], typer.Argument(help="Run folders, or RUN:WHICH for weights other than the best.")],
    out: Annotated[Path, typer.Option(help="The bundle; its name ends in .volumen.")],
    mean: Annotated[Mean, typer.Option(help="What to average of the networks.")] = Mean.probability,
    work: Annotated[
        Path | None, typer.Option(help="Folder for held-out predictions; otherwise beside the bundle.")
    ] = None,
    dataset: Dataset = None,
    postprocessing: Pipeline = None,
    override: Override = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
) -> None:
    """Average folds, runs or checkpoints, with weights fitted on volumes that their networks never saw.

    Folds of one configuration are weighted equally. Different configurations, or kinds of weights, get fitted weights
    only if that gains more than the noise on volumes that were not used for fitting.
    """
    tune_process()

    from volumen.experiments.ensembling import ensemble_runs, work_folder_of
    from volumen.experiments.out_of_fold import RunWeights
    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_weighed

    _refuse_place(out, overwrite)
    with progress_bar("reading", "done") as progress:
        weighed, made = ensemble_runs(
            [RunWeights.of(text) for text in runs],
            out,
            work or work_folder_of(out),
            mean=mean.value,
            dataset=dataset,
            overrides=prediction_overrides(override, postprocessing),
            progress=progress,
            warn=lambda sentence: say(f"note: {sentence}", aside=True),
        )
    print_weighed(weighed, console_for())
    _report(made, out)


def _report(made: "Bundle", out: Path) -> None:
    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_bundle

    print_bundle(made, out, console_for())
    say(f"written: {out}")
    say(f"next: volumen submit {out} TEST_IMAGES submission.zip")


def _refuse_place(out: Path, overwrite: bool) -> None:
    """A bundle's name, a place that can be written to, and nothing that would be lost."""
    from volumen.errors import UserError
    from volumen.inference.bundle import SUFFIX
    from volumen.system.places import writable_file

    if out.suffix != SUFFIX:
        raise UserError(f"--out {out} must end in {SUFFIX}, by which bundles are known: use --out {out}{SUFFIX}")
    writable_file(out)
    if out.exists() and not overwrite:
        raise UserError(f"the bundle {out} exists already: choose another --out, or --overwrite to replace it")


def select(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that held out the same fold.")],
    out: Annotated[
        Path | None, typer.Option(help="File for the result; selection.json in the first run otherwise.")
    ] = None,
    dataset: Dataset = None,
    override: Override = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare every kind of weights that runs hold on their whole held-out volumes, and recommend one.

    By the distribution first (surface share within the range of the labels), then by the leaderboard score, never by a
    loss.
    evaluation.json stays as it is.
    """
    tune_process()

    import json

    from volumen.errors import UserError
    from volumen.experiments.selection import SELECTION, select_checkpoints
    from volumen.files import refuse_existing
    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_choice
    from volumen.system.places import writable_file
    from volumen.system.records import write_record

    if out is not None:
        refuse_existing(out, "the result", "choose another --out, or remove it")
    target = out or runs[0] / SELECTION
    if out is None and not runs[0].is_dir():
        raise UserError(f"{runs[0]} is not a run folder: give the folder that `volumen train` printed")
    writable_file(target, "choose another --out, or make it writable")
    with progress_bar("reading", "tiles") as progress:
        choice = select_checkpoints(runs, dataset=dataset, overrides=override or (), progress=progress)
    write_record(target, choice.record)
    if as_json:
        say(json.dumps(choice.to_dict(), indent=2))
        return
    print_choice(choice, console_for())
    say(f"written: {target}")

"""`volumen folds`: divide a data set for cross-validation, and train all of its folds."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.data import print_table
from volumen.cli.options import Dataset, Json, Setting, overrides_of, tune_process
from volumen.cli.progress import progress_bar
from volumen.cli.subjects import Subjects
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import Folds
    from volumen.experiments.fold_jobs import FoldsPlan

SPLIT = "split"
"""The subject where none is named."""


class FoldSubjects(Subjects):
    """What can be done with folds."""

    usual = SPLIT


app = typer.Typer(
    cls=FoldSubjects,
    help="Divide a data set (volumen folds [split] PREPARED), or train all of its folds (volumen folds train CONFIG).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.add_typer(app, name="folds")


class By(StrEnum):
    """What a fold is made of."""

    auto = "auto"
    scroll = "scroll"
    volume = "volume"


class Cluster(StrEnum):
    """Where folds are trained instead of here."""

    slurm = "slurm"
    local = "local"


@app.command(SPLIT)
def split(
    prepared: Annotated[Path, typer.Argument(help="Folder written by `volumen prepare`.")],
    count: Annotated[
        int | None, typer.Option("--folds", min=2, help="Number of folds; 5, or as many as there are scrolls.")
    ] = None,
    by: Annotated[By, typer.Option(help="auto: by scroll where there are several, else by volume.")] = By.auto,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the split.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write; otherwise folds.json in PREPARED.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file with another split, though runs may depend on it.")
    ] = False,
) -> None:
    """Divide the labelled cases of a prepared data set; what is meant where no subject is named."""
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import FILE, make_folds, save_folds
    from volumen.system.places import writable_file

    dataset = PreparedDataset.open(prepared)
    made, statements = make_folds(dataset, count, by.value, seed)
    target = out or prepared / FILE
    save_folds(made, writable_file(target), overwrite=overwrite)
    for statement in statements:
        say(statement)
    _print_folds(dataset, made)
    say(f"written to {target}")


def _print_folds(dataset: "PreparedDataset", made: "Folds") -> None:
    rows = []
    for number, fold in enumerate(made.folds):
        cases = [dataset.case(case_id) for case_id in fold.validation]
        surface = sum(case.surface_voxels for case in cases) / max(sum(case.valid_voxels for case in cases), 1)
        scrolls = " ".join(sorted({case.scroll_id for case in cases}))
        rows.append([str(number), str(len(fold.train)), str(len(fold.validation)), f"{surface:.1%}", scrolls])
    print_table(["fold", "train", "validation", "surface (of labelled)", "scrolls held out"], rows)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML file or preset:NAME.")],
    folds: Annotated[str, typer.Option("--folds", help="Which: 0-4, 0,2,4 or all.")] = "all",
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Folds at a time; as many as --gpus names, or one.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="CUDA devices, such as 0,1: a fold at a time has one to itself.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/NAME-folds otherwise.")] = None,
    first_must_meet: Annotated[
        bool,
        typer.Option("--first-must-meet", help="The later folds only if the first meets experiment.criteria."),
    ] = False,
    restarts: Annotated[int, typer.Option(min=0, max=100, help="Of each fold, after a death or a crash.")] = 2,
    accept: Annotated[
        list[str] | None, typer.Option(help="Code of a finding that would stop a run: start anyway. Repeatable.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Train on where a fault of data, labels or configuration is seen.")
    ] = False,
    cluster: Annotated[
        Cluster | None, typer.Option(help="Hand each fold to a cluster by submitit, and return at once.")
    ] = None,
    slurm_time: Annotated[str, typer.Option(help="Time of a job before it is queued again: 90m, 24h.")] = "24h",
    slurm_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for sbatch: partition=gpu, gpus_per_node=1. Repeatable.")
    ] = None,
    override: Setting = None,
    dataset: Dataset = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the summary only.")] = False,
    as_json: Json = False,
) -> int:
    """Train and score every fold, each in processes of its own; the same command goes on where it was left.

    Exit code 0 where every fold is scored, 75 where some are not yet (stopped, queued), 1 where one failed.
    """
    tune_process()
    from volumen.errors import EXIT_INTERRUPTED
    from volumen.experiments.fold_jobs import plan_folds

    plan = plan_folds(
        config,
        overrides_of(override, None, dataset),
        folds=folds,
        folder=out,
        accept=accept or (),
        keep_going=keep_going,
    )
    _refuse_together(cluster, (jobs, gpus, first_must_meet or None), slurm_option)
    if cluster is not None:
        _submit(plan, cluster, slurm_time, slurm_option or [], restarts)
    else:
        stopped_by = _train_here(plan, jobs, gpus, restarts, first_must_meet, quiet=quiet or as_json)
        if stopped_by:
            _summarise(plan.folder, as_json)
            say(f"stopped by {stopped_by}; go on with the same command", aside=as_json)
            return EXIT_INTERRUPTED
    return _summarise(plan.folder, as_json)


def _refuse_together(cluster: Cluster | None, of_this_machine: tuple[object, ...], options: list[str] | None) -> None:
    """Options that do not go together are refused: none is ignored."""
    from volumen.errors import UserError

    if cluster is not None and any(one is not None for one in of_this_machine):
        raise UserError(
            "--jobs, --gpus and --first-must-meet do not go with --cluster: there each fold is a job; submit --folds "
            "0 first, then the others"
        )
    if cluster is None and options:
        raise UserError("--slurm-option goes with --cluster slurm")


def _train_here(
    plan: "FoldsPlan", jobs: int | None, gpus: str | None, restarts: int, first_must_meet: bool, *, quiet: bool
) -> str:
    """Supervise the folds; the signal that asked to stop."""
    import torch

    from volumen.experiments.fold_cluster import refuse_submitted
    from volumen.experiments.fold_jobs import slots_of, train_folds
    from volumen.reporting.folds_display import FoldsDisplay

    refuse_submitted(plan)
    named = [] if gpus is None else [one.strip() for one in gpus.split(",")]
    slots, said = slots_of(plan.config, jobs, named, torch.cuda.device_count())
    with FoldsDisplay(plan.folder, plan.folds, quiet=quiet) as display:
        display.note(f"{plan.folder}: {said}; logs in {plan.folder / 'logs'}")
        return train_folds(plan, slots, display, restarts=restarts, first_must_meet=first_must_meet, warn=display.note)


def _submit(plan: "FoldsPlan", cluster: Cluster, time: str, options: list[str], restarts: int) -> None:
    from volumen.experiments.fold_cluster import parse_options, submit_folds
    from volumen.training.budget import parse_duration

    submit_folds(
        plan,
        cluster.value,
        minutes=max(1, round(parse_duration(time) / 60)),
        options=parse_options(options),
        restarts=restarts,
        warn=lambda sentence: say(sentence, aside=True),
    )


def _summarise(folder: Path, as_json: bool) -> int:
    """Write and print the summary; the exit code."""
    from volumen.errors import EXIT_FAILURE, EXIT_INTERRUPTED
    from volumen.experiments.fold_summary import FAILED, summarise_folds, write_summary
    from volumen.reporting.console import console_for
    from volumen.reporting.fold_tables import print_folds

    summary = summarise_folds(folder)
    write_summary(folder, summary)
    if as_json:
        say(json.dumps(summary.to_dict(), indent=2))
    else:
        print_folds(summary, console_for())
        say(f"next: volumen report {folder}")
    if summary.is_complete:
        return 0
    return EXIT_FAILURE if any(one.state == FAILED for one in summary.folds) else EXIT_INTERRUPTED


@app.command(hidden=True)
def score(
    run: Annotated[Path, typer.Argument(help="Run folder of a fold.")],
    folder: Annotated[Path, typer.Option(help="Folder of the folds.")],
) -> None:
    """Predict and score what a fold held out; `volumen folds train` calls it."""
    tune_process()
    from volumen.experiments.fold_scoring import score_held_out

    with progress_bar("scoring", "tiles") as progress:
        score_held_out(run, folder, progress=progress, warn=lambda sentence: say(f"warning: {sentence}", aside=True))

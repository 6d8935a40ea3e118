"""`volumen train`."""

from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Dataset, Fold, Setting, overrides_of
from volumen.system.output import counted, say, unheard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from volumen.config.schema import Config
    from volumen.trackers.listening import Opener
    from volumen.training.distributed import World
    from volumen.training.listener import Listener, Outcome


def register(app: typer.Typer) -> None:
    """Add `train` to the command."""
    app.command()(_said_once(train))


def _said_once(command: "Callable[..., int]") -> "Callable[..., int]":
    """Of several processes that make the same mistake, one says it."""

    @wraps(command)
    def said_once(*arguments: object, **options: object) -> int:
        from volumen.errors import EXIT_USER_ERROR, UserError
        from volumen.training.distributed import is_listener
        from volumen.training.lost_device import DeviceLostError

        try:
            return command(*arguments, **options)
        except UserError as error:
            if is_listener() and not isinstance(error, MemoryError | DeviceLostError):  # those befall one
                return EXIT_USER_ERROR
            raise

    return said_once


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, preset:NAME, or with --resume a run folder.")],
    override: Setting = None,
    fold: Fold = None,
    dataset: Dataset = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; otherwise runs/NAME-foldK after the configuration's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    time_budget: Annotated[
        str | None, typer.Option(help="Plan as many epochs as fit: 90s, 20m, 2h. Earlier sessions count.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Code of a finding that would stop the run: start anyway. Repeatable."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Train on where a fault of data, labels or configuration is seen.")
    ] = False,
    track: Annotated[
        str, typer.Option(help="Follow the run in tensorboard, wandb, mlflow, trackio (commas between), or none.")
    ] = "tensorboard",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the outcome only.")] = False,
) -> int:
    """Train a configuration on a prepared data set, after a quick audit of it.

    Ctrl-C and SIGTERM save and end with exit code 75; --resume goes on as if nothing had happened. On several GPUs:
    torchrun --nproc-per-node N -m volumen train ...
    """
    from volumen.runtime import tune_allocator

    tune_allocator()  # before torch allocates anything

    from volumen.api.starting import Order, start_training
    from volumen.cli.progress import progress_bar
    from volumen.config.load import load_config
    from volumen.errors import UserError
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_findings
    from volumen.trackers.choice import chosen_trackers
    from volumen.training.budget import parse_duration
    from volumen.training.distributed import joined
    from volumen.training.fitting import loaded_with_batch

    trackers, source = chosen_trackers(track.split(",")), Path(config)
    in_place = source.is_dir()
    if in_place and not resume:
        raise UserError(f"{config} is a folder: give a YAML file or preset:NAME, or --resume to go on with that run")
    overrides = overrides_of(override, fold, dataset) + (["training.keep_going=true"] if keep_going else [])
    loaded = load_config(source / "config.yaml" if in_place else config, overrides)
    budget = None if time_budget is None else parse_duration(time_budget)
    with joined(loaded.config.device) as world:
        loaded = loaded if resume else loaded_with_batch(loaded, world)  # the audit sees what will be trained
        settings = loaded.config
        folder = out or (source if in_place else Path("runs") / f"{settings.name}-fold{settings.data.fold}")
        meant = [text.partition("=")[0].strip() for text in overrides]
        outcome = start_training(
            Order(loaded, folder, resume, budget, accept or [], meant),
            _listener(trackers, world, quiet=quiet),
            world=world,
            auditing=lambda: progress_bar("audit", "checks", plain=not quiet),
            report=unheard if quiet else lambda found: print_findings(found, console_for()),
        )
    return _last_word(outcome, settings, folder, say if world.is_first else unheard)


@contextmanager
def _listener(trackers: "dict[str, Opener]", world: "World", *, quiet: bool) -> "Iterator[Listener]":
    """The display and the trackers; of several processes the first one has them."""
    from volumen.reporting.terminal import SilentDisplay, TrainingDisplay
    from volumen.trackers.choice import tracked
    from volumen.training.listener import BaseListener

    if not world.is_first:
        yield BaseListener()
        return
    with SilentDisplay() if quiet else TrainingDisplay() as display, tracked(trackers, display, say) as listener:
        yield listener


def _last_word(outcome: "Outcome", settings: "Config", folder: Path, say: "Callable[[str], None]") -> int:
    """Say how a run ended, and what comes next; its exit code."""
    from volumen.errors import EXIT_FAILURE, EXIT_INTERRUPTED
    from volumen.reporting.words import number

    metric, value = settings.training.selection_metric, number(outcome.best_metric, ".4f")
    best = f"best {metric} {value} in epoch {outcome.best_epoch + 1}"
    say(
        f"{outcome.state} after {counted(outcome.epochs, 'epoch')}; "
        + (best if outcome.best_epoch >= 0 else "not validated yet")
    )
    if outcome.state == "stopped":
        say(f"go on with: volumen train {folder} --resume")
        return EXIT_INTERRUPTED
    if outcome.state == "sick":
        say(f"{outcome.reason}\nno learning rate mends that; to train on all the same: volumen train {folder} --resume "
            "--keep-going")  # fmt: skip
        return EXIT_FAILURE
    if outcome.state == "out_of_time":
        say(f"longer: volumen train {folder} --resume --time-budget MORE, earlier sessions included")
    say(f"run folder: {folder}")
    say(f"next: volumen evaluate {folder}")
    return 0

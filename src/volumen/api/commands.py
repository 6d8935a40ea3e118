"""The commands as functions: paths may be text, mistakes are `UserError`, nothing is printed but on demand.

`settings` are dotted keys of the configuration with their values, the command line's `-o`: `{"training.epochs": 3}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import Folds
    from volumen.doctor.audit import AuditReport
    from volumen.experiments.scoring import Evaluation
    from volumen.training.listener import Listener, Outcome

Settings = Mapping[str, Any]


def overrides_of(settings: Settings | None) -> list[str]:
    """Settings as the command line's `-o` has them."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items()]


def phantom(
    out: str | Path, *, volumes: int = 6, size: int = 96, scrolls: int = 2, seed: int = 0, difficulty: float = 0.5
) -> Path:
    """Invent scrolls with exact labels, in the layout that `prepare` reads, to try everything without real data.

    Args:
        out: New folder.
        volumes: Number of labelled volumes.
        size: Side of each in voxels.
        scrolls: Number of scrolls they come from.
        seed: The same seed gives the same bytes.
        difficulty: 0 easy to 1 hard.

    Returns:
        The folder.

    Raises:
        UserError: The folder is not empty, or a number is out of range.
    """
    from volumen.phantoms.scrolls import write_phantom_dataset

    shape = (size, size, size)
    return write_phantom_dataset(out, volumes=volumes, shape=shape, scrolls=scrolls, seed=seed, difficulty=difficulty)


def prepare(
    dataset: str | Path,
    out: str | Path,
    *,
    meanings: str | Path | None = None,
    accept_proposal: bool = False,
    accept_changes: bool = False,
    workers: int = 2,
) -> PreparedDataset:
    """Verify a data set, all of it, and pack it for training: `volumen prepare`.

    Args:
        dataset: Folder with train_images, train_labels and train.csv.
        out: Folder to write; one that holds this data set already is brought up to date.
        meanings: What the label values mean; dataset.yaml in the data set's folder otherwise.
        accept_proposal: Without such a file, go on with the proposed meanings.
        accept_changes: Pack files again that changed since they were packed.
        workers: Threads.

    Raises:
        UserError: Everything that is wrong, in one list.
    """
    from volumen.data.prepare import prepare as prepare_dataset

    return prepare_dataset(
        Path(dataset),
        Path(out),
        meanings_file=None if meanings is None else Path(meanings),
        accept_proposal=accept_proposal,
        accept_changes=accept_changes,
        workers=workers,
    )


def folds(
    prepared: str | Path,
    count: int | None = None,
    *,
    by: Literal["auto", "scroll", "volume"] = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> Folds:
    """Divide the labelled cases of a prepared data set for cross-validation, and write folds.json: `volumen folds`.

    Args:
        prepared: Folder that `prepare` wrote.
        count: Number of folds; None: 5, or as many as there are groups.
        by: What stays together; `auto`: scrolls where there are several, else volumes.
        seed: Of the division.
        overwrite: Replace folds that divide otherwise, though runs may rest on them.

    Returns:
        The folds: `.folds[0].train` and `.folds[0].validation` are case ids.

    Raises:
        UserError: Too few groups, or other folds are there already.
    """
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import FILE, make_folds, save_folds

    made, _ = make_folds(PreparedDataset.open(Path(prepared)), count, by, seed)
    save_folds(made, Path(prepared) / FILE, overwrite=overwrite)
    return made


def audit(
    config: str | Path, settings: Settings | None = None, *, full: bool = False, only: Sequence[str] = ()
) -> AuditReport:
    """Look for what will make a run useless, before it starts: `volumen audit`.

    Args:
        config: YAML file, or `preset:NAME`.
        settings: Values in place of the configuration's.
        full: Also what takes minutes.
        only: Codes of the checks to run, such as `P3`; all of them otherwise.

    Returns:
        `.findings`, gravest first; `.refusals()` are those that would stop a run.

    Raises:
        UserError: A configuration, data set or code that does not exist or is wrong.
    """
    from volumen.config.load import load_config
    from volumen.doctor.audit import run_audit
    from volumen.doctor.context import open_context

    return run_audit(open_context(load_config(config, overrides_of(settings))), full=full, only=tuple(only))


def train(
    config: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    time_budget: str | None = None,
    accept: Sequence[str] = (),
    track: Sequence[str] = ("tensorboard",),
    show: bool = False,
) -> Outcome:
    """Train into a run folder, after a quick audit: `volumen train`.

    Ctrl-C saves and returns an outcome of state `stopped`; `resume` goes on from there, bit for bit.

    Args:
        config: YAML file, or `preset:NAME`; a run's own is `out / "config.yaml"`.
        out: Run folder: new, or with `resume` one that was stopped.
        settings: Values in place of the configuration's.
        resume: Go on with a stopped run.
        time_budget: Plan as many epochs as fit, such as `90s`, `20m` or `2h`.
        accept: Codes of the audit's findings that would stop the run and shall not.
        track: Follow the run in some of `tensorboard`, `wandb`, `mlflow` and `trackio`, or in none.
        show: Print progress, as the command does.

    Raises:
        UserError: Wrong configuration, data set, folder or tracker, or a finding that stops the run.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stands.
    """
    from volumen.api.starting import Order, start_training
    from volumen.config.load import load_config
    from volumen.reporting.terminal import SilentDisplay, TrainingDisplay
    from volumen.system.output import say, unheard
    from volumen.trackers.choice import chosen_trackers, tracked
    from volumen.training.budget import parse_duration
    from volumen.training.fitting import loaded_with_batch

    class Mute(SilentDisplay):
        """Warnings stand in the run's events."""

        def event(self, event: dict[str, Any]) -> None:
            """Nothing to show."""

    @contextmanager
    def listening() -> Iterator[Listener]:
        tell = say if show else unheard
        with TrainingDisplay() if show else Mute() as display, tracked(trackers, display, tell) as listener:
            yield listener

    trackers = chosen_trackers(track or ["none"])
    loaded = load_config(config, overrides_of(settings))
    loaded = loaded if resume else loaded_with_batch(loaded)  # the audit sees what will be trained
    budget = None if time_budget is None else parse_duration(time_budget)
    order = Order(loaded, Path(out), resume, budget, accept, tuple(settings or ()))
    return start_training(order, listening())


def evaluate(
    run: str | Path,
    settings: Settings | None = None,
    *,
    which: str = "best",
    fold: int | None = None,
    cases: Sequence[str] | None = None,
    dataset: str | Path | None = None,
    keep: bool = True,
) -> Evaluation:
    """Score a run on whole held-out volumes with the leaderboard's metric: `volumen evaluate`.

    Args:
        run: Run folder.
        settings: Other settings of prediction than the run's, such as `{"inference.mirror": True}`.
        which: Weights: best, best_loss, last, plain, average or swa.
        fold: Fold to evaluate; the run's own otherwise.
        cases: Case ids instead of a fold.
        dataset: Prepared data set, where it has moved.
        keep: Write evaluation.json and pictures into the run.

    Returns:
        `.mean["leaderboard"]`, `.by_scroll`, and a value of each metric for every one of `.cases`.

    Raises:
        UserError: No run, weights, fold or case of that name, or a data set that is not the run's.
    """
    from volumen.experiments.evaluate import evaluate_run

    return evaluate_run(
        Path(run),
        which=which,
        fold=fold,
        cases=cases,
        dataset=None if dataset is None else Path(dataset),
        overrides=overrides_of(settings),
        keep=keep,
    )


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one self-contained HTML page about a run: `volumen report`.

    Args:
        run: Run folder.
        out: The file; report.html in the run otherwise.

    Returns:
        The file.

    Raises:
        UserError: No run folder, a damaged file in it, or no place to write to.
    """
    from volumen.reporting.report import write_report

    return write_report(Path(run), None if out is None else Path(out))[0]

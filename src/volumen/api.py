"""What the command line does, from Python: thin functions over the rooms, which print nothing unless they are asked.

Paths may be text. `settings` are dotted keys of the configuration with their values, the command line's `-o`:
`{"training.epochs": 3}`. Mistakes that you can mend are `UserError`. Imports stand inside of the functions, so that
preparing data does not wait for PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from volumen.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from volumen.config.postprocessing import Postprocessing
    from volumen.config.schema import Config
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import Folds
    from volumen.doctor.audit import AuditReport
    from volumen.experiments.predicting import Opened
    from volumen.experiments.scoring import Evaluation
    from volumen.training.listener import Outcome

Settings = Mapping[str, Any]


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
    from volumen.data.phantom import write_phantom_dataset

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
    from volumen.doctor.audit.setup import open_context

    return run_audit(open_context(load_config(config, _overrides(settings))), full=full, only=tuple(only))


def train(
    config: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    time_budget: str | None = None,
    accept: Sequence[str] = (),
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
        show: Print progress, as the command does.

    Raises:
        UserError: Wrong configuration, data set or folder, or a finding that stops the run.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stands.
    """
    from volumen.config.load import load_config
    from volumen.doctor.audit.preflight import audit_first
    from volumen.reporting.terminal import SilentDisplay, TrainingDisplay
    from volumen.system.locks import refuse_held
    from volumen.training import RunFolder, parse_duration, run_training
    from volumen.training.run_folder import WORK

    class Mute(SilentDisplay):
        """Warnings stand in the run's events."""

        def event(self, event: dict[str, Any]) -> None:
            """Nothing to show."""

    folder, overrides = Path(out), _overrides(settings)
    loaded = load_config(config, overrides)
    budget = None if time_budget is None else parse_duration(time_budget)
    audited = None
    if not resume:
        refuse_held(folder, WORK)
        RunFolder.claim(folder)  # nobody waits for an audit of a run that has no place to go
        audited = audit_first(loaded, accept, budget_seconds=budget)
    with TrainingDisplay() if show else Mute() as display:
        return run_training(
            loaded.config,
            folder,
            display,
            resume=resume,
            time_budget_seconds=budget,
            audited=audited,
            meant=tuple(settings or ()),
        )


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
        overrides=_overrides(settings),
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
    from volumen.reporting.html import write_report

    return write_report(Path(run), None if out is None else Path(out))[0]


@dataclass(frozen=True)
class Model:
    """A trained network, or the mean of a bundle's, that predicts arrays; `load` makes it."""

    opened: Opened

    @property
    def config(self) -> Config:
        """How it normalises, cuts into tiles and post-processes."""
        return self.opened.config

    def probabilities(self, image: ArrayLike) -> NDArray[np.float32]:
        """The probability of surface of every voxel, tile by tile.

        Args:
            image: Grey values as a TIFF holds them, integers [Z, Y, X]; what the scan left empty is found.

        Returns:
            float32 [Z, Y, X], 0 to 1.

        Raises:
            UserError: Not three axes of integers.
        """
        return self._predict(image)[0]

    def predict(self, image: ArrayLike) -> NDArray[np.uint8]:
        """The mask that `volumen predict` writes for an image.

        Args:
            image: Grey values as a TIFF holds them, integers [Z, Y, X].

        Returns:
            uint8 [Z, Y, X]: 1 surface, 0 background, by the model's own post-processing.

        Raises:
            UserError: Not three axes of integers.
        """
        from volumen.postprocess import apply_pipeline

        probabilities, scan = self._predict(image)
        return apply_pipeline(probabilities, self.config.postprocessing, scan)

    def _predict(self, image: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Probabilities, and where the scan holds something."""
        import numpy as np

        from volumen.data.emptiness import find_emptiness
        from volumen.data.normalise import Normalised, statistics_of

        array = np.asarray(image)
        if array.ndim != 3 or array.dtype.kind not in "ui" or not array.size:
            raise UserError(
                f"an image is a volume of integers [Z, Y, X], as its TIFF holds them; got {array.dtype} "
                f"{list(array.shape)}"
            )
        scan = find_emptiness(array, self.config.inference.declared_empty).scan
        normalised = Normalised(array, statistics_of(array, scan), self.config.data.normalisation)
        return self.opened.predictor.probabilities(normalised, scan), scan


def load(source: str | Path, settings: Settings | None = None, *, which: str = "best") -> Model:
    """Load a run or a bundle for prediction.

    Args:
        source: Run folder, or a bundle (`model.volumen`).
        settings: Other settings of prediction than its own, such as `{"inference.overlap": 0.25}`.
        which: Weights of a run: best, best_loss, last, plain, average or swa.

    Raises:
        UserError: Neither a run nor a bundle, a damaged one, weights that are not there, or settings that do not suit.
    """
    from volumen.experiments.predicting import open_predictor

    return Model(open_predictor(Path(source), which=which, overrides=_overrides(settings)))


def make_mask(
    probabilities: ArrayLike,
    steps: str | Path | Sequence[Mapping[str, Any]] = "scroll",
    *,
    scan: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Apply post-processing to probabilities of any origin.

    Args:
        probabilities: [Z, Y, X], 0 to 1.
        steps: A preset (`plan`, `scroll`), a YAML file such as `volumen tune` writes, or steps as a configuration has
            them: `[{"kind": "threshold", "level": 0.4}, {"kind": "fill_cavities"}]`.
        scan: Where the scan holds something, bool [Z, Y, X]; None: everywhere.

    Returns:
        Mask, uint8 [Z, Y, X], 0 or 1.

    Raises:
        UserError: No such preset or file, steps that are wrong, or probabilities that are none.
    """
    import numpy as np

    from volumen.postprocess import apply_pipeline

    volume = np.asarray(probabilities, dtype=np.float32)
    if volume.ndim != 3 or not ((volume >= 0) & (volume <= 1)).all():
        raise UserError(f"probabilities are a volume [Z, Y, X] of numbers from 0 to 1, got shape {list(volume.shape)}")
    if scan is not None and scan.shape != volume.shape:
        raise UserError(f"scan {list(scan.shape)} must have the shape of the probabilities {list(volume.shape)}")
    return apply_pipeline(volume, _postprocessing(steps), scan)


@dataclass(frozen=True)
class Records(Mapping[str, list[Any]]):
    """Columns of a run's records by name, all equally long; what a record does not say is None."""

    columns: dict[str, list[Any]]
    faults: tuple[str, ...] = ()
    """Damaged or missing lines, a sentence each; they are left out."""

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            UserError: pandas is not installed; volumen does without it.
        """
        try:
            return import_module("pandas").DataFrame(self.columns)
        except ImportError as error:
            raise UserError("pandas is not installed: pip install pandas, or take the columns as they are") from error


def records(run: str | Path, kind: str = "train") -> Records:
    """What a run wrote down as it went, as columns: one row an epoch, nested values under dotted names.

    Args:
        run: Run folder; one that is still running may be read.
        kind: `train` (losses, learning rate, time), `validation`, `validation_swa` (metrics), or `events`.

    Raises:
        UserError: No run, or a kind that it has not recorded.
    """
    from volumen.training.run_folder import read_run_logs

    logs = read_run_logs(Path(run))
    kinds = sorted({str(record["kind"]) for record in logs.metrics})
    if kind not in (*kinds, "events"):
        raise UserError(f"{run} has no records of kind {kind!r}: it has {', '.join((*kinds, 'events'))}")
    chosen = logs.events if kind == "events" else [one for one in logs.metrics if one["kind"] == kind]
    rows = [dict(_flat(record)) for record in chosen]
    names = dict.fromkeys(name for row in rows for name in row)
    return Records({name: [row.get(name) for row in rows] for name in names}, logs.faults)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _overrides(settings: Settings | None) -> list[str]:
    """Settings as the command line's `-o` has them."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items()]


def _postprocessing(steps: str | Path | Sequence[Mapping[str, Any]]) -> Postprocessing:
    from pydantic import ValidationError

    from volumen.config.fragments import load_postprocessing
    from volumen.config.postprocessing import Postprocessing

    if isinstance(steps, str | Path):
        return load_postprocessing(str(steps))
    try:
        return Postprocessing.model_validate_json(json.dumps({"steps": [dict(step) for step in steps]}))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"post-processing cannot be used ({said}): docs/configuration.md has every step") from error

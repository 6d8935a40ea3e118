"""Predictions of volumes that a model was not trained on, kept in a folder so that they are made once.

Each run predicts the cases that its own fold held out. Where several runs held out the same case, their answers are
averaged: that case then speaks for the ensemble.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.held_out import HeldOut, Kept, PredictionFolder
from volumen.inference.recipe import Recipe
from volumen.runs.folder import run_owner
from volumen.runs.run import WHICH, DataSets, Run, Trained
from volumen.system.names import checked_name
from volumen.system.output import Progress, Warn, unheard


@dataclass(frozen=True)
class RunWeights:
    """Weights of a run."""

    run: Path
    which: str = "best"

    @property
    def name(self) -> str:
        """The run's name, and which weights where it is not the best ones."""
        run = self.run.resolve().name
        return run if self.which == "best" else f"{run}:{self.which}"

    @property
    def folder(self) -> str:
        """Name of the folder for its predictions."""
        run = checked_name(self.run.resolve().name, "name of a run", self.run)
        return run if self.which == "best" else f"{run}-{self.which}"

    @staticmethod
    def of(text: str, which: str = "best") -> "RunWeights":
        """From `RUN` or `RUN:WHICH`."""
        run, colon, own = text.rpartition(":")
        return RunWeights(Path(run), own) if colon and own in WHICH else RunWeights(Path(text), which)


@dataclass(frozen=True)
class Opened:
    """Weights that were read, and their run."""

    source: RunWeights
    run: Run
    trained: Trained


def open_sources(sources: Sequence[RunWeights], dataset: Path | None = None) -> list[Opened]:
    """Read the weights of sources, each checkpoint once; data sets are opened when somebody looks at them, also once.

    Args:
        sources: Weights of runs.
        dataset: Where their data set is, if it has moved since the trainings.

    Raises:
        UserError: A run or checkpoint that does not exist, or is damaged.
    """
    shared, runs = DataSets(), dict[Path, Run]()
    for source in sources:
        runs.setdefault(source.run, Run(source.run, dataset, shared))
    kinds = {path: list(dict.fromkeys(one.which for one in sources if one.run == path)) for path in runs}
    read = {path: run.networks(kinds[path]) for path, run in runs.items()}
    opened = []
    for source in sources:
        trained = read[source.run][source.which]
        if isinstance(trained, UserError):
            raise trained
        opened.append(Opened(source, runs[source.run], trained))
    return opened


def check_sources(sources: Sequence[RunWeights], dataset: Path | None = None) -> dict[str, Opened]:
    """Refuse, before anything is computed, what has no way to be predicted.

    Returns:
        What each source was trained on, by its name.

    Raises:
        UserError: No source, one that is no run or names no weights, two of one name, or different data sets.
    """
    if not sources:
        raise UserError("give at least one run")
    places = [source.folder.casefold() for source in sources]
    if len(set(places)) < len(places):
        names = ", ".join(sorted(source.name for source in sources))
        raise UserError(f"two runs have one name ({names}): rename a folder")
    for source in sources:
        if source.which not in WHICH:
            raise UserError(f"there is no checkpoint {source.which!r}: choose one of {', '.join(WHICH)}")
        run_owner(source.run)
    found = dict(zip((source.name for source in sources), open_sources(sources, dataset), strict=True))
    if len({one.trained.data.dataset for one in found.values()}) > 1:
        raise UserError("the runs were trained on different prepared data sets: take them apart")
    return found


def predict_out_of_fold(
    opened: Mapping[str, Opened],
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    progress: Progress = unheard,
    warn: Warn = unheard,
) -> tuple[HeldOut, ...]:
    """Predict what each source's fold held out; what lies in the folder from the same weights and settings is kept.

    Args:
        opened: Weights of runs that were trained on folds of one prepared data set, as `check_sources` gives them.
        folder: Where the probabilities go.
        overrides: Other settings of prediction.
        progress: Told the source and case, and how many of how many tiles are done.
        warn: Told which predictions are damaged and are made again.

    Raises:
        UserError: The data set is gone or another one, or settings that do not suit.
    """
    found: dict[str, dict[str, Kept]] = {}
    for name, one in opened.items():
        dataset = one.run.dataset(one.trained)
        for sentence in one.run.changed_folds(one.trained):
            warn(f"{name}: {sentence}")
        for case_id, kept in _predict_run(name, one, dataset, folder, overrides, progress, warn).items():
            found.setdefault(case_id, {})[name] = kept
    return tuple(HeldOut(name, dataset.case(name).scroll_id, dataset, files) for name, files in sorted(found.items()))


def prediction_settings(recipe: Recipe, dataset: PreparedDataset, config: Config) -> dict[str, Any]:
    """All that kept predictions depend on."""
    made = recipe.record("weights_sha256", "normalisation", "tile", "engine", "precision")
    inference = config.inference.model_dump(mode="json")
    return {**made, "dataset": dataset.identity, "inference": inference}


def _predict_run(
    name: str,
    opened: Opened,
    dataset: PreparedDataset,
    folder: Path,
    overrides: Sequence[str],
    progress: Progress,
    warn: Warn,
) -> dict[str, Kept]:
    """Predictions of a run's held-out cases."""
    trained = opened.trained.overridden(overrides, opened.run.path)
    recipe = Recipe.of(trained.model, trained.config)
    settings = prediction_settings(recipe, dataset, trained.config)
    shapes = {case_id: dataset.case(case_id).shape for case_id in trained.data.validation}
    predictions = PredictionFolder(folder / opened.source.folder, settings, shapes, warn)
    for case_id in [case_id for case_id in shapes if case_id not in predictions.kept]:
        told = partial(progress, f"{name}: {case_id}")
        predictions.add(case_id, recipe.of_case(dataset, case_id, told))
    trained.model.cpu()  # one network at a time is on a card
    return {case_id: predictions.kept[case_id] for case_id in shapes}

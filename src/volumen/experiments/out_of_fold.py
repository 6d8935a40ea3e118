"""Predictions of volumes that a model was not trained on, kept in a folder so that they are made once.

Each run predicts the cases that its own fold held out. Where several runs held out the same case, their answers are
averaged: that case then speaks for the ensemble.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.held_out import HeldOut
from volumen.experiments.kept_predictions import Kept, PredictionFolder
from volumen.experiments.own_data import changed_folds, open_data, own_fold
from volumen.experiments.predicting import predict_case, predictor_for
from volumen.inference.files import Progress
from volumen.inference.predictor import weights_identity
from volumen.system.names import checked_name
from volumen.training.checkpoint import WHICH, Trained, load_trained, override_prediction

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Source:
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
    def of(text: str, which: str = "best") -> "Source":
        """From `RUN` or `RUN:WHICH`."""
        run, colon, own = text.rpartition(":")
        return Source(Path(run), own) if colon and own in WHICH else Source(Path(text), which)


@dataclass(frozen=True)
class OutOfFold:
    """What several runs say about the volumes that they did not see."""

    cases: tuple[HeldOut, ...]
    configs: Mapping[str, Config]
    """As it was trained, by name of the source."""


def predict_out_of_fold(
    sources: Sequence[Source],
    folder: Path,
    *,
    runs: dict[str, Trained] | None = None,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = lambda name, done, of: None,
    warn: Warn = lambda sentence: None,
) -> OutOfFold:
    """Predict what each source's fold held out; what lies in the folder from the same weights and settings is kept.

    Args:
        sources: Weights of runs that were trained on folds of one prepared data set.
        folder: Where the probabilities go.
        runs: What `check_sources` has read already; emptied, so that one network at a time is in memory.
        dataset: Where the data set is, if it has moved since the trainings.
        overrides: Other settings of prediction.
        progress: Told the source and case, and how many of how many tiles are done.
        warn: Told which predictions are damaged and are made again.

    Raises:
        UserError: No source, other data sets, or two sources of one name.
    """
    runs = check_sources(sources) if runs is None else runs
    found: dict[str, dict[str, Kept]] = {}
    configs: dict[str, Config] = {}
    known: PreparedDataset | None = None
    for source in sources:
        trained = runs.pop(source.name)
        config = configs[source.name] = trained.config
        prepared = open_data(trained, source.run, dataset)
        for sentence in changed_folds(trained, prepared):
            warn(f"{source.name}: {sentence}")
        known = prepared
        changed = override_prediction(config, overrides, f"of {source.run}") if overrides else config
        place = folder / source.folder
        shapes = {case_id: prepared.case(case_id).shape for case_id in own_fold(trained).validation}
        kept_cases = _predict_run(trained.model, changed, prepared, shapes, place, source.name, progress, warn)
        for case_id, kept in kept_cases.items():
            found.setdefault(case_id, {})[source.name] = kept
    assert known is not None  # there is a source
    cases = [HeldOut(name, known.case(name).scroll_id, known, files) for name, files in sorted(found.items())]
    return OutOfFold(tuple(cases), configs)


def check_sources(sources: Sequence[Source]) -> dict[str, Trained]:
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
        if not (source.run / "config.yaml").is_file():
            raise UserError(
                f"{source.run} is not a run folder (it has no config.yaml): give the folder that `volumen train` "
                "printed"
            )
    found = {source.name: load_trained(source.run, source.which) for source in sources}
    if len({trained.data.dataset for trained in found.values()}) > 1:
        raise UserError("the runs were trained on different prepared data sets: take them apart")
    return found


def _predict_run(
    model: nn.Module,
    config: Config,
    dataset: PreparedDataset,
    shapes: Mapping[str, tuple[int, int, int]],
    folder: Path,
    name: str,
    progress: Progress,
    warn: Warn,
) -> dict[str, Kept]:
    """Predictions of a run's held-out cases."""
    predictor = predictor_for(model, config)
    settings = {
        "weights_sha256": weights_identity(model),
        "dataset": dataset.identity,
        "normalisation": config.data.normalisation,
        "tile": list(config.tile),
        "inference": config.inference.model_dump(mode="json"),
        "engine": predictor.engine_name,
        "precision": predictor.precision.name,
    }
    predictions = PredictionFolder(folder, settings, shapes, warn)
    for case_id in [case_id for case_id in shapes if case_id not in predictions.kept]:
        told = _named(progress, f"{name}: {case_id}")
        predictions.add(case_id, predict_case(predictor, dataset, case_id, config.data.normalisation, told))
    return {case_id: predictions.kept[case_id] for case_id in shapes}


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, of: progress(name, done, of)

"""A run, opened once: checkpoints, configuration, data set, folds; read when first asked for, then handed on.

Every checkpoint names its data set and the volumes that the run held out. Whatever became of folders and folds files
since, nothing is scored on volumes that the run was trained on without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volumen.config.compare import diff_configs
from volumen.config.load import override_config
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import Fold, Folds, load_folds
from volumen.errors import UserError
from volumen.models import build_model
from volumen.models.shapes import difference, tensors_of, without_pretraining
from volumen.runs.checkpoints import BEST, BEST_LOSS
from volumen.runs.folder import open_run
from volumen.runs.saved import TrainedOn, checked_state, load_weights
from volumen.system.output import note_once

OVERRIDABLE = ("inference", "postprocessing", "device", "precision")
WHICH = ("best", "best_loss", "last", "plain", "average", "swa")


@dataclass(frozen=True)
class Trained:
    """A run's network, ready to predict."""

    model: nn.Module
    config: Config
    """As it was trained, with overrides of prediction."""
    data: TrainedOn

    @property
    def fold(self) -> Fold:
        """What the run was trained on and what it held out, by its own word."""
        return Fold(self.data.train, self.data.validation)

    def overridden(self, overrides: Sequence[str], source: object) -> "Trained":
        """The same with other settings of prediction; see `override_prediction`."""
        return replace(self, config=override_prediction(self.config, overrides, f"of {source}"))


@dataclass
class DataSets:
    """Prepared data sets and folds files that a command looks at, each opened once."""

    _datasets: dict[Path, PreparedDataset] = field(default_factory=dict)
    _folds: dict[tuple[str | None, Path], Folds] = field(default_factory=dict)

    def dataset(self, place: Path) -> PreparedDataset:
        """As `PreparedDataset.open`."""
        key = place.resolve()
        if key not in self._datasets:
            self._datasets[key] = PreparedDataset.open(place)
        return self._datasets[key]

    def folds(self, file: str | None, dataset: PreparedDataset) -> Folds:
        """As `load_folds`."""
        key = (file, dataset.root)
        if key not in self._folds:
            self._folds[key] = load_folds(file, dataset)
        return self._folds[key]


class Run:
    """A run folder, for reading.

    Args:
        path: The folder.
        place: Where its data set is, if it has moved since the training.
        opened: Shared by the runs of one command, which mostly have one data set.
    """

    def __init__(self, path: Path, place: Path | None = None, opened: DataSets | None = None) -> None:
        self.path, self._place, self._opened = path, place, opened or DataSets()
        self._trained: dict[str, Trained] = {}

    def trained(self, which: str = BEST) -> Trained:
        """A network of the run.

        Args:
            which: `best` (by the selection metric), `best_loss` (by the validation loss) and `last` give the weights
                that were validated then: the moving average where the run keeps one. `plain`, `average` and `swa` give
                those weights of the last checkpoint.

        Raises:
            UserError: No run folder, no such checkpoint, or no such weights.
        """
        if which not in self._trained:
            self._trained[which] = self._network(which, self._state(which))
        return self._trained[which]

    def networks(self, kinds: Sequence[str] = WHICH) -> dict[str, Trained | UserError]:
        """Several kinds of weights, or why they are not there; each checkpoint is read once."""
        found, state = dict[str, Trained | UserError](), cache(self._state)
        for which in kinds:
            try:
                found[which] = self._network(which, state("last" if which in WHICH[2:] else which))
            except UserError as error:
                found[which] = error
        return found

    def _state(self, which: str) -> dict[str, Any]:
        """The checkpoint that holds these weights."""
        if which not in WHICH:
            raise UserError(f"there is no checkpoint {which!r}: choose one of {', '.join(WHICH)}")
        store, warnings = open_run(self.path).checkpoints, list[str]()
        if which in (BEST, BEST_LOSS):
            return store.load_best(warnings.append, which)
        state = store.load_latest(warnings.append)
        skipped = [warning for warning in warnings if "trying the one before" in warning]
        if skipped:
            raise UserError("; ".join(skipped) + ": name `--which best` or train again")
        return state

    def _network(self, which: str, state: dict[str, Any]) -> Trained:
        name = f"{self.path}/checkpoints"
        config, data = checked_state(state, name)
        if config.inference.empty == "auto" and data.empty is not None:
            inference = config.inference.model_copy(update={"empty": data.empty or "none"})
            config = config.model_copy(update={"inference": inference})
        weights = state["model"]
        found = {key: (tuple(one.shape), one.dtype) for key, one in weights.items() if isinstance(one, Tensor)}
        differing = difference(tensors_of(config.model, len(found)), found)
        if differing:  # before a network is built that the file does not hold
            raise UserError(
                f"{name} is a checkpoint of another model: {differing}; use the configuration it was made with"
            )
        model = build_model(without_pretraining(config.model))
        load_weights(model, weights, name)
        chosen = state["validated_weights"] if which in (BEST, BEST_LOSS, "last") else which
        if chosen != "plain":
            average = state.get(chosen)
            if not isinstance(average, dict) or not average.get("count"):
                raise UserError(f"{self.path} keeps no {chosen} weights: use --which best, last or plain")
            load_weights(model, {**weights, **average["weights"], **average["buffers"]}, name)
        return Trained(model.eval(), on_this_machine(config), data)

    def dataset(self, trained: Trained) -> PreparedDataset:
        """The prepared data set that a network of the run was trained on.

        Raises:
            UserError: It is not there, or another one is.
        """
        place = self._place or Path(trained.config.data.dataset)
        if self._place is None and not place.exists():
            raise UserError(
                f"{place}, the data set that {self.path} was trained on, is gone: name its new place with --dataset"
            )
        prepared = self._opened.dataset(place)
        if prepared.identity != trained.data.dataset:
            raise UserError(
                f"{prepared.root} is not the data set that {self.path} was trained on (identity "
                f"{prepared.identity[:12]}, the run's is {trained.data.dataset[:12]}): its images, labels or "
                "statistics are others; put the data set back, name the right one with --dataset, or predict the "
                "volumes and `volumen score` the masks"
            )
        return prepared

    def labels(self, trained: Trained) -> dict[str, object]:
        """Meanings of the labels that a network was trained on; empty where its data set is not there any more.

        Raises:
            UserError: The data set is not at the place that was named, or is damaged.
        """
        if self._place is not None:
            return self.dataset(trained).meanings.to_json()
        place = Path(trained.config.data.dataset)
        dataset = self._opened.dataset(place) if place.exists() else None
        if dataset is None or dataset.identity != trained.data.dataset:
            return {}
        return dataset.meanings.to_json()

    def folds(self, trained: Trained) -> Folds:
        """The folds file of the run as it is now.

        Raises:
            UserError: It is gone, damaged, or of another data set.
        """
        return self._opened.folds(trained.config.data.folds, self.dataset(trained))

    def changed_folds(self, trained: Trained) -> tuple[str, ...]:
        """A sentence where the folds file does not say what the run was trained on any more."""
        try:
            now = self.folds(trained).fold(trained.data.fold)
        except UserError as error:
            return (f"The run's folds are not at hand ({error}); the volumes are those that the run itself names.",)
        if now == trained.fold:
            return ()
        return (
            f"The folds file divides otherwise since the run was trained: fold {trained.data.fold} holds out "
            f"{', '.join(now.validation)} now; the run held out {', '.join(trained.data.validation)}.",
        )


def load_for_inference(run: Path, which: str = BEST, overrides: Sequence[str] = ()) -> tuple[nn.Module, Config]:
    """Network and configuration of a run; see `Run.trained` and `override_prediction`."""
    trained = Run(run).trained(which).overridden(overrides, run)
    return trained.model, trained.config


def on_this_machine(config: Config) -> Config:
    """A trained configuration without what this machine lacks: weights of a card predict on a processor as well."""
    if (config.device != "cuda" and config.precision != "fp16") or torch.cuda.is_available():
        return config
    note_once("trained on a card, and this machine has none: it is computed on the processor")
    precision = "auto" if config.precision == "fp16" else config.precision
    return config.model_copy(update={"device": "auto", "precision": precision})


def override_prediction(config: Config, overrides: Sequence[str], source: str) -> Config:
    """A trained configuration with other settings of prediction, and of nothing else.

    Args:
        config: As it was trained.
        overrides: `key=value` for keys of `inference`, `postprocessing`, `device` and `precision`.
        source: What to call the configuration in errors.

    Raises:
        UserError: An override that cannot be read, or one of what was trained.
    """
    if not overrides:
        return config
    changed = override_config(config, overrides, source).config
    keys = [each.key for each in diff_configs(config, changed)]
    fixed = [key for key in keys if key.split(".")[0] not in OVERRIDABLE]
    if fixed:
        raise UserError(
            f"{', '.join(fixed)} cannot change after training: override keys of {', '.join(OVERRIDABLE)} only"
        )
    return changed

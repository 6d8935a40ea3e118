"""What a training begins with: data set, fold, and weights of another run or of a bundle (`model.initial_weights`)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from volumen.config.model import Model
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import Fold, Folds, load_folds
from volumen.errors import UserError
from volumen.inference.bundle import read_bundle
from volumen.inference.predictor import weights_identity
from volumen.models.shapes import difference, tensors_of
from volumen.runs.run import Run
from volumen.runs.saved import TrainedOn
from volumen.system.output import counted

_MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class InitialWeights:
    """Weights, where they are from, and what they have learned from."""

    weights: dict[str, Tensor]
    source: str
    sha256: str
    trained_on: TrainedOn | None
    """None where the source does not say, as bundles do not."""

    @property
    def seen(self) -> tuple[str, ...]:
        """Ids of all cases that are known to have shaped them."""
        known = self.trained_on
        return () if known is None else tuple(sorted({*known.train, *known.before}))

    @property
    def record(self) -> dict[str, Any]:
        """What a run writes down of them."""
        return {"source": self.source, "sha256": self.sha256, "learned_from": list(self.seen)}


def initial_weights(config: Model) -> InitialWeights | None:
    """The weights that a run begins with: a bundle's, or a run's best; None where they are drawn by its seed.

    Raises:
        UserError: Neither a run nor a bundle of one network, a damaged one, or weights of another network; names the
            first layers that differ.
    """
    source = config.initial_weights
    if source is None:
        return None
    place = Path(source)
    if not place.exists():
        raise UserError(f"model.initial_weights: there is no {place}: give a run folder or a bundle")
    model, trained_on = _network(place)
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}
    differing = difference(tensors_of(config), found, _MOST_DIFFERENCES)
    if differing:
        raise UserError(
            f"model.initial_weights: {place} is another network than the configuration's model: {differing}; use the "
            "model settings that it was trained with, or leave initial_weights out"
        )
    return InitialWeights(dict(model.state_dict()), source, weights_identity(model), trained_on)


def _network(place: Path) -> tuple[nn.Module, TrainedOn | None]:
    if place.is_dir():
        trained = Run(place).trained()
        return trained.model, trained.data
    bundle = read_bundle(place)
    if len(bundle.members) != 1:
        raise UserError(
            f"model.initial_weights: {place} holds {counted(len(bundle.members), 'network')}, a training begins "
            "with one: give "
            "a run folder, or a bundle of one run"
        )
    return bundle.model(), None


@dataclass(frozen=True)
class Materials:
    """What a run is made from, opened when first asked for, and once for its audit and the training itself."""

    config: Config

    @cached_property
    def dataset(self) -> PreparedDataset:
        """The prepared data set."""
        return PreparedDataset.open(Path(self.config.data.dataset))

    @cached_property
    def division(self) -> Folds:
        """All folds of the data set."""
        return load_folds(self.config.data.folds, self.dataset)

    @cached_property
    def fold(self) -> Fold:
        """Case ids that the run learns from, and that it holds out."""
        return self.division.fold(self.config.data.fold)

    @cached_property
    def initial(self) -> InitialWeights | None:
        """As `initial_weights`."""
        return initial_weights(self.config.model)

"""What a run is built of, as the audit takes it: replaced where somebody audits code of their own."""

from collections.abc import Callable
from dataclasses import dataclass

from volumen.config.loss import Loss
from volumen.inference.tiles import Tiles, Triple, plan_tiles
from volumen.losses import CompositeLoss
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState, fresh_state


@dataclass(frozen=True)
class Parts:
    """The makers of a run's parts; the defaults are those that `volumen train` and `volumen predict` use."""

    objective: Callable[[Loss, int], CompositeLoss] = build_objective
    """The composite loss of an epoch."""
    state: Callable[..., TrainingState] = fresh_state
    """Model, optimiser, rate and averages before the first step; the arguments of `fresh_state`."""
    tiles: Callable[[Triple, Triple, float], Tiles] = plan_tiles
    """The tiles of a volume: shape, tile, overlap."""

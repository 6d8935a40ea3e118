"""How often a run validates: as configured, or more rarely where that would take too much of its time on a card.

The interval is lengthened only, from one validation to the next, and is part of the run's state. Patience, plateaus and
degradation count validations, so they wait longer: at least `FEWEST` validations stay, and twice the longest patience.
A run that is repaired by tournaments keeps its interval, since a tournament's trials are as long.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from volumen.config.optimisation import Plateau, Tournament
from volumen.config.schema import Config
from volumen.training.distributed import ALONE, World

SHARE = 0.05
"""Of the training time, what validations may take."""
FEWEST = 5
"""Validations that are left to a run, however long they take."""
PACED = ("cuda",)
"""Kinds of devices on which the interval is lengthened."""
EVENT = "validation_interval"


@dataclass
class Pace:
    """Epochs between validations; plain numbers, saved with the checkpoint."""

    every: int
    since: int = 0
    """Epochs that were done when it was last changed."""
    may_grow: bool = False
    """Nobody set the interval by name."""

    def is_due(self, epoch: int) -> bool:
        """Whether an epoch (from 0) ends with a validation."""
        return (epoch + 1 - self.since) % self.every == 0


def pace_of(state: Mapping[str, Any], config: Config) -> Pace:
    """The pace in a checkpoint; the configured one in one that knows none."""
    saved = state.get("pace")
    return Pace(**saved) if isinstance(saved, dict) else Pace(config.training.validate_every_epochs)


def saved_pace(pace: Pace, config: Config) -> dict[str, Any]:
    """What a checkpoint holds of it: nothing where it is the configured one for good."""
    return {} if pace == Pace(config.training.validate_every_epochs) else {"pace": asdict(pace)}


def longer_interval(
    every: int, *, validation_seconds: float, epoch_seconds: float, epochs_left: int, fewest: int
) -> int:
    """The interval at which validations take at most `SHARE` of the training time; never shorter than it was.

    Args:
        every: Epochs from one validation to the next.
        validation_seconds: Of one.
        epoch_seconds: Of an epoch's training steps.
        epochs_left: Of the run.
        fewest: Validations that have to fit into them.
    """
    if validation_seconds <= SHARE * every * epoch_seconds:
        return every
    wanted = math.ceil(validation_seconds / max(SHARE * epoch_seconds, 1e-9))
    return max(every, min(wanted, epochs_left // fewest))


def fewest_validations(config: Config) -> int:
    """How many validations what is left of a run has to hold."""
    stopping = config.training.early_stopping
    patience = max(
        0 if stopping is None else stopping.patience,
        config.schedule.patience if isinstance(config.schedule, Plateau) else 0,
    )
    return max(FEWEST, 2 * patience)


def lengthen(
    pace: Pace,
    config: Config,
    device: torch.device,
    tell: Callable[[dict[str, Any]], None],
    *,
    validation_seconds: float,
    epoch_seconds: float,
    epochs_done: int,
    epochs_left: int,
    world: World = ALONE,
) -> None:
    """After a validation, validate more rarely from now on if it took too long; a change is an event.

    Args:
        pace: Changed in place.
        config: The run.
        device: Where the run trains.
        tell: Is told the event.
        validation_seconds: Of this validation.
        epoch_seconds: Of the training steps of the epoch before it.
        epochs_done: Of the run.
        epochs_left: Of the run.
        world: The ranks, for which rank 0's seconds count.
    """
    if not pace.may_grow or device.type not in PACED or isinstance(config.training.intervention, Tournament):
        return
    before, own = pace.every, (validation_seconds, epoch_seconds)
    validation_seconds, epoch_seconds = world.from_first(lambda: own)
    pace.every = longer_interval(
        before,
        validation_seconds=validation_seconds,
        epoch_seconds=epoch_seconds,
        epochs_left=epochs_left,
        fewest=fewest_validations(config),
    )
    if pace.every != before:
        pace.since = epochs_done
        seconds = {"validation_seconds": round(validation_seconds, 3), "epoch_seconds": round(epoch_seconds, 3)}
        share = validation_seconds / max(pace.every * epoch_seconds, 1e-9)
        tell({"kind": EVENT, "before": before, "every_epochs": pace.every, **seconds, "share": round(share, 4)})

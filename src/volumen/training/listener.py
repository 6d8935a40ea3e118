"""Whoever shows a run while it goes on, and what is told about how it ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from volumen.config.schema import Config
from volumen.training.state import TrainingState
from volumen.training.step import StepResult
from volumen.training.validate import Validation


class Listener(Protocol):
    """Whoever shows a run while it goes on."""

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """The run is about to begin; `facts` are device, precision, parameters, cases, steps an epoch."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """A step is done."""

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """`done` of `of` validation volumes are scored."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """An epoch is done and recorded."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """`done` of `of` steps of a tournament's branch are made; none of them is a step of the run."""

    def event(self, event: dict[str, Any]) -> None:
        """Something out of the ordinary was done or seen."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `early_stopping`, `out_of_time`, `stopped` (by a signal; go on with --resume), or
    `sick` (a fault of data, labels or configuration was seen; `reason` says it)."""

    state: str
    epochs: int
    best_metric: float
    best_epoch: int
    reason: str = ""

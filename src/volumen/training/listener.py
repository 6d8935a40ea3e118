"""Whoever shows a run while it goes on, and what is told about how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from volumen.config.schema import Config
from volumen.training.state import TrainingState
from volumen.training.step import StepResult
from volumen.training.validate import Validation


class Listener(Protocol):
    """Whoever shows a run while it goes on.

    Who acts on the run in `stepped` has an attribute `acts_between_steps` that is True: on a card, steps are told some
    steps later otherwise.
    """

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """The run is about to begin; `facts` are device, precision, parameters, cases, steps an epoch, the `step` that
        it begins after, and `warn`, by which a listener writes a warning into the run's events."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """A step is done and read; `state.cursor` is that after it, and all else may be some steps ahead on a card."""

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """`done` of `of` validation volumes are scored."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """An epoch is done and recorded."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """`done` of `of` steps of a tournament's branch are made; none of them is a step of the run."""

    def event(self, event: dict[str, Any]) -> None:
        """Something out of the ordinary was done or seen."""


class BaseListener:
    """Hears everything and does nothing about it."""

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """As `Listener` has it, like all below."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Nothing to do."""

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Nothing to do."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """Nothing to do."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Nothing to do."""

    def event(self, event: dict[str, Any]) -> None:
        """Nothing to do."""


class Listeners:
    """Several listeners as one; each hears everything, in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)
        self.acts_between_steps = any(getattr(each, "acts_between_steps", False) for each in self._listeners)

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Tell each, as all below do."""
        for each in self._listeners:
            each.started(run, config, facts)

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Tell each."""
        for each in self._listeners:
            each.stepped(state, result, steps_per_epoch)

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Tell each."""
        for each in self._listeners:
            each.validating(state, done, of)

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """Tell each."""
        for each in self._listeners:
            each.epoch_ended(state, record, validation)

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Tell each."""
        for each in self._listeners:
            each.trying(state, branch, done, of)

    def event(self, event: dict[str, Any]) -> None:
        """Tell each."""
        for each in self._listeners:
            each.event(event)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `early_stopping`, `out_of_time`, `stopped` (by a signal; go on with --resume), or
    `sick` (a fault of data, labels or configuration was seen; `reason` says it)."""

    state: str
    epochs: int
    best_metric: float
    best_epoch: int
    reason: str = ""

"""A time budget, turned into a number of steps, so that the schedule ends when the time does."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.inference.tiles import Triple, plan_tiles
from volumen.inference.views import views
from volumen.training.distributed import ALONE, World
from volumen.training.state import TrainingState

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `20m`, `2h` or `1.5d`.

    Raises:
        UserError: It is none.
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise UserError(f"{text!r} is not a duration: give a number above 0 and a unit, such as 90s, 20m, 2h or 1.5d")
    return seconds


FIRST_PLANS = (2, 5, 20, 80, 320)
"""Steps of a session's first epoch after which a time budget is looked at already."""
FORWARD_SHARE = 1 / 3
"""Of a training step's time, what a prediction of as many voxels takes."""


def guessed_validation(config: Config, volumes: Sequence[Triple], step_seconds: float) -> float:
    """Seconds of a validation of volumes of these shapes, before one was measured, from a step's without waiting."""
    tiles = sum(len(plan_tiles(shape, config.tile, config.inference.overlap)) for shape in volumes)
    seen = tiles * len(views(mirror=config.inference.mirror, rotate=config.inference.rotate)) * math.prod(config.tile)
    return FORWARD_SHARE * step_seconds * seen / (config.data.batch * math.prod(config.data.patch))


def affordable_steps(
    done: int,
    *,
    configured: int,
    seconds_left: float,
    step_seconds: float,
    validation_seconds: float,
    steps_per_validation: int,
) -> int:
    """The number of steps a run can have in all: at least `done`, at most `configured`.

    Args:
        done: Steps done.
        configured: The most steps the configuration wants.
        seconds_left: Of the budget; the last validation is paid from it first.
        step_seconds: What a step takes, waiting for its patches included.
        validation_seconds: What a validation takes.
        steps_per_validation: Steps between two validations.
    """
    each = step_seconds + validation_seconds / steps_per_validation
    return min(configured, done + max(int((seconds_left - validation_seconds) / each), 0))


class Planner:
    """Gives a run the number of steps that fits its length: the configured epochs, or its time budget.

    `planned_steps` and `budget_seconds` of the state are what is planned; `tell` is told the event of a change.
    """

    def __init__(
        self,
        state: TrainingState,
        volumes: Sequence[Triple],
        tell: Callable[[dict[str, Any]], None],
        world: World = ALONE,
    ) -> None:
        self._state, self._volumes, self._tell, self._world = state, volumes, tell, world
        self.validation_seconds: float | None = None
        """Of the last one; None before the first of a session."""
        self.begin_session()

    def begin_session(self) -> None:
        """Look at the time early in the epoch in which a run begins or is gone on with."""
        self._began, self._epoch = self._state.cursor.step, self._state.cursor.epoch

    @property
    def is_early(self) -> bool:
        """Whether the time is to be looked at within the epoch."""
        cursor = self._state.cursor
        return cursor.step - self._began in FIRST_PLANS and cursor.epoch == self._epoch

    def plan_anew(self, budget_seconds: float | None, run: object) -> None:
        """Give a run that is gone on with another length: a budget for all its sessions, or the configured epochs.

        Raises:
            UserError: That leaves nothing to do.
        """
        state = self._state
        before, state.budget_seconds, step = state.planned_steps, budget_seconds, state.cursor.step
        state.planned_steps = state.configured_steps
        self.replan(before)
        if state.planned_steps > step or (state.planned_steps == step and state.ended_epoch):
            return
        if budget_seconds is None or state.configured_steps <= step:
            raise UserError(
                f"{run} has done {state.cursor.epoch} epochs, training.epochs is {state.config.training.epochs}: give "
                "more by -o training.epochs=N"
            )
        raise UserError(
            f"{run} has taken {state.seconds:.0f} s, and a time budget of {budget_seconds:.0f} s for all sessions "
            "together leaves room for no step and its validation: give a larger --time-budget"
        )

    def replan(self, before: int | None = None) -> None:
        """Fit the number of steps to the time budget; a change from what was planned before is an event."""
        state = self._state
        before = state.planned_steps if before is None else before
        if state.budget_seconds is not None:  # by rank 0's clock
            state.planned_steps = self._world.from_first(self._affordable)
        if state.planned_steps != before:
            self._tell({"kind": "planned_steps", "before": before, "planned": state.planned_steps})

    def _affordable(self) -> int:
        state, validation = self._state, self.validation_seconds
        step_seconds, working_seconds = self._pace()
        if validation is None:
            validation = guessed_validation(state.config, self._volumes, working_seconds)
        return affordable_steps(
            state.cursor.step,
            configured=state.configured_steps,
            seconds_left=(state.budget_seconds or 0.0) - state.seconds,
            step_seconds=step_seconds,
            validation_seconds=validation,
            steps_per_validation=state.steps_per_epoch * state.pace.every,
        )

    def _pace(self) -> tuple[float, float]:
        """Seconds of a step in this epoch, with and without waiting; between two epochs, of all that was done."""
        totals = self._state.totals
        if totals.steps == 0:
            return ((self._state.seconds - self._state.repairs.seconds) / max(self._state.cursor.step, 1),) * 2
        return totals.seconds / totals.steps, (totals.seconds - totals.loader_seconds) / totals.steps

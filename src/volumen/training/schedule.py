"""The learning rate and its one owner.

Schedule, warm-up, stochastic weight averaging and interventions all want to set the learning rate; when several of them
write it, nobody can say afterwards why it had a value. Here `LearningRate` alone writes it, as a product

    rate = base * warm-up * schedule * scale

of which only `scale` (interventions) and the plateau's factor have a memory; both are in its state. What changes it
other than by the schedule's own course is returned as an event with its numbers.

However short a run is planned, its rate reaches the base and comes down again: warm-up takes at most a third of the
steps, and a first cosine at most the rest.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from volumen.config.optimisation import (
    Constant,
    CosineWarmRestarts,
    OneCycle,
    Plateau,
    Polynomial,
    Schedule,
    StochasticWeightAverage,
)

Event = dict[str, Any]


WARMUP_SHARE = 1 / 3
"""Of the planned steps, at most."""


def fitted_warmup(schedule: Schedule, planned_epochs: float, steps_per_epoch: int = 1) -> float:
    """Epochs of warm-up, in whole steps: the configured ones, or as many as the plan has room for."""
    wanted = 0.0 if isinstance(schedule, OneCycle) else float(schedule.warmup_epochs)
    return min(wanted, _whole(WARMUP_SHARE * planned_epochs, steps_per_epoch))


def _whole(epochs: float, steps_per_epoch: int) -> float:
    return math.floor(epochs * steps_per_epoch + 1e-9) / steps_per_epoch


def schedule_factor(schedule: Schedule, epoch: float, planned_epochs: float, steps_per_epoch: int = 1) -> float:
    """The share of the base rate that a schedule asks for, warm-up and plateau memory apart.

    `epoch` is what is done so far, fractional; polynomial and one-cycle schedules end with the planned epochs, and a
    highest point falls on a step.
    """
    if isinstance(schedule, Constant | Plateau | CosineWarmRestarts):
        return 1.0
    if isinstance(schedule, Polynomial):
        warmup = fitted_warmup(schedule, planned_epochs, steps_per_epoch)
        progress = min(max((epoch - warmup) / max(planned_epochs - warmup, 1e-9), 0.0), 1.0)
        return float((1.0 - progress) ** schedule.power)
    room = max(planned_epochs - 2 / steps_per_epoch, 0.0)  # a step comes after the highest one
    rising = _whole(min(schedule.rising_share * planned_epochs, room), steps_per_epoch) / planned_epochs
    return _one_cycle(schedule, rising, min(epoch / planned_epochs, 1.0))


def _one_cycle(schedule: OneCycle, rising: float, progress: float) -> float:
    start, end = 1.0 / schedule.start_divisor, 1.0 / schedule.start_divisor / schedule.end_divisor
    if progress < rising:
        return start + (1.0 - start) * _half_cosine(progress / rising)
    return 1.0 + (end - 1.0) * _half_cosine((progress - rising) / (1.0 - rising))


def _half_cosine(position: float) -> float:
    """0 at 0, 1 at 1, level at both ends."""
    return 0.5 - 0.5 * math.cos(math.pi * position)


def restart_position(
    schedule: CosineWarmRestarts, epoch: float, planned_epochs: float = math.inf, warmup: float = 0.0
) -> float:
    """Where in its current period a warm-restart schedule is, in [0, 1); the first one ends within the plan."""
    left = max(epoch - warmup, 0.0)
    period = min(float(schedule.period_epochs), planned_epochs - warmup)
    while left >= period:
        left -= period
        period *= schedule.period_factor
    return left / period


class LearningRate:
    """The only writer of an optimiser's learning rate; `swa` takes over from its start epoch on."""

    def __init__(
        self,
        optimiser: Optimizer,
        base: float,
        schedule: Schedule,
        swa: StochasticWeightAverage | None = None,
        steps_per_epoch: int = 1,
    ) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._optimiser = optimiser
        self._base = base
        self._schedule = schedule
        self._swa = swa
        self.scale = 1.0
        self._plateau_factor = 1.0
        self._plateau_best = math.inf
        self._plateau_bad = 0
        self.value = base

    def rate_at(self, epoch: float, planned_epochs: float) -> float:
        """The learning rate at a (fractional) epoch, without writing it."""
        if self._swa is not None and self._swa.learning_rate is not None and epoch >= self._swa.start_epoch:
            return self._swa.learning_rate * self.scale
        rate = self._base * schedule_factor(self._schedule, epoch, planned_epochs, self._steps_per_epoch)
        warmup = fitted_warmup(self._schedule, planned_epochs, self._steps_per_epoch)
        if isinstance(self._schedule, CosineWarmRestarts):
            span = self._base - self._schedule.minimum_rate
            rate = self._base - span * _half_cosine(restart_position(self._schedule, epoch, planned_epochs, warmup))
        if isinstance(self._schedule, Plateau):
            rate = max(rate * self._plateau_factor, min(self._schedule.minimum_rate, rate))
        rising = 1.0 if epoch >= warmup else max(epoch / warmup, 1e-3)
        return rate * rising * self.scale

    def apply(self, epoch: float, planned_epochs: float) -> float:
        """Write the rate for the coming step into the optimiser and return it."""
        self.value = self.rate_at(epoch, planned_epochs)
        for group in self._optimiser.param_groups:
            group["lr"] = self.value
        return self.value

    def after_validation(self, total: float) -> Event | None:
        """Let a plateau schedule see the validation loss; the event tells of a reduction."""
        schedule = self._schedule
        if not isinstance(schedule, Plateau):
            return None
        if total < self._plateau_best - schedule.threshold * abs(self._plateau_best) or math.isinf(self._plateau_best):
            self._plateau_best, self._plateau_bad = total, 0
            return None
        self._plateau_bad += 1
        if self._plateau_bad <= schedule.patience:
            return None
        before, self._plateau_bad = self._plateau_factor, 0
        self._plateau_factor *= schedule.factor
        return {"kind": "rate_reduced", "cause": "plateau", "factor_before": before, "factor": self._plateau_factor}

    def forget_plateau(self) -> None:
        """Start the plateau's comparison anew, because the objective has changed and old totals mean nothing."""
        self._plateau_best, self._plateau_bad = math.inf, 0

    def follow(self, schedule: Schedule) -> None:
        """Another schedule from now on, as if it had been there from the start."""
        self._schedule, self._plateau_factor = schedule, 1.0
        self.forget_plateau()

    def own(self, optimiser: Optimizer, base: float) -> None:
        """Write another optimiser's rate from now on, with another base."""
        self._optimiser, self._base = optimiser, base

    def multiply(self, factor: float, cause: str) -> Event:
        """An intervention's change of the rate, from now to the end of the run."""
        before, self.scale = self.scale, self.scale * factor
        return {"kind": "rate_scaled", "cause": cause, "factor": factor, "scale_before": before, "scale": self.scale}

    def state_dict(self) -> dict[str, float | int]:
        """Everything the rate remembers."""
        return {
            "scale": self.scale,
            "plateau_factor": self._plateau_factor,
            "plateau_best": self._plateau_best,
            "plateau_bad": self._plateau_bad,
            "value": self.value,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.scale = float(state["scale"])
        self._plateau_factor = float(state["plateau_factor"])
        self._plateau_best = float(state["plateau_best"])
        self._plateau_bad = int(state["plateau_bad"])
        self.value = float(state["value"])

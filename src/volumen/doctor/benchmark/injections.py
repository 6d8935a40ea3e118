"""How a fault gets into a training: by its configuration, its data, or by what is done to it from a step on.

Nothing in the trainer knows of it. What changes the state comes with a listener, what changes the objective, the
samples or the metric replaces a function of the training's modules while one run lasts.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from volumen.data import sampling
from volumen.doctor.benchmark.corruptions import Corruption
from volumen.doctor.benchmark.setups import Values
from volumen.losses import CompositeLoss, LossBreakdown
from volumen.training import state as training_state
from volumen.training import validate
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState
from volumen.training.step import StepResult

Act = Callable[[TrainingState, torch.Generator], None]
Attach = Callable[[nn.Module], None]
Compute = Callable[..., LossBreakdown]
Alter = Callable[[Compute, Tensor, Tensor, Tensor], LossBreakdown]
"""From the objective, logits, target and valid to what is optimised instead."""
Measure = Callable[..., dict[str, float]]


@dataclass(frozen=True)
class Injection:
    """What a fault does; every part is optional."""

    values: Values = field(default_factory=dict)
    """Of the configuration."""
    corruption: tuple[Corruption, float] | None = None
    """Of training and validation volumes."""
    training_volumes: int | None = None
    """Fewer of them than the set-up has."""
    leaks: bool = False
    """Validation repeats the training volumes."""
    once: Act | None = None
    """To the state, at the onset."""
    every: Act | None = None
    """To the state, after each step from the onset on."""
    alter: Alter | None = None
    """The objective, from the onset on, in training and validation."""
    attach: Attach | None = None
    """To the network at the onset; a part of the network, so whoever uses it has it too."""
    feed: Attach | None = None
    """To the network at the onset; a fault of the way to it, which whoever uses the network does not have."""
    measure: Callable[[Measure], Measure] | None = None
    """The metrics of a validated volume."""
    sample_seconds: float = 0.0
    """What every sample takes longer."""
    is_late: bool = False
    """Whether it has an onset other than the start."""


class Injector:
    """A listener that brings a fault in at its onset, and writes the steps down that nobody else does."""

    acts_between_steps = True

    def __init__(self, injection: Injection, onset: float, seed: int) -> None:
        self.injection, self.onset = injection, onset
        self.random = torch.Generator().manual_seed(seed)
        self.began: tuple[int, int] | None = None
        """Step and epoch at which the fault came in; None before."""
        self.planned = 0
        if onset == 0:
            self.began = (0, 0)

    @property
    def is_in(self) -> bool:
        """Whether the fault has come in."""
        return self.began is not None

    def started(self, path: object, config: object, facts: Mapping[str, Any]) -> None:
        """Nothing to do before the first step."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Bring the fault in when its time has come."""
        self.planned = state.planned_steps
        done = state.cursor.step
        if done == max(1, round(self.onset * state.planned_steps)):
            if self.began is None:
                self.began = (done, state.cursor.epoch)
            self._begin(state)
        if self.is_in and self.injection.every is not None:
            self.injection.every(state, self.random)

    def _begin(self, state: TrainingState) -> None:
        for attach in (self.injection.attach, self.injection.feed):
            if attach is not None:
                attach(state.model)
        if self.injection.once is not None:
            self.injection.once(state, self.random)

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Nothing to do."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Nothing to do."""

    def epoch_ended(self, state: TrainingState, record: Mapping[str, Any], validation: object) -> None:
        """Nothing to do."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Nothing to do."""


class _Altered(CompositeLoss):
    """An objective that computes something else once the fault is in."""

    def __init__(self, objective: CompositeLoss, alter: Alter, injector: Injector) -> None:
        self.terms = objective.terms
        self._objective, self._alter, self._injector = objective, alter, injector

    def __call__(self, logits: Any, target: Tensor, valid: Tensor, **precomputed: Any) -> LossBreakdown:
        if not self._injector.is_in:
            return self._objective(logits, target, valid, **precomputed)
        return self._alter(self._objective, logits, target, valid)


@contextmanager
def injected(injector: Injector) -> Iterator[None]:
    """A context in which trainings have the fault's objective, samples and metric."""
    injection = injector.injection
    with mock.patch.multiple(training_state, build_objective=_building(injection, injector)):
        measured = validate.mask_metrics if injection.measure is None else injection.measure(validate.mask_metrics)
        with mock.patch.object(validate, "mask_metrics", measured):
            make = sampling.PatchDataset.__getitem__

            def slow(patches: sampling.PatchDataset, key: int) -> sampling.Sample:
                time.sleep(injection.sample_seconds)
                return make(patches, key)

            if not injection.sample_seconds:
                yield
                return
            with mock.patch.object(sampling.PatchDataset, "__getitem__", slow):
                yield


def _building(injection: Injection, injector: Injector) -> Callable[..., CompositeLoss]:
    alter = injection.alter
    if alter is None:
        return build_objective
    return lambda *arguments: _Altered(build_objective(*arguments), alter, injector)

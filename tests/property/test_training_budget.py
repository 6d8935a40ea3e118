"""Whatever the budget, the cost of a step and the schedule: the rate reaches its peak and comes down again."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.config.optimisation import CosineWarmRestarts, OneCycle, Polynomial
from volumen.errors import UserError
from volumen.training.budget import Planner, guessed_validation
from volumen.training.pacing import Pace
from volumen.training.schedule import LearningRate, fitted_warmup
from volumen.training.state import TrainingState
from volumen.training.totals import EpochTotals

BASE = 0.1
PATCH = (32, 32, 32)


def a_state(epochs: int, per_epoch: int, budget: float | None, every: int = 1) -> Any:
    """What a planner looks at of a run's state."""
    config = SimpleNamespace(
        training=SimpleNamespace(epochs=epochs, validate_every_epochs=every),
        data=SimpleNamespace(batch=2, patch=PATCH),
        inference=SimpleNamespace(overlap=0.0, mirror=False, rotate=False),
        tile=PATCH,
    )
    cursor = SimpleNamespace(step=0, epoch=0, batch=0)

    class State(SimpleNamespace):
        configured_steps = TrainingState.configured_steps
        planned_epochs = TrainingState.planned_epochs

    return State(config=config, cursor=cursor, totals=EpochTotals(), seconds=0.0, budget_seconds=budget,
                 planned_steps=epochs * per_epoch, steps_per_epoch=per_epoch, ended_epoch=False,
                 repairs=SimpleNamespace(seconds=0.0),
                 pace=Pace(config.training.validate_every_epochs))  # fmt: skip


def go_on(
    state: Any, planner: Planner, step_seconds: float, validation_seconds: float, rate: LearningRate
) -> list[float]:
    """The rates of the steps until the planned end, by a clock of its own, in the order of `volumen.training.loop`."""
    rates, per_epoch = [], state.steps_per_epoch
    while state.cursor.step < state.planned_steps:
        while state.cursor.step < state.planned_steps and state.cursor.batch < per_epoch:
            rates.append(rate.rate_at(state.cursor.step / per_epoch, state.planned_steps / per_epoch))
            state.cursor.step, state.cursor.batch = state.cursor.step + 1, state.cursor.batch + 1
            state.totals.steps += 1
            state.totals.seconds += step_seconds
            state.seconds += step_seconds
            if planner.is_early:
                planner.replan()
        if state.cursor.step < state.planned_steps:
            planner.replan()
        state.cursor.epoch, state.cursor.batch, state.totals = state.cursor.epoch + 1, 0, EpochTotals()
        planner.validation_seconds = validation_seconds
        state.seconds += validation_seconds
    return rates


def rate_of(schedule: Any, per_epoch: int) -> LearningRate:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return LearningRate(optimiser, BASE, schedule, None, per_epoch)


SCHEDULES = st.one_of(
    st.builds(Polynomial, warmup_epochs=st.integers(0, 30)),
    st.builds(CosineWarmRestarts, warmup_epochs=st.integers(0, 30), period_epochs=st.integers(1, 50)),
    st.builds(OneCycle, rising_share=st.floats(0.05, 0.9)),
)


def rises_and_falls(rates: list[float], least: float = 1.0) -> None:
    """A run of three steps or more has its peak at a step, and comes down from it."""
    assert least * BASE <= max(rates) <= BASE * (1 + 1e-9)
    assert min(rates[rates.index(max(rates)) :]) < 0.9 * BASE


@settings(deadline=None, max_examples=200)
@given(SCHEDULES, st.integers(1, 60), st.integers(1, 40))
def test_every_plan_rises_and_falls(schedule, epochs, per_epoch) -> None:
    rate, steps = rate_of(schedule, per_epoch), epochs * per_epoch
    rates = [rate.rate_at(step / per_epoch, epochs) for step in range(steps)]
    if steps >= 3:
        rises_and_falls(rates)
    assert fitted_warmup(schedule, epochs, per_epoch) <= epochs / 3


@settings(deadline=None, max_examples=200)
@given(SCHEDULES, st.integers(1, 200), st.integers(5, 200), st.floats(0.05, 5.0), st.floats(6.0, 300.0))
def test_a_budget_is_kept_and_its_rate_rises_and_falls(schedule, epochs, per_epoch, step_seconds, steps) -> None:
    """Of even cost; a plan that is made anew may step over the very peak, and be late by one validation."""
    state = a_state(epochs, per_epoch, 0.0)
    volumes = [(64, 64, 64)]
    validation = guessed_validation(state.config, volumes, step_seconds)
    state.budget_seconds = validation + steps * step_seconds
    planner = Planner(state, volumes, lambda event: None)
    rates = go_on(state, planner, step_seconds, validation, rate_of(schedule, per_epoch))
    assert state.seconds <= state.budget_seconds + step_seconds + validation
    if len(rates) >= 6:
        rises_and_falls(rates, 0.7)
    assert len(rates) >= min(5, epochs * per_epoch, math.floor(steps / (1 + validation / step_seconds)))


def test_a_warmup_longer_than_the_budget_takes_a_third_of_it() -> None:
    """16 steps of a warm-up of 20: the rate came to 0.8 of the peak and the run was over."""
    state = a_state(200, 20, 17.5)
    rates = go_on(
        state, Planner(state, [(32, 32, 32)], lambda event: None), 1.0, 1.0, rate_of(Polynomial(warmup_epochs=1), 20)
    )
    assert 15 <= len(rates) <= 17
    assert rates.index(max(rates)) == 5
    rises_and_falls(rates)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(2, 20), st.floats(0.2, 0.8), st.integers(1, 30), st.booleans())
def test_a_longer_resume_goes_on_to_its_own_end(epochs, per_epoch, share, more, by_budget) -> None:
    total = epochs * per_epoch
    state = a_state(epochs, per_epoch, None)
    planner, rate = Planner(state, [PATCH], lambda event: None), rate_of(Polynomial(), per_epoch)
    if by_budget:
        state.budget_seconds = share * total + 1.0
    first = go_on(state, planner, 1.0, 0.1, rate)
    before = len(first)
    if by_budget:
        planner = Planner(state, [PATCH], lambda event: None)
        planner.plan_anew(None, "run") if state.configured_steps > state.cursor.step else None
    else:
        state.config.training.epochs += more
        planner.plan_anew(None, "run")
    cut = state.configured_steps
    rest = go_on(state, planner, 1.0, 0.1, rate)
    assert state.cursor.step == before + len(rest) == cut
    assert state.cursor.epoch == state.config.training.epochs == state.planned_epochs or not rest
    if len(rest) > 1:
        assert rest[-1] < rest[0]


def test_a_length_that_leaves_nothing_to_do_is_refused() -> None:
    events: list[dict[str, Any]] = []
    state = a_state(4, 5, None)
    planner = Planner(state, [PATCH], events.append)
    go_on(state, planner, 1.0, 1.0, rate_of(Polynomial(), 5))
    with pytest.raises(UserError, match=r"has done 4 epochs, training\.epochs is 4: give more"):
        planner.plan_anew(None, "run")
    state.config.training.epochs = 8
    with pytest.raises(UserError, match="has taken 24 s, and a time budget of 20 s"):
        planner.plan_anew(20.0, "run")
    assert state.cursor.step == 20

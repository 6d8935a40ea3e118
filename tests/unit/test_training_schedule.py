"""The learning rate: each schedule's known values, and that one object writes it."""

import math

import pytest
import torch

from volumen.config.optimisation import (
    Constant,
    CosineWarmRestarts,
    OneCycle,
    Plateau,
    Polynomial,
    StochasticWeightAverage,
)
from volumen.training.schedule import LearningRate, restart_position


def rate(schedule, swa=None, base=0.1):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=123.0)
    return LearningRate(optimiser, base, schedule, swa), optimiser


def test_apply_writes_the_optimiser():
    owner, optimiser = rate(Constant())
    assert owner.apply(3.0, 10) == 0.1
    assert optimiser.param_groups[0]["lr"] == 0.1


def test_polynomial_ends_at_zero_and_is_a_power_in_between():
    owner, _ = rate(Polynomial(power=0.9))
    assert owner.rate_at(0, 10) == 0.1
    assert owner.rate_at(5, 10) == pytest.approx(0.1 * 0.5**0.9)
    assert owner.rate_at(10, 10) == 0.0


def test_polynomial_counts_from_the_end_of_the_warmup():
    owner, _ = rate(Polynomial(power=1.0, warmup_epochs=2))
    assert owner.rate_at(1, 10) == pytest.approx(0.05)
    assert owner.rate_at(2, 10) == pytest.approx(0.1)
    assert owner.rate_at(6, 10) == pytest.approx(0.05)


def test_warm_restarts_follow_their_periods():
    schedule = CosineWarmRestarts(period_epochs=10, period_factor=2, minimum_rate=0.001)
    owner, _ = rate(schedule)
    assert [restart_position(schedule, epoch) for epoch in (0, 5, 10, 20, 30)] == [0, 0.5, 0, 0.5, 0]
    assert owner.rate_at(0, 300) == pytest.approx(0.1)
    assert owner.rate_at(5, 300) == pytest.approx((0.1 + 0.001) / 2)
    assert owner.rate_at(9.9999, 300) == pytest.approx(0.001, abs=1e-6)
    assert owner.rate_at(10, 300) == pytest.approx(0.1)


def test_warm_restarts_equal_torch():
    schedule = CosineWarmRestarts(period_epochs=3, period_factor=2, minimum_rate=0.01)
    owner, _ = rate(schedule)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=3, T_mult=2, eta_min=0.01)
    for epoch in range(20):
        assert owner.rate_at(epoch, 20) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        peer.step()


def test_one_cycle_rises_and_falls():
    owner, _ = rate(OneCycle(rising_share=0.3, start_divisor=25, end_divisor=100))
    assert owner.rate_at(0, 10) == pytest.approx(0.1 / 25)
    assert owner.rate_at(3, 10) == pytest.approx(0.1)
    assert owner.rate_at(10, 10) == pytest.approx(0.1 / 25 / 100)


def test_plateau_reduces_after_patience_only_and_says_so():
    owner, _ = rate(Plateau(patience=2, factor=0.5, threshold=0.01, minimum_rate=0.04))
    assert owner.after_validation(1.0) is None
    assert [owner.after_validation(0.995) for _ in range(2)] == [None, None]  # better by less than 1 %
    event = owner.after_validation(0.995)
    assert event is not None
    assert (event["factor_before"], event["factor"]) == (1.0, 0.5)
    assert owner.rate_at(1, 10) == pytest.approx(0.05)
    for _ in range(3):
        owner.after_validation(2.0)
    assert owner.rate_at(1, 10) == pytest.approx(0.04)


def test_swa_takes_over_and_interventions_multiply():
    owner, _ = rate(Polynomial(), StochasticWeightAverage(start_epoch=5, learning_rate=0.02))
    assert owner.rate_at(4, 10) > 0.02
    assert owner.rate_at(5, 10) == owner.rate_at(9, 10) == 0.02
    owner.multiply(3.0, "test")
    assert owner.rate_at(9, 10) == pytest.approx(0.06)


def test_state_survives_a_round_trip():
    owner, _ = rate(Plateau(patience=0))
    for total in (1.0, 2.0, 3.0):
        owner.after_validation(total)
    owner.multiply(2.0, "test")
    other, _ = rate(Plateau(patience=0))
    other.load_state_dict(owner.state_dict())
    assert other.state_dict() == owner.state_dict()
    assert other.rate_at(2, 10) == owner.rate_at(2, 10)


def test_forgotten_plateau_starts_anew():
    owner, _ = rate(Plateau(patience=0))
    owner.after_validation(1.0)
    owner.forget_plateau()
    assert owner.after_validation(5.0) is None
    assert owner.state_dict()["plateau_best"] == 5.0
    assert math.isfinite(owner.rate_at(0, 1))

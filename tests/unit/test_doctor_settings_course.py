"""The course of a run: usual ones are left in peace, those without room are named by the setting that takes it."""

from typing import Any, cast

import numpy as np
import pytest

from volumen.config.load import load_config
from volumen.doctor.context import Context
from volumen.doctor.settings.course import check_course, rates_of, steps_of

DATASET: Any = None


def context_of(*overrides: str) -> Context:
    return Context(load_config("preset:default", overrides).config, cast(Any, DATASET), (), ())


def named(*overrides: str) -> list[tuple[str, str]]:
    return [(found.code, found.where.split(" ")[0]) for found in check_course(context_of(*overrides))]


def usual(seed: int) -> tuple[str, ...]:
    """A run as people set them up."""
    random = np.random.default_rng(seed)
    epochs = int(random.integers(12, 1000))
    some = int(random.integers(1, max(2, epochs // 4)))
    schedule = (
        f"{{kind: polynomial, warmup_epochs: {some}, power: {random.uniform(0.5, 2):.2f}}}",
        f"{{kind: constant, warmup_epochs: {some}}}",
        f"{{kind: one_cycle, rising_share: {random.uniform(0.1, 0.5):.2f}}}",
        f"{{kind: cosine_warm_restarts, period_epochs: {max(2, epochs // 4)}, period_factor: {random.integers(1, 3)}}}",
        f"{{kind: plateau, patience: {random.integers(2, 9)}}}",
    )[random.integers(5)]
    more = (
        (),
        (f"training.swa={{start_epoch: {epochs * 3 // 4}}}",),
        (f"training.weight_noise={{start_epoch: 1, every_epochs: 3, std: {random.uniform(0.0005, 0.05):.4f}}}",),
        (f"training.early_stopping={{patience: {max(5, some)}, minimum_delta: {random.uniform(0, 0.003):.4f}}}",),
    )[random.integers(4)]
    every = int(random.integers(1, max(2, epochs // 6)))
    return (f"training.epochs={epochs}", f"training.validate_every_epochs={every}", f"schedule={schedule}", *more)


@pytest.mark.parametrize("seed", range(60))
def test_usual_courses_are_left_in_peace(seed) -> None:
    assert named(*usual(seed)) == []


def test_a_try_of_a_few_steps_is_left_in_peace() -> None:
    assert named("training.epochs=2", "data.sampling.patches_per_epoch=20", "training.weight_noise={std: 1.0}") == []


@pytest.mark.parametrize(
    ("overrides", "code", "key"),
    [
        (("schedule.warmup_epochs=100",), "P6", "schedule.warmup_epochs"),
        (("schedule={kind: cosine_warm_restarts, minimum_rate: 0.05}",), "P6", "schedule.minimum_rate"),
        (("schedule={kind: plateau, minimum_rate: 0.005}",), "P6", "schedule.minimum_rate"),
        (("schedule.power=10",), "P6", "schedule"),
        (("training.swa={start_epoch: 20, learning_rate: 1e-7}",), "P6", "training.swa.learning_rate"),
        (("training.swa={start_epoch: 150, learning_rate: 0.5}",), "P6", "training.swa.learning_rate"),
        (("training.swa={start_epoch: 199}",), "P6", "training.swa.start_epoch"),
        (("training.swa={start_epoch: 1}", "schedule.warmup_epochs=9"), "P6", "training.swa.start_epoch"),
        (("training.weight_noise={std: 1.0}",), "P6", "training.weight_noise.std"),
        (("training.validate_every_epochs=500",), "P6", "training.validate_every_epochs"),
        (
            ("training.degradation={rollback: true, catastrophic_share: 0.01}",),
            "P9", "training.degradation.catastrophic_share",
        ),
        (("training.degradation.epochs=1", "training.intervention={}"), "P9", "training.degradation.epochs"),
        (("training.early_stopping={patience: 1}",), "P9", "training.early_stopping.patience"),
        (
            ("training.early_stopping={patience: 3}", "schedule.warmup_epochs=30"),
            "P6", "training.early_stopping.patience",
        ),
        (
            ("training.early_stopping={patience: 9, minimum_delta: 0.5}",),
            "P9", "training.early_stopping.minimum_delta",
        ),
    ],
)  # fmt: skip
def test_what_has_no_room_is_named_and_nothing_else(overrides, code, key) -> None:
    assert named(*overrides) == [(code, key)]


def test_the_rates_are_those_of_every_step_where_there_are_few() -> None:
    config = context_of("training.epochs=3", "schedule={power: 1.0, warmup_epochs: 0}").config
    rates = rates_of(config)
    assert len(rates) == steps_of(config)
    np.testing.assert_allclose(rates, config.optimiser.learning_rate * (1 - np.arange(len(rates)) / len(rates)))

"""What a run makes of its validations: the plan's own numbers, and the laws behind them."""

import math

import numpy as np
import pytest

from volumen.config.optimisation import Degradation, EarlyStopping, PlanIntervention, Training
from volumen.errors import UserError
from volumen.training.budget import affordable_steps, parse_duration
from volumen.training.validate import _mean, mask_metrics
from volumen.training.watch import Watch, plan_multiplier, plan_scale


@pytest.mark.parametrize(
    ("formula", "plateau", "multiplier"),
    [
        ("standard", 1, 1.0),
        ("standard", 5, 2.2),
        ("aggressive", 1, 1.5),
        ("aggressive", 3, 3.2),
        ("aggressive", 5, 4.9),
        ("conservative", 3, 1.3),
        ("conservative", 5, 1.6),
    ],
)
def test_the_plans_multipliers(formula, plateau, multiplier):
    assert plan_multiplier(formula, plateau) == pytest.approx(multiplier)


def test_scale_grows_as_the_gradient_shrinks_and_is_capped():
    policy = PlanIntervention(formula="standard", maximum_gradient_factor=25, maximum_scale=60)
    assert plan_scale(policy, 1, gradient_norm=2.0) == 1.0
    assert plan_scale(policy, 1, gradient_norm=0.1) == pytest.approx(10.0)
    assert plan_scale(policy, 5, gradient_norm=0.04) == pytest.approx(2.2 * 25)
    assert plan_scale(policy, 9, gradient_norm=1e-9) == 60


def run(settings, totals, metrics=None):
    watch = Watch()
    verdicts = [
        watch.after_validation(settings, epoch, total, metric)
        for epoch, (total, metric) in enumerate(zip(totals, metrics or [0.5] * len(totals), strict=True))
    ]
    return watch, verdicts


def test_best_follows_the_metric_and_not_the_loss():
    _, verdicts = run(Training(), totals=[1.0, 0.5, 0.9], metrics=[0.3, 0.2, 0.4])
    assert [verdict.is_best for verdict in verdicts] == [True, False, True]
    assert [verdict.is_best_loss for verdict in verdicts] == [True, True, False]


def test_a_metric_without_a_value_is_the_best_only_until_there_is_one():
    watch, verdicts = run(Training(), totals=[1.0, 0.5, 0.9, 0.8], metrics=[math.nan, math.nan, 0.0, math.nan])
    assert [verdict.is_best for verdict in verdicts] == [True, False, True, False]
    assert (watch.best_metric, watch.best_epoch) == (0.0, 2)


def test_volumes_without_surface_raise_no_selection_metric():
    """A model that predicts nothing on three volumes, one of them without surface, has Dice 0 and not a third."""
    surface = np.zeros((8, 8, 8), np.uint8)
    surface[3] = 1
    labels = [surface, surface.T.copy(), np.zeros_like(surface)]
    nothing = _mean([mask_metrics(np.zeros_like(surface), label, full=False) for label in labels])
    perfect = _mean([mask_metrics(label, label, full=False) for label in labels])
    speck = [label | (np.arange(512).reshape(8, 8, 8) == 0) for label in labels]
    specks = _mean(
        [mask_metrics(mask.astype(np.uint8), label, full=False) for mask, label in zip(speck, labels, strict=True)]
    )
    assert (nothing["dice"], nothing["recall"], perfect["dice"]) == (0.0, 0.0, 1.0)
    assert math.isnan(nothing["precision"])
    assert 0.6 < specks["dice"] < 0.7  # what is found where there is nothing counts


def test_rollback_needs_the_catastrophic_share_and_the_switch():
    for rollback in (True, False):
        settings = Training(degradation=Degradation(catastrophic_share=0.15, rollback=rollback))
        _, verdicts = run(settings, totals=[1.0, 1.14, 1.16])
        assert [verdict.rollback for verdict in verdicts] == [False, False, rollback]


def test_negative_losses_degrade_upwards_too():
    settings = Training(degradation=Degradation(catastrophic_share=0.15, rollback=True))
    _, verdicts = run(settings, totals=[-1.0, -0.9, -0.8])
    assert [verdict.rollback for verdict in verdicts] == [False, False, True]


def test_intervention_after_three_degraded_epochs_and_at_most_so_many():
    settings = Training(degradation=Degradation(epochs=3), intervention=PlanIntervention(maximum_interventions=1))
    watch, verdicts = run(settings, totals=[1.0, 1.01, 1.02, 1.03])
    assert [verdict.intervene for verdict in verdicts] == [False, False, False, True]
    assert watch.note_intervention() == 1
    assert not any(watch.after_validation(settings, 4 + k, 1.05, 0.1).intervene for k in range(5))


def test_no_intervention_once_the_loss_is_well_below_its_start():
    settings = Training(intervention=PlanIntervention(enough_improvement=0.3))
    _, verdicts = run(settings, totals=[1.0, 0.6, 0.61, 0.62, 0.63])
    assert not any(verdict.intervene for verdict in verdicts)


def test_without_a_policy_nothing_intervenes():
    _, verdicts = run(Training(), totals=[1.0] + [1.1] * 10)
    assert not any(verdict.intervene for verdict in verdicts)


def test_early_stopping_counts_validations_without_real_improvement():
    settings = Training(early_stopping=EarlyStopping(patience=2, minimum_delta=0.1))
    _, verdicts = run(settings, totals=[1.0] * 5, metrics=[0.1, 0.3, 0.35, 0.39, 0.2])
    assert [verdict.stop for verdict in verdicts] == [False, False, False, True, True]


def test_a_new_objective_forgets_the_totals_and_keeps_the_best_metric():
    settings = Training(degradation=Degradation(rollback=True))
    watch, _ = run(settings, totals=[0.1, 0.2], metrics=[0.4, 0.3])
    watch.forget_totals()
    verdict = watch.after_validation(settings, 2, 5.0, 0.2)
    assert not verdict.rollback
    assert watch.best_metric == 0.4
    assert watch.first_total == 5.0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5d", 129600)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-3h", "0s", "inf h", "3 weeks", "nans"])
def test_no_durations(text):
    with pytest.raises(UserError, match="such as 90s, 20m"):
        parse_duration(text)


def test_steps_fit_the_budget():
    def steps(done, left, validation=0.0, configured=1000):
        return affordable_steps(
            done, configured=configured, seconds_left=left, step_seconds=2.0, validation_seconds=validation,
            steps_per_validation=10,
        )  # fmt: skip

    assert steps(20, left=100) == 70
    assert steps(20, left=100, configured=50) == 50
    assert steps(20, left=-5) == 20
    # 10 s for the last validation, then 10 steps and a validation every 30 s
    assert steps(20, left=100, validation=10.0) == 20 + 30

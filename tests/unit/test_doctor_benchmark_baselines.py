"""Other people's rules are silent where their descriptions say so, and speak where they say so."""

import math
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from volumen.doctor.benchmark import runmedic
from volumen.doctor.benchmark.baselines import BASELINES
from volumen.doctor.benchmark.examiners import examiners
from volumen.doctor.benchmark.tracks import Track

EPOCHS, STEPS = 12, 18
ENDS = tuple(STEPS * (number + 1) for number in range(EPOCHS))
FALLING = tuple(1.0 * 0.8**number for number in range(EPOCHS))
RISING = tuple(1 - 0.4 * 0.8**number for number in range(EPOCHS))
HEALTHY = Track(
    steps=ENDS, loss=FALLING, gradient=(1.0,) * EPOCHS, steepest=(2.0,) * EPOCHS, rate=(0.005,) * EPOCHS,
    true_share=(0.2,) * EPOCHS, predicted_share=(0.2,) * EPOCHS, validated=ENDS, validation_loss=FALLING,
    accuracy=RISING, dice=RISING, training_at_validation=FALLING, broken=None,
)  # fmt: skip


def names(baseline, **changes):
    return {alarm.name for alarm in BASELINES[baseline].rules(replace(HEALTHY, **changes))}


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_run_that_falls_all_the_way_is_healthy(baseline):
    assert names(baseline) == set()


@pytest.mark.parametrize("baseline", sorted(set(BASELINES) - {"early_stopping"}))
def test_numbers_that_are_not_finite_are_seen_by_all_who_look(baseline):
    (alarm,) = BASELINES[baseline].rules(replace(HEALTHY, broken=40))
    assert (alarm.step, alarm.cause) == (40, "non_finite")


def test_autotrainer():
    wild = tuple(0.7 - 0.1 * (-1) ** number for number in range(EPOCHS))
    assert names("autotrainer", accuracy=wild) == {"unstable"}
    assert names("autotrainer", accuracy=(0.8,) * EPOCHS) == {"slow_convergence"}
    assert names("autotrainer", accuracy=(0.5,) * EPOCHS) == {"slow_convergence", "vanishing_or_dying"}


def test_umlaut():
    assert names("umlaut", rate=(0.02,) * EPOCHS) == {"learning_rate_high"}
    assert names("umlaut", rate=(1e-8,) * EPOCHS) == {"learning_rate_low"}
    assert names("umlaut", accuracy=(0.99,) * EPOCHS) == {"validation_accuracy_high"}
    assert names("umlaut", validation_loss=tuple(reversed(FALLING))) == {"overfitting"}


def test_sagemaker():
    assert names("sagemaker", loss=(0.5,) * EPOCHS) >= {"LossNotDecreasing", "Overtraining"}
    assert names("sagemaker", gradient=(1e-9,) * EPOCHS) == {"VanishingGradient"}
    assert names("sagemaker", true_share=(0.05,) * EPOCHS) == {"ClassImbalance"}
    assert names("sagemaker", validation_loss=tuple(1.2 * one for one in FALLING)) == {"Overfit"}


def test_deeplocalize():
    assert names("deeplocalize", loss=(0.5,) * EPOCHS) == {"loss_not_decreasing"}
    assert names("deeplocalize", accuracy=tuple(reversed(RISING))) == {"accuracy_not_increasing"}


def test_early_stopping_alarms_where_it_would_have_stopped_too_early():
    stuck = (0.5,) + (0.6,) * (EPOCHS - 2) + (0.1,)
    assert names("early_stopping", validation_loss=stuck) == {"stopped", "stopped_before_best"}
    settled = (*RISING[:3], *[RISING[2]] * (EPOCHS - 3))
    assert names("early_stopping", validation_loss=(0.5,) * EPOCHS, dice=settled) == {"stopped"}


def test_missing_numbers_raise_no_alarm_of_their_own():
    nothing = dict.fromkeys(("accuracy", "dice", "true_share", "gradient", "rate"), (math.nan,) * EPOCHS)
    for baseline in BASELINES:
        assert names(baseline, **nothing) <= {"slow_convergence", "accuracy_not_increasing"}


@dataclass
class Seen:
    name: str
    source: str
    path: str
    points: dict = field(default_factory=dict)

    def get(self, name):
        return SimpleNamespace(add=lambda step, value: self.points.setdefault(name, []).append((step, value)))

    def finalize(self):
        return self


def test_runmedic_is_asked_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(runmedic, "has_runmedic", lambda: False)
    asked = []

    def run_checks(run, roles):
        asked.append(run.points)
        kinds = {"divergence": "critical", "val_below_train": "info"}
        return [SimpleNamespace(check=check, severity=kind, step=None) for check, kind in kinds.items()]

    series = {"train_loss": [(1, 0.5), (2, 0.4)], "learning_rate": [(2, 0.01)]}
    monkeypatch.setattr(runmedic, "_series", lambda run: series)
    for name, module in {
        "model": SimpleNamespace(Run=Seen),
        "roles": SimpleNamespace(detect=lambda run: {}),
        "checks": SimpleNamespace(run_checks=run_checks),
    }.items():
        monkeypatch.setitem(sys.modules, f"runmedic.{name}", module)
    monkeypatch.setitem(sys.modules, "runmedic", SimpleNamespace())
    verdict = runmedic.examine_with_runmedic(tmp_path)
    assert asked == [series]
    assert [(alarm.name, alarm.step, alarm.cause) for alarm in verdict.alarms] == [("divergence", 2, "rate_too_high")]


def test_every_examiner_is_in_the_table():
    assert {"monitors", *BASELINES} <= set(examiners())

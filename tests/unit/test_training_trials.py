"""What beats a control, and what may help against what."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config.intervention import RateScale, described
from volumen.monitors.sign import Sign
from volumen.training.remedies import BIASED, CAUSE, FAULTS, REMEDIES, Situation, fault_of, remedies_for
from volumen.training.repairs import Trial
from volumen.training.trials import judge, scatter

FINITE = st.floats(-1, 1, allow_nan=False)


@given(st.lists(FINITE, min_size=2, max_size=20), st.floats(0.1, 10))
def test_scatter_does_not_move_with_a_constant_and_scales_with_the_metric(history, factor):
    found = scatter(history, 1e-12)
    assert scatter([value + 3 for value in history], 1e-12) == pytest.approx(found, abs=1e-9)
    assert scatter([factor * value for value in history], 1e-12) == pytest.approx(factor * found, abs=1e-9)
    assert found <= 1.4826 / math.sqrt(2) * np.ptp(history) + 1e-12


def test_scatter_is_the_standard_deviation_of_normal_noise():
    random = np.random.default_rng(0)
    found = [scatter((0.5 + 0.01 * random.standard_normal(20)).tolist(), 1e-6) for _ in range(400)]
    assert np.median(found) == pytest.approx(0.01, rel=0.1)


def test_one_jump_is_no_noise_and_nothing_is_below_the_floor():
    assert scatter([0.5, 0.51, 0.1, 0.11, 0.12], 1e-6) == pytest.approx(1.4826 * 0.01 / math.sqrt(2))
    assert scatter([], 0.02) == scatter([0.4], 0.02) == scatter([0.4, math.nan, 0.4], 0.02) == 0.02


def trial(metric: float | None, cases: dict[str, float] | None = None, factor: float | None = 2.0, failed="") -> Trial:
    done = () if factor is None else (RateScale(factor=factor),)
    return Trial(interventions=done, metric=metric, cases=cases or {}, failed=failed)


@given(control=FINITE, gains=st.lists(FINITE, min_size=1, max_size=4), sigma=st.floats(1e-3, 1))
def test_only_more_than_twice_the_noise_wins(control, gains, sigma):
    trials = [trial(control, factor=None), *(trial(control + gain) for gain in gains)]
    judged = judge(trials, sigma)
    best = max(one.metric for one in trials[1:])
    assert (judged.winner != 0) == (best - control > 2 * sigma)
    if judged.winner:
        assert trials[judged.winner].metric == best


def test_the_difference_is_paired_over_volumes():
    control = trial(0.5, {"a": 0.2, "b": 0.5, "c": 0.8}, factor=None)
    even = trial(0.55, {"a": 0.25, "b": 0.55, "c": 0.85})
    assert judge([control, even], 0.01).winner == 1  # the volumes differ far more than the two runs
    uneven = trial(0.55, {"a": 0.0, "b": 0.5, "c": 1.15})
    assert judge([control, uneven], 0.01).winner == 0
    lacking = trial(0.9, {"a": 0.2, "b": 0.5})  # better only because a volume has no value
    assert judge([control, lacking], 0.01).winner == 0


@given(st.floats(0, 1), st.lists(st.floats(0.2, 2), min_size=2, max_size=4), st.floats(0.001, 0.2))
def test_where_the_metric_is_one_for_all_the_loss_decides_beyond_its_noise(metric, losses, sigma):
    trials = [
        Trial(interventions=() if number == 0 else (RateScale(factor=2.0),), metric=metric, loss=loss)
        for number, loss in enumerate(losses)
    ]
    winner = judge(trials, 0.01, sigma).winner
    least = min(range(len(losses)), key=losses.__getitem__)
    assert winner == (least if losses[0] - losses[least] > 2 * sigma else 0)
    assert judge(trials, 0.01).winner == 0
    other = [trials[0].model_copy(update={"metric": metric + 0.5}), *trials[1:]]
    assert judge(other, 0.01, sigma).winner == 0


def test_what_broke_down_does_not_win_and_loses_to_what_did_not():
    control, broken = trial(0.5, factor=None), trial(None, failed="the loss is not finite")
    assert judge([control, broken], 0.01).winner == 0
    assert judge([trial(None, factor=None, failed="not finite"), trial(0.1)], 0.01).winner == 1
    assert judge([trial(None, factor=None), trial(0.1)], 0.01).winner == 0  # without a value nothing can be told
    assert judge([trial(None, factor=None, failed="not finite"), broken], 0.01).winner == 0


NOW = Situation(12.0, {"soft_dice": 1.0, "variance": 5.0, "focal": 0.0})


def sign(name: str, severity: str = "warn", where: str = "", **numbers: float) -> Sign:
    return Sign("R", name, severity, name, 3, 9, where, numbers)


def offered(one: Sign, now: Situation = NOW) -> list[str]:
    found = remedies_for([one], now)
    return [] if found is None else [described(each) for each in found[1]]


def test_the_table():
    assert offered(sign("catastrophic")) == ["reload_best", "reload_best + rate_scale factor 0.3"]
    assert offered(sign("plateau", where="noise")) == ["rate_scale factor 0.3", "rate_scale factor 3"]
    assert offered(sign("plateau", where="converged")) == []
    assert offered(sign("update_too_small")) == ["rate_scale factor 10", "rate_scale factor 30"]
    stuck = "Dice gained nothing; the term variance has stayed at 0.563 since the start"
    assert offered(Sign("R4", "plateau", "warn", stuck, 3, 9, "term_floor")) == ["drop_term name variance"]
    assert offered(sign("update_too_large"))[0] == "reload_best + rate_scale factor 0.1"
    assert offered(sign("clipped")) == ["gradient_clip value 120"]
    assert offered(sign("clipped"), Situation(None, {})) == []
    assert offered(sign("frozen")) == offered(sign("no_gradient")) == ["unfreeze"]
    assert offered(sign("domination", where="variance")) == ["weight_term name variance weight 0.5"]
    assert offered(sign("conflict", where="soft_dice|variance"))[0] == "weight_term name variance weight 0.5"
    assert offered(sign("domination", where="focal")) == []


@pytest.mark.parametrize("one", [("schedule_exhausted", ""), ("rate_at_minimum", ""), ("plateau", "rate_exhausted")])
def test_a_rate_that_has_come_to_zero_is_not_only_multiplied(one):
    name, where = one
    first = offered(Sign("", name, "warn", "", 0, 0, where=where))[0]
    assert first.startswith("schedule to")
    assert "constant" in first


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_never_answered(name):
    assert name not in REMEDIES
    assert offered(sign(name)) == []
    assert fault_of([sign("plateau"), sign(name)]).name == name


def test_a_note_of_a_fault_ends_nothing():
    """Such as the change of objective that a curriculum makes."""
    assert fault_of([sign(name, "note") for name in sorted(FAULTS)]) is None


def test_a_warning_that_something_else_explains_ends_nothing():
    """A network that hardly moves ignores its image, and the data may be what they should be."""
    ignored = sign("input_ignored")
    assert fault_of([ignored]) == ignored
    assert fault_of([ignored, sign("update_too_small")]) is None
    assert fault_of([ignored, Sign(CAUSE, "rate_too_low", "stop", "", 3, 9)]) is None
    assert fault_of([ignored, Sign(CAUSE, "rate_too_low", "note", "", 3, 9)]) == ignored
    assert fault_of([ignored, Sign(CAUSE, "input_lost", "stop", "", 3, 9)]).name == "input_lost"
    assert fault_of([sign("half_range", "stop"), sign("update_too_small")]).name == "half_range"


def test_a_bias_is_a_fault_where_the_monitor_says_stop():
    for name in BIASED:
        assert fault_of([sign(name)]) is None
        assert fault_of([sign(name, "stop")]).name == name
    assert fault_of([sign(name, "stop") for name in REMEDIES]) is None


def test_the_gravest_sign_is_answered_first_and_nothing_twice():
    signs = [sign("clipped", "note"), sign("plateau", "warn"), sign("spike", "stop")]
    first, candidates = remedies_for(signs, NOW)
    assert first.name == "spike"
    second, others = remedies_for(signs, NOW, tried=candidates)
    assert second.name == "plateau"
    assert remedies_for(signs[1:2], NOW, tried=others) is None

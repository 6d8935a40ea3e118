"""The plan's figures, typed in as logs, say when read what the plan says."""

from pathlib import Path

import pytest

from volumen.logs.read import read_log_of
from volumen.monitors.objective_facts import facts
from volumen.monitors.seen import EpochSeen, EventSeen, ValidationSeen

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "plan-logs"
TOTALS = {
    "v1-first-epochs": {0: 0.5132, 1: 0.5081, 2: 0.4983, 3: 0.5066, 6: 0.5133},
    "v2-optimized-noise": {9: 0.5602, 10: 0.5671, 13: 0.5768, 14: 0.5703, 15: 0.5637},
    "v4-v5-variance": {0: 0.6104, 1: 0.6234, 18: 0.5561, 22: 0.5696},
    "dice-worse-than-constant": {0: 0.6104, 5: 0.6286, 11: 0.6633},
    "thirty-fold-rate": {5: 0.6286, 11: 0.6633},
}


@pytest.mark.parametrize("name", TOTALS)
def test_the_totals_of_each_episode_are_read(name):
    history = read_log_of(FOLDER / f"{name}.log")
    found = {each.epoch: each.total for each in history.records if isinstance(each, ValidationSeen)}
    assert found == TOTALS[name]


def test_there_is_a_test_of_every_log():
    assert {path.stem for path in FOLDER.glob("*.log")} == {*TOTALS, "objectives-compared"}


def test_changed_objectives_are_phases_and_a_restart():
    history = read_log_of(FOLDER / "objectives-compared.log")
    kinds = [each.kind for each in history.records if isinstance(each, EventSeen) and each.kind != "best"]
    assert kinds == ["phase", "phase", "restart", "phase"]
    assert [each.total for each in history.records if isinstance(each, ValidationSeen)] == [
        0.6348, 0.5602, 0.5671, 0.5561, 0.5696, 0.6286, 0.6633,
    ]  # fmt: skip


def test_the_noise_episode_states_its_threshold_and_its_intervention():
    history = read_log_of(FOLDER / "v2-optimized-noise.log")
    assert history.setting.minimum_delta == 0.002
    assert next(each.total for each in history.records if isinstance(each, EpochSeen)) == 0.5706
    (scaled,) = [each for each in history.records if isinstance(each, EventSeen)]
    assert (scaled.epoch, scaled.numbers["factor"]) == (10, 32.5)


def test_every_dice_of_the_plan_is_worse_than_saying_surface_everywhere():
    history = read_log_of(FOLDER / "dice-worse-than-constant.log")
    for seen in history.records:
        assert isinstance(seen, ValidationSeen)
        known = facts(dict.fromkeys(seen.terms, 1.0), seen.true_share)
        assert seen.terms["dice"] > known["dice"].constant
        assert known["variance"].floor > 0.8

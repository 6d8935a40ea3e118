"""The plan is a function of its seed, its halves share nothing, and any beginning of it is balanced."""

from collections import Counter
from pathlib import Path

import pytest

from volumen.doctor.benchmark.controls import CONTROLS
from volumen.doctor.benchmark.drawing import checked_kind, plan
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.running import Job
from volumen.doctor.benchmark.setups import SETUPS, config_of
from volumen.errors import UserError

CAUSES = {
    "rate_too_high", "rate_too_low", "weight_shock", "clip_too_tight", "schedule_exhausted", "frozen_layers",
    "dead_channels", "detached_term", "unreachable_term", "dominating_term", "conflicting_terms", "constant_predictor",
    "inverted_objective", "double_activation", "gradients_accumulate", "non_finite", "overfitting", "converged",
    "labels_wrong", "pairs_wrong", "input_lost", "normalisation_wrong", "ignore_learned", "wrong_metric",
    "threshold_in_noise", "starved_loader", "class_bias", "leak", "objectives_mixed", "dead_setting",
}  # fmt: skip
PLAN = plan()


def test_the_plan_is_a_function_of_its_seed():
    assert plan() == PLAN
    assert not {one.name for one in plan(1)} & {one.name for one in PLAN}


def test_every_draw_has_a_name_of_its_own():
    assert len({one.name for one in PLAN}) == len(PLAN)


def test_there_are_as_many_kinds_as_the_proof_asks_for():
    assert len(FAULTS) >= 28
    assert all(len(set(fault.strengths)) >= 2 for fault in FAULTS.values())
    assert sum(draw.group == "control" for draw in PLAN) >= 60


def test_every_right_answer_is_a_cause_that_can_be_named():
    for fault in FAULTS.values():
        assert fault.causes
        assert set(fault.causes) <= CAUSES, fault.kind


def test_the_halves_share_neither_a_fault_in_its_strength_nor_a_set_up():
    clothes = {half: {(d.kind, d.strength) for d in PLAN if d.group == "fault" and d.half == half} for half in CONTROLS}
    assert clothes["tune"]
    assert clothes["report"]
    assert not clothes["tune"] & clothes["report"]
    setups = {half: {draw.setup for draw in PLAN if draw.half == half} for half in CONTROLS}
    assert not setups["tune"] & setups["report"]


def test_both_halves_have_much_of_everything():
    counts = Counter((draw.group, draw.half) for draw in PLAN)
    for group in ("fault", "control", "healthy"):
        tune, report = counts[group, "tune"], counts[group, "report"]
        assert min(tune, report) > 0.6 * max(tune, report), group


def test_a_beginning_of_the_plan_is_balanced():
    beginning = PLAN[: 2 * len(PLAN) // 5]
    seeds = Counter(draw.variant for draw in beginning if draw.group == "fault")
    whole = {draw.kind for draw in beginning if draw.group == "fault" and seeds[draw.variant] >= 5}
    assert whole == set(FAULTS)
    assert Counter(draw.group for draw in beginning)["control"] >= 15
    healthy = Counter(draw.setup for draw in PLAN[:30] if draw.group == "healthy")
    assert healthy == dict.fromkeys(SETUPS, 5)


def test_any_stretch_has_both_halves():
    for first in range(30, 630, 100):
        halves = Counter(draw.half for draw in PLAN[first : first + 100])
        assert min(halves["tune"], halves["report"]) >= 20


def test_one_kind_comes_with_the_healthy_runs_beside_it():
    found = plan(only="leak")
    assert {draw.kind for draw in found} == {"leak", "healthy"}
    assert {draw.setup for draw in found if draw.group == "healthy"} == {d.setup for d in found if d.kind == "leak"}


def test_an_unknown_kind_is_refused_with_a_near_one():
    assert checked_kind("leak") == "leak"
    assert checked_kind(None) is None
    with pytest.raises(UserError, match="double_activation"):
        checked_kind("double_activtion")


VARIANTS = list({draw.variant: draw for draw in PLAN}.values())


def test_every_configuration_is_one():
    for draw in VARIANTS:
        job = Job(draw)
        config = config_of(draw.name, Path("prepared"), 0, 48, SETUPS[draw.setup].values, job.injection.values)
        assert config.name == draw.name


def test_every_fault_changes_something():
    for draw in VARIANTS:
        if draw.group == "fault":
            injection = Job(draw).injection
            assert any(vars(injection).values()), draw.variant


def test_no_fault_that_is_a_configuration_alone_comes_late():
    """Only what the listener or the objective does can wait for its onset."""
    for draw in VARIANTS:
        injection = Job(draw).injection
        if draw.onset > 0:
            assert injection.once or injection.every or injection.alter or injection.attach or injection.feed
            assert injection.corruption is None

"""The proof of repair: its plan is whole and balanced from the start, and its figures are what made-up results say."""

import math
from dataclasses import replace

import pytest

from volumen.doctor.benchmark.arm_page import repair_page
from volumen.doctor.benchmark.arm_running import ArmResult, all_remedies
from volumen.doctor.benchmark.arm_scoring import GAP, cases_of, repair_table
from volumen.doctor.benchmark.arms import (
    ARMS,
    FIRST,
    LATER,
    PAIR,
    ArmDraw,
    can_be_undone,
    checked_repairable,
    healthy_beside,
    plan_repair,
)
from volumen.doctor.benchmark.drawing import plan
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.repairable import NOT_REPAIRABLE, REPAIRABLE
from volumen.doctor.benchmark.running import Job
from volumen.errors import UserError
from volumen.training.remedies import Situation

PLAN = plan_repair()
FAULTY = [one for one in PLAN if one.draw.group == "fault"]


def test_every_kind_of_fault_can_be_repaired_or_has_a_reason():
    assert set(REPAIRABLE) | set(NOT_REPAIRABLE) == set(FAULTS)
    assert not set(REPAIRABLE) & set(NOT_REPAIRABLE)


def test_what_is_done_after_every_step_or_stays_in_the_code_counts_as_beyond_repair():
    for draw in {one.draw for one in FAULTY}:
        injection = Job(draw).injection
        assert injection.every is injection.alter is injection.attach is injection.feed is injection.corruption is None


def test_every_variant_that_can_be_repaired_has_every_arm_once_and_a_healthy_run_beside_it():
    assert len(set(PLAN)) == len(PLAN) == len({one.name for one in PLAN})
    wanted = {draw for draw in plan() if can_be_undone(draw)}
    for arm in (*FIRST, *LATER):
        assert {one.draw for one in FAULTY if one.arm == arm} == wanted
    assert {ArmDraw("healthy", healthy_beside(draw)) for draw in wanted} <= set(PLAN)


def test_a_beginning_has_every_kind_under_the_first_arms_and_then_all_of_them():
    first = [one for one in PLAN[: 5 * len(REPAIRABLE)] if one.draw.group == "fault"]
    for arm in FIRST:
        assert {one.draw.kind for one in first if one.arm == arm} == set(REPAIRABLE)
    assert {one.arm for one in PLAN[: 8 * len(REPAIRABLE)]} == set(ARMS)


def test_a_healthy_run_comes_before_the_faults_of_its_set_up():
    for one in FAULTY:
        assert PLAN.index(ArmDraw("healthy", healthy_beside(one.draw))) < PLAN.index(one)


def test_healthy_runs_come_in_pairs():
    well = [one for one in PLAN if one.draw.group != "fault" and one.arm != "healthy"]
    off, on = ([one.draw for one in well if one.arm == arm] for arm in PAIR)
    assert off == on
    assert {draw.group for draw in off[:6]} == {"healthy", "control"}


def test_a_half_and_a_kind_can_be_chosen():
    assert {one.draw.half for one in plan_repair(half="tune")} == {"tune"}
    assert {one.draw.kind for one in plan_repair(only="nan_weight") if one.draw.group == "fault"} == {"nan_weight"}


@pytest.mark.parametrize(("kind", "said"), [("label_flip", "of the data"), ("rate_to_high", "rate_too_high")])
def test_what_cannot_be_repaired_is_refused_with_the_reason(kind, said):
    with pytest.raises(UserError, match=said):
        checked_repairable(kind)
    assert checked_repairable("rate_too_low") == "rate_too_low"
    assert checked_repairable(None) is None


def test_remedies_are_drawn_from_the_whole_table():
    kinds = {each.kind for one in all_remedies(Situation(1.0, {"soft_dice": 1.0, "variance": 30.0})) for each in one}
    assert kinds >= {"rate_scale", "reload_best", "gradient_clip", "unfreeze", "drop_term", "weight_term"}
    remedies = all_remedies(Situation(None, {"soft_dice": 1.0}))
    assert len(set(remedies)) == len(remedies)
    assert not {"gradient_clip"} & {each.kind for one in remedies for each in one}


def _result(arm, draw, dice, **values):
    made = ArmResult(arm, draw, dice, dice, "finished", 300, 0, None, 0, (), 1.0)
    return replace(made, **values)


def _table(*results):
    return repair_table({ArmDraw(one.arm, one.draw).name: one for one in results})


def _case(kind, *, seed=10, healthy=0.9, nothing=0.1, **arms):
    draw = next(one.draw for one in FAULTY if one.draw.kind == kind and one.draw.seed == seed)
    found = [_result(arm, draw, dice) for arm, dice in {"nothing": nothing, **arms}.items()]
    return [*found, _result("healthy", healthy_beside(draw), healthy)]


def test_repair_is_the_share_of_the_loss_that_is_won_back():
    table = _table(*_case("rate_too_low", tournament=0.86, random=0.1, restart=0.5, reduce_on_plateau=0.0))
    row = table.rows[0]
    assert row.repair == pytest.approx({"tournament": 0.95, "random": 0.0, "restart": 0.5, "reduce_on_plateau": -0.125})
    assert {one.arm: one.repaired for one in table.scores if one.repaired} == {"tournament": 1}
    assert table.scores[0].interval == pytest.approx((0.025, 1.0))


def test_a_fault_that_costs_next_to_nothing_leaves_nothing_to_repair():
    table = _table(*_case("rate_too_low", nothing=0.9 - GAP / 2, tournament=0.9))
    assert table.rows[0].repair == {}
    assert table.scores[0].cases == 0
    assert math.isnan(table.scores[0].share)


def test_without_its_healthy_run_or_the_one_that_did_nothing_there_is_no_case():
    results = _case("rate_too_low", tournament=0.8)
    assert len(cases_of(results)) == 1
    for arm in ("healthy", "nothing"):
        assert not cases_of([one for one in results if one.arm != arm])


def test_the_tournament_is_compared_in_pairs():
    keys = [(kind, 10 + run) for kind in ("rate_too_low", "rate_too_high") for run in range(3)]
    cases = [
        _case(kind, seed=seed, tournament=0.6 + 0.01 * number, random=0.5) for number, (kind, seed) in enumerate(keys)
    ]
    duel = next(one for one in _table(*(one for case in cases for one in case)).duels if one.other == "random")
    assert (duel.pairs, duel.better, duel.worse) == (6, 6, 0)
    assert duel.p_sign == pytest.approx(2 / 2**6)
    assert duel.p_wilcoxon == pytest.approx(2 / 2**6)
    assert duel.mean_gain == pytest.approx(0.125)


def test_ties_decide_nothing():
    duel = _table(*_case("rate_too_low", tournament=0.4, random=0.4)).duels[1]
    assert (duel.pairs, duel.better, duel.worse, duel.p_sign, duel.p_wilcoxon) == (1, 0, 0, 1.0, 1.0)


def test_harm_is_a_loss_beyond_the_spread_of_seeds():
    draws = [one.draw for one in PLAN if one.arm == "off" and one.draw.group == "healthy"]
    same = [draw for draw in draws if draw.setup == draws[0].setup][:4]
    plain = [_result("off", draw, 0.9 + 0.01 * number) for number, draw in enumerate(same)]
    changes = (0.0, -0.02, -0.03, 0.05)
    tried = [
        _result("tournament", one.draw, one.dice + change, trial_steps=75, tournaments=1)
        for one, change in zip(plain, changes, strict=True)
    ]
    harm = _table(*plain, *tried).harm
    assert harm.sigma == pytest.approx(0.01 * math.sqrt(5 / 3))
    assert (harm.pairs, harm.changed, harm.worse, harm.better, harm.tournaments) == (4, 3, 1, 1, 4)
    assert harm.names == (same[2].name,)
    assert harm.worst == pytest.approx(0.03)
    assert harm.cost == pytest.approx(0.25)


def test_the_page_has_every_figure_and_can_be_made_of_nothing():
    page = repair_page(_table(*_case("rate_too_low", tournament=0.86, random=0.1)))
    assert "| tournament | 1 of 1 | 3 % to 100 % | 0.95 |" in page
    assert "| rate_too_low 0.001 |" in page
    assert "nan" not in repair_page(_table())

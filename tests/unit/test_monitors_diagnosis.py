"""A diagnosis names what was done to a drawn run first, and says nothing of a healthy one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from test_monitors_rules import SETTING, a_run, changed, runs

from volumen.monitors.causes import CAUSES
from volumen.monitors.clues import CLUES
from volumen.monitors.diagnosis import HEALTHY, SICK, UNCLEAR, diagnose, diagnoses
from volumen.monitors.picture import Picture
from volumen.monitors.seen import EpochSeen, EventSeen, History, ProbeSeen, ValidationSeen
from volumen.monitors.watching import replay


def picture(records, audit=()):
    length = max(one.epoch for one in records) + 1
    return Picture(replay(History(replace(SETTING, planned_epochs=length), tuple(records)))[0], audit)


def learns_nothing(update):
    """A run that stays at the constant, whose steps change the weights by `update`."""
    records = changed(a_run(), EpochSeen, lambda one: replace(one, progress={"total": 1.0}))
    records = changed(records, ValidationSeen, lambda one: replace(one, metrics={"dice": 0.0}, progress={"total": 1.0}))

    def blind(one):
        ratios = dict.fromkeys(one.update_ratio, update)
        return replace(one, update_ratio=ratios, probability={**one.probability, "gap": 0.0})

    return changed(records, ProbeSeen, blind)


@settings(max_examples=20, deadline=None)
@given(runs)
def test_a_healthy_run_is_called_healthy_at_every_validation(records) -> None:
    length = max(one.epoch for one in records) + 1
    history = History(replace(SETTING, planned_epochs=length), tuple(records))
    assert {found.state for _, found in diagnoses(history)} <= {HEALTHY, UNCLEAR}


@pytest.mark.parametrize(
    ("update", "causes"), [(1e-6, {"rate_too_low"}), (0.4, {"rate_too_high"}), (2e-3, {"pairs_wrong", "labels_wrong"})]
)
def test_why_a_run_learns_nothing_is_told_by_how_its_weights_move(update, causes) -> None:
    found = diagnose(picture(learns_nothing(update)))
    assert found.state == SICK
    assert found.causes[0].name in causes


def test_a_network_that_never_sees_the_image_is_told_from_labels_that_do_not_fit() -> None:
    records = changed(learns_nothing(2e-3), ProbeSeen, lambda one: replace(one, shuffled_loss=one.loss, moved=0.0))
    assert diagnose(picture(records)).causes[0].name == "input_lost"


def test_what_is_odd_and_does_no_harm_is_a_remark_and_no_illness() -> None:
    frozen = ("layer1.weight", "layer2.weight")

    def freeze(one):
        still = dict.fromkeys(frozen, 0.0)
        return replace(
            one, update_ratio={**one.update_ratio, **still}, gradient={**one.gradient, **still}, frozen=frozen
        )

    found = diagnose(picture(changed(a_run(), ProbeSeen, freeze)))
    assert found.state == HEALTHY
    assert any("frozen" in remark for remark in found.remarks)


def test_nothing_seen_is_unclear_and_says_what_is_missing() -> None:
    memory, _ = replay(History(SETTING, ()))
    found = diagnose(Picture(memory))
    assert found.state == UNCLEAR
    assert found.missing


def test_a_finding_of_the_audit_is_a_clue() -> None:
    said = {
        "code": "P7",
        "severity": "warn",
        "title": "labels are moved against their images",
        "evidence": "by 6 voxels",
    }
    without, with_it = (diagnose(picture(learns_nothing(2e-3), audit)) for audit in ((), (said,)))
    confidence = [
        next(one.confidence for one in found.causes if one.name == "pairs_wrong") for found in (without, with_it)
    ]
    assert confidence[1] > confidence[0]


def test_every_cause_that_a_clue_names_can_be_told() -> None:
    assert {clue.cause for clue in CLUES} <= set(CAUSES)
    for cause in CAUSES.values():
        assert cause.command.startswith("volumen ")


def test_a_time_budget_is_the_plan_and_a_run_that_has_ended_is_judged() -> None:
    records, long = a_run(), replace(SETTING, planned_epochs=1000)
    last = records[-1]

    def state(*events):
        return diagnose(Picture(replay(History(long, (*records, *events)))[0])).state

    assert state() == UNCLEAR
    assert (
        state(EventSeen(last.epoch, last.step, "planned_steps", {"before": 9e4, "planned": 1.2 * last.step})) == HEALTHY
    )
    assert state(EventSeen(last.epoch, last.step, "out_of_time")) == HEALTHY

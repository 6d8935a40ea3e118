"""How often a run validates: at most 5 % of its time on a card, never more often than configured, nor too rarely."""

import dataclasses
from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from volumen.config.load import load_config
from volumen.runtime import choose_precision
from volumen.training.pacing import FEWEST, SHARE, Pace, fewest_validations, lengthen, longer_interval
from volumen.training.state import TrainingState, fresh_state

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DEFAULT = load_config("preset:default").config
REPAIRED = load_config("preset:default", ["training.intervention={kind: tournament}"]).config
SECONDS = st.floats(0.001, 1000.0)


def state_of(*overrides: str) -> TrainingState:
    config = load_config("preset:default", ["model.filters=1", "model.depth=1", "data.patch=[8, 8, 8]", *overrides])
    return fresh_state(config.config, CPU, choose_precision("fp32", CPU), steps_per_epoch=10, prior=0.1)


@given(every=st.integers(1, 50), validation=SECONDS, epoch=SECONDS, left=st.integers(0, 500), fewest=st.integers(1, 40))
def test_an_interval_is_as_long_as_the_share_asks_for(
    every: int, validation: float, epoch: float, left: int, fewest: int
) -> None:
    found = longer_interval(every, validation_seconds=validation, epoch_seconds=epoch, epochs_left=left, fewest=fewest)
    assert found >= every
    if found > every:
        assert left // found >= fewest  # so many are left
        assert validation > SHARE * (found - 1) * epoch * 0.999  # and it is no longer than it has to be
    else:
        assert validation <= SHARE * every * epoch or left // (every + 1) < fewest
    if found < left // fewest:
        assert validation <= SHARE * found * epoch * 1.001


@given(every=st.integers(1, 20), epochs=st.integers(1, 100))
def test_without_a_change_it_is_the_configured_interval(every: int, epochs: int) -> None:
    pace = Pace(every)
    assert [pace.is_due(epoch) for epoch in range(epochs)] == [(epoch + 1) % every == 0 for epoch in range(epochs)]


@given(every=st.integers(1, 20), since=st.integers(0, 100))
def test_the_next_validation_is_an_interval_after_the_change(every: int, since: int) -> None:
    pace = Pace(every, since)
    due = next(epoch for epoch in range(since, since + 100) if pace.is_due(epoch))
    assert due + 1 - since == every


@given(seconds=st.lists(st.tuples(SECONDS, SECONDS), max_size=6))
def test_it_only_becomes_longer_and_each_change_is_said(seconds: list[tuple[float, float]]) -> None:
    pace, events = Pace(3, may_grow=True), list[dict[str, Any]]()
    for number, (validation, epoch) in enumerate(seconds):
        before = dataclasses.replace(pace)
        lengthen(pace, DEFAULT, CUDA, events.append, validation_seconds=validation, epoch_seconds=epoch,
                 epochs_done=3 * number + 3, epochs_left=200)  # fmt: skip
        assert (pace == before) == (pace.every == before.every)
    intervals = [event["every_epochs"] for event in events]
    assert intervals == sorted(set(intervals))
    assert pace.every == [3, *intervals][-1]


def test_what_was_decided_is_in_the_checkpoint() -> None:
    for pace in (Pace(3), Pace(3, may_grow=True), Pace(17, since=9, may_grow=True)):
        state, again = state_of(), state_of()
        state.pace = pace
        assert ("pace" in state.state_dict()) == (pace != Pace(3))  # an older one has none
        again.load_state_dict(state.state_dict(), "the test")
        assert again.pace == pace


@given(validation=SECONDS, epoch=SECONDS, which=st.integers(0, 3))
def test_a_cpu_and_an_interval_set_by_name_and_tournaments_are_left_alone(
    validation: float, epoch: float, which: int
) -> None:
    config, device, may_grow, grows = (
        (DEFAULT, CUDA, True, True), (DEFAULT, CPU, True, False), (DEFAULT, CUDA, False, False),
        (REPAIRED, CUDA, True, False),
    )[which]  # fmt: skip
    assume(validation > epoch)
    pace, events = Pace(3, may_grow=may_grow), list[dict[str, Any]]()
    lengthen(pace, config, device, events.append, validation_seconds=validation, epoch_seconds=epoch,
             epochs_done=3, epochs_left=200)  # fmt: skip
    assert bool(events) == (pace.every > 3) == grows


@settings(max_examples=15)
@given(patience=st.integers(1, 60), plateau=st.integers(0, 60))
def test_patience_keeps_room(patience: int, plateau: int) -> None:
    config = load_config("preset:default", [f"training.early_stopping={{patience: {patience}}}",
                                            f"schedule={{kind: plateau, patience: {plateau}}}"]).config  # fmt: skip
    assert fewest_validations(config) == max(FEWEST, 2 * patience, 2 * plateau)


def test_what_a_preset_says_is_not_meant_by_the_user() -> None:
    key = "training.validate_every_epochs"
    assert not load_config("preset:default").is_meant(key)
    assert not load_config("preset:default").is_meant("training.epochs")
    assert load_config("preset:default", [f"{key}=3"]).is_meant(key)

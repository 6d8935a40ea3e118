"""A known training in any clothes is read back as the same."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clothed_logs import CLOTHES, Known, known_epochs, loss_tree
from volumen.logs.read import read_log_of
from volumen.monitors.seen import EpochSeen, History, ValidationSeen


def figures(history: History) -> list[Known]:
    """What was read, epoch by epoch."""
    trained = {each.epoch: each for each in history.records if isinstance(each, EpochSeen)}
    validated = {each.epoch: each for each in history.records if isinstance(each, ValidationSeen)}
    assert list(trained) == list(validated) == list(range(len(trained)))
    return [
        Known(trained[epoch].total, validated[epoch].total, validated[epoch].metrics["dice"], trained[epoch].rate)
        for epoch in trained
    ]


@pytest.mark.parametrize("clothes", CLOTHES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), first=st.sampled_from((0, 1)))
def test_a_known_training_is_read_back_whatever_it_wears(clothes, tmp_path, seed, first):
    chance = random.Random(seed)
    epochs = known_epochs(chance)
    path = tmp_path / "log"
    path.write_bytes(CLOTHES[clothes](epochs, chance, first).encode())
    found = figures(read_log_of(path))
    assert len(found) == len(epochs)
    for one, other in zip(found, epochs, strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=1e-9), path.read_text()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_parts_below_a_loss_are_its_terms_whatever_stands_before_them(tmp_path, seed):
    chance = random.Random(seed)
    epochs = known_epochs(chance)
    path = tmp_path / "log"
    path.write_text(loss_tree(epochs, chance))
    found = [each for each in read_log_of(path).records if isinstance(each, ValidationSeen)]
    expected = [(each.val, {"dice": each.dice, "focal": each.rate}) for each in epochs]
    assert [(each.total, each.terms) for each in found] == expected, path.read_text()


def test_a_batch_is_no_epoch(tmp_path):
    path = tmp_path / "log"
    lines = ["[1/79] loss 0.9", "[79/79] loss 0.5", "val [1/20] val_loss 0.7", "val [20/20] val_loss 0.6"]
    path.write_text("\n".join(f"{line}\n" for each in range(3) for line in (f"Epoch {each}", *lines)))
    assert {each.epoch for each in read_log_of(path).records} == {0, 1, 2}

"""A known training in any clothes is read back as the same."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clothed_logs import CLOTHES, Known, known_epochs
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

"""Laws of the largest batch, the scaled rate, a term's worth, and a trial that runs out of memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config import load_config
from volumen.config.optimisation import AdamW, Sgd
from volumen.doctor.cost.bench import Spent
from volumen.doctor.cost.memory import largest_batch, try_batch
from volumen.doctor.cost.memory_trial import is_out_of_memory
from volumen.doctor.cost.profile import StepProfile
from volumen.doctor.cost.whole_run import scaled_rate

SMALL = ("data.patch=[16, 16, 16]", "model.filters=2", "model.depth=2", "device=cpu")


@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
def test_bisection_finds_the_last_batch_that_fits(most, start, limit) -> None:
    asked = []

    def fits(batch: int) -> bool:
        asked.append(batch)
        return batch <= most

    assert largest_batch(fits, start, limit) == min(most, limit)
    assert all(1 <= batch <= limit for batch in asked)
    assert len(set(asked)) == len(asked)
    assert len(asked) <= 2 * math.ceil(math.log2(limit + 1)) + 2


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_rates_scale_there_and_back(one, other) -> None:
    for settings, power in ((Sgd(learning_rate=0.1), 1.0), (AdamW(learning_rate=0.1), 0.5)):
        once = settings.model_copy(update={"learning_rate": scaled_rate(settings, one)[0]})
        assert scaled_rate(once, other)[0] == pytest.approx(scaled_rate(settings, one * other)[0])
        assert scaled_rate(settings, one)[0] == pytest.approx(0.1 * one**power)
    assert "linear" in scaled_rate(Sgd(), 1.0)[1]
    assert "square root" in scaled_rate(AdamW(), 1.0)[1]


def test_running_out_of_memory_is_an_answer_of_the_child() -> None:
    config = load_config("preset:default", SMALL).config
    assert try_batch(config, 1, 0.1, 1_000_000).fits is False
    roomy = try_batch(config, 1, 0.1, None)
    assert roomy.fits
    assert roomy.peak_bytes > 1_000_000
    stopped = try_batch(config, 1, 0.1, None, seconds=0.01)
    assert (stopped.fits, stopped.timed_out) == (False, True)


def test_other_failures_are_not_taken_for_memory() -> None:
    assert is_out_of_memory("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
    assert is_out_of_memory("CUDA out of memory")
    assert is_out_of_memory("OSError: could not get source code")
    assert not is_out_of_memory("the loss is not finite")


@given(st.floats(0.0, 10.0), st.integers(0, 8))
def test_a_step_is_never_faster_than_its_parts_and_waits_only_for_slow_loaders(loader, workers) -> None:
    one = Spent(0.5, 0.5)
    profile = StepProfile(2, one, {"dice": one}, one, loader, workers, False, 1.0, (2, 8, 8, 8))
    assert profile.paced_seconds >= profile.step_seconds
    assert profile.paced_seconds == pytest.approx(profile.step_seconds + profile.waiting_seconds)
    assert profile.share_of("dice", ("dice",)) == pytest.approx(0.5)

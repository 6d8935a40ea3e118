"""Laws of the largest batch, the scaled rate, a term's worth, and a trial that runs out of memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config.load import load_config
from volumen.config.optimisation import AdamW, Sgd
from volumen.doctor.cost.bench import Spent
from volumen.doctor.cost.memory import MemoryTrial, by_trial, largest_batch, try_batch
from volumen.doctor.cost.profile import StepProfile
from volumen.doctor.cost.whole_run import scaled_rate
from volumen.system.memory import is_out_of_memory

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


@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300), st.integers(0, 12))
def test_trials_that_end_too_early_leave_what_fitted_last(most, start, limit, allowed) -> None:
    done: list[tuple[int, bool]] = []

    def trial(batch: int, left: float) -> MemoryTrial:
        assert 0 <= left <= 60
        if len(done) == allowed:
            return MemoryTrial(batch, fits=False, timed_out=True)
        done.append((batch, batch <= most))
        return MemoryTrial(batch, fits=batch <= most)

    found, known = by_trial(trial, start, limit, 60)
    fitted = [batch for batch, fits in done if fits]
    if known:
        assert found == max(fitted, default=0)
        assert found == min(most, limit) or len(done) == allowed
    else:
        assert not fitted
        assert found == start


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_scaling_a_rate_twice_is_scaling_it_once_by_both(one, other) -> None:
    for settings in (Sgd(learning_rate=0.1), AdamW(learning_rate=0.1)):
        once = settings.model_copy(update={"learning_rate": scaled_rate(settings, one)[0]})
        assert scaled_rate(once, other)[0] == pytest.approx(scaled_rate(settings, one * other)[0])
        assert scaled_rate(settings, 1.0)[0] == 0.1


def test_four_times_the_batch_is_four_times_the_rate_for_sgd_and_twice_for_adamw() -> None:
    assert scaled_rate(Sgd(learning_rate=0.1), 4.0) == (pytest.approx(0.4), "linear for SGD (Goyal et al. 2017)")
    rate, rule = scaled_rate(AdamW(learning_rate=0.1), 4.0)
    assert rate == pytest.approx(0.2)
    assert "square root" in rule


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


@given(st.floats(0.0, 10.0), st.integers(0, 8), st.booleans())
def test_a_step_is_never_faster_than_its_parts_and_workers_never_make_it_slower(loader, workers, on_cpu) -> None:
    one = Spent(0.5, 0.5)
    few, more = (
        StepProfile(2, one, {"dice": one}, one, loader, number, on_cpu, 1.0, (2, 8, 8, 8))
        for number in (workers, workers + 1)
    )
    assert few.step_seconds == pytest.approx(1.5)  # network, term and optimiser
    assert few.paced_seconds >= few.step_seconds
    assert few.waiting_seconds >= more.waiting_seconds >= 0
    assert few.paced_seconds >= more.paced_seconds
    assert more.waiting_seconds == 0 or loader > 1.5 * (workers + 1)
    assert few.share_of("dice", ("dice",)) == pytest.approx(0.5)


def test_a_step_without_workers_waits_for_its_whole_batch() -> None:
    one = Spent(0.5, 0.5)
    assert StepProfile(2, one, {}, one, 0.7, 0, True, 1.0, (2, 8, 8, 8)).paced_seconds == pytest.approx(1.7)

"""The start of a run and its learning rate: faults in the run's own parts are named, healthy runs left in peace."""

import pytest
import torch

from volumen.config import load_config
from volumen.doctor.audit import Context, run_audit
from volumen.doctor.audit.setup import open_context
from volumen.doctor.benchmark import Bench
from volumen.doctor.first_steps import board_of, copied, fresh
from volumen.doctor.overfit import overfit
from volumen.doctor.rate_range import interval_of, sweep
from volumen.doctor.rehearsal import digest
from volumen.phantoms.scrolls import write_phantom_dataset

SMALL = ("data.patch=[32, 32, 32]", "model={filters: 4, depth: 2}")


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("start")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(64, 64, 64), scrolls=2, seed=5)
    return Bench(folder / "raw", folder, SMALL, crop=32)


def context_of(bench: Bench, *overrides: str) -> Context:
    source = load_config("preset:default", [f"data.dataset={bench.prepared()}", *SMALL, *overrides])
    return open_context(source)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_start_is_left_in_peace(bench, seed) -> None:
    assert run_audit(context_of(bench, f"seed={seed}"), only=("P8",)).findings == ()


def test_two_patches_are_learnt_by_heart_and_not_without_a_rate(bench) -> None:
    """A network this small learns them well within 400 steps; it does not move at a rate of 1e-9."""
    healthy = overfit(context_of(bench), steps=150)
    still = overfit(context_of(bench, "optimiser.learning_rate=1e-9"), steps=30)
    assert healthy.reached < 0.6
    assert min(healthy.zeroed, healthy.exchanged) > healthy.reached
    assert still.decided
    assert still.reached > 0.9


def test_a_range_test_gives_the_state_back_to_the_last_bit(bench) -> None:
    context = context_of(bench)
    state, board = fresh(context), board_of(context, 4)
    before = digest(copied(state.state_dict()))
    found = sweep(state, board, next(iter(context.autopsies.values())).total, steps=20)
    assert digest(state.state_dict()) == before
    assert list(found.rates) == sorted(found.rates)
    assert (found.rates[0], found.rates[-1]) == pytest.approx((1e-6, 10.0))
    assert torch.isfinite(torch.tensor(found.progress)).all()


def test_the_interval_of_a_curve_that_is_known() -> None:
    rates = [10.0**power for power in range(-6, 2)]
    falls = interval_of(rates, [1.0, 1.0, 1.0, 0.5, 0.4, 0.3, 0.3, 0.3], 1.0)
    assert falls.lower is not None
    assert falls.upper is not None
    assert rates[2] < falls.lower <= falls.upper
    assert falls.diverging is None
    climbs = interval_of(rates, [1.0, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 1.5], 1.0)
    assert climbs.diverging in rates[4:7]
    assert interval_of(rates, [1.0] * 7, 1.0).diverging == rates[7]  # the eighth step was not finite
    assert interval_of(rates, [1.0] * 8, 1.0).lower is None

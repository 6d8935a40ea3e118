"""The start of a run and its learning rate: faults in the run's own parts are named, healthy runs left in peace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from volumen.config.load import load_config
from volumen.data.prepare import prepare
from volumen.doctor.audit import Context, open_context, run_audit
from volumen.doctor.findings import Severity
from volumen.doctor.learning_rate import interval_of, sweep
from volumen.doctor.objective.check import autopsies
from volumen.doctor.start.check import HALF_LEARNT, LOOKS, MODE_GAP
from volumen.doctor.start.first_steps import board_of, copied, fresh
from volumen.doctor.start.overfit import STILL_STEPS, overfit
from volumen.phantoms.scrolls import write_phantom_dataset

SMALL = ("data.patch=[32, 32, 32]", "model={filters: 4, depth: 1}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(64, 64, 64), scrolls=2, seed=5)
    prepare(folder / "raw", folder / "prepared", accept_proposal=True)
    return folder / "prepared"


def context_of(prepared: Path, *overrides: str) -> Context:
    return open_context(load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_start_is_left_in_peace(prepared, seed) -> None:
    assert run_audit(context_of(prepared, f"seed={seed}"), only=("P8",)).findings == ()


def test_two_patches_are_learnt_by_heart_from_their_images(prepared) -> None:
    """As the check asks of a healthy run."""
    found = overfit(context_of(prepared, "optimiser.learning_rate=0.02"))
    assert found.decided
    assert found.reached < HALF_LEARNT
    assert min(found.zeroed, found.exchanged) > LOOKS
    assert abs(found.training_mode - found.progress[-1]) < MODE_GAP


def test_a_network_that_stands_still_is_not_waited_for(prepared) -> None:
    found = overfit(context_of(prepared, "optimiser.learning_rate=1e-9"))
    assert (found.decided, found.steps) == (True, STILL_STEPS)
    assert found.reached > 0.9


def test_a_run_that_cannot_do_a_step_is_stopped(prepared) -> None:
    (found,) = run_audit(context_of(prepared, "model.in_channels=2"), only=("P8",)).findings
    assert (found.severity, found.title) == (Severity.stop, "the first step fails")
    assert "the network takes [batch, 2, z, y, x], got [2, 1, 32, 32, 32]" in found.evidence


def every_bit(value: Any) -> str:
    """Nested plain values and tensors as text that all equal ones share."""
    if isinstance(value, torch.Tensor):
        return str(value.numpy().tobytes())
    if isinstance(value, dict):
        return repr({key: every_bit(item) for key, item in value.items()})
    return repr([every_bit(item) for item in value] if isinstance(value, list | tuple) else value)


def test_a_range_test_gives_the_state_back_to_the_last_bit(prepared) -> None:
    context = context_of(prepared)
    state, board = fresh(context), board_of(context, 4)
    before = every_bit(copied(state.state_dict()))
    found = sweep(state, board, next(iter(autopsies(context).values())).total, steps=20)
    assert every_bit(state.state_dict()) == before
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

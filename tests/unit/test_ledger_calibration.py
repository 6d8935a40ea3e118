"""Scores of probabilities that were given, against their definitions and what luck gives."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config.experiment import ExpectedOutcome
from volumen.ledger.calibration import FEW, calibration_of
from volumen.ledger.entry import Entry


def closed(probabilities: list[float | None], came_true: int | None) -> Entry:
    outcomes = tuple(ExpectedOutcome(what=f"{place}", probability=one) for place, one in enumerate(probabilities))
    return Entry(name="a", hypothesis="", outcomes=outcomes, status="closed", came_true=came_true)


def test_closed_forms():
    sure = calibration_of([closed([1.0], 1)])
    assert (sure.brier, sure.log_score) == (0.0, 0.0)
    wrong = calibration_of([closed([1.0], 0)])
    assert (wrong.brier, wrong.log_score) == (2.0, pytest.approx(-math.log(0.01)))
    half = calibration_of([closed([0.5], 1), closed([0.5], 0)])
    assert (half.brier, half.log_score, half.base_rate) == (0.5, pytest.approx(math.log(2)), 0.5)
    three = calibration_of([closed([0.5, 0.3], 2)])
    assert three.brier == pytest.approx(0.25 + 0.49 + 0.04)
    assert three.log_score == pytest.approx(-math.log(0.3))


def test_only_closed_experiments_with_probabilities_and_an_outcome_count():
    open_one = Entry(name="a", hypothesis="", outcomes=(ExpectedOutcome(what="x", probability=0.5),))
    found = calibration_of([open_one, closed([None], 1), closed([0.5], None)])
    assert (found.experiments, found.forecasts) == (0, 0)
    assert math.isnan(found.brier)
    assert "no closed experiment" in found.remark


PROBABILITIES = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda row: [one / 100 for one in row])
FORECASTS = st.lists(st.tuples(PROBABILITIES, st.integers(0, 3)), min_size=1, max_size=30)


@given(FORECASTS)
def test_bounds_order_and_bins(forecasts):
    entries = [closed(said, min(came, len(said))) for said, came in forecasts]
    found, turned = calibration_of(entries), calibration_of(entries[::-1])
    assert 0 <= found.brier <= 2
    assert 0 <= found.base_brier <= 2
    assert found.log_score >= 0
    assert found.brier == pytest.approx(turned.brier)
    assert found.base_brier == pytest.approx(turned.base_brier)
    assert found.forecasts == sum(len(said) for said, _ in forecasts)
    if found.bins:
        assert sum(one.forecasts for one in found.bins) == found.forecasts
        assert sum(one.forecasts * one.came_true for one in found.bins) / found.forecasts == pytest.approx(
            found.base_rate
        )
    assert ("luck" in found.remark) == (len(entries) < FEW)


def test_telling_the_truth_scores_best_on_average():
    """Both scores are proper: over many experiments the true probability beats another one, and the base rate."""
    random = np.random.default_rng(0)
    truth = random.uniform(0.05, 0.95, 4000)
    came = random.uniform(size=4000) < truth
    scores = {
        shift: calibration_of(
            [closed([float(np.clip(one + shift, 0, 1))], int(hit)) for one, hit in zip(truth, came, strict=True)]
        )
        for shift in (-0.2, 0.0, 0.2)
    }
    honest = scores[0.0]
    assert honest.brier < min(scores[-0.2].brier, scores[0.2].brier)
    assert honest.log_score < min(scores[-0.2].log_score, scores[0.2].log_score)
    assert honest.brier < honest.base_brier
    assert "better than" in honest.remark
    assert all(abs(one.said - one.came_true) < 0.06 for one in honest.bins)


def test_the_base_rate_looks_at_other_experiments_only():
    """With itself it would know the answer: of one experiment it knows nothing."""
    assert calibration_of([closed([0.9], 1)]).base_log_score == pytest.approx(math.log(2))

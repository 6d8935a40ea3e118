"""Harm is decided as the protocol says, and intervals are exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from volumen.doctor.benchmark.qualifying import clopper_pearson, judge, mann_whitney, upper_bound

DICES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=5, max_size=8)


@given(DICES, DICES)
def test_the_test_asks_only_for_order(healthy, faulty):
    found = mann_whitney(healthy, faulty)
    assert found == pytest.approx(mann_whitney([value**3 for value in healthy], [value**3 for value in faulty]))
    assert 0 < found <= 1


def test_five_runs_that_are_all_worse_are_significant_however_far_apart():
    assert mann_whitney([0.95, 0.94, 0.96, 0.945, 0.955], [0.01, 0.74, 0.90, 0.85, 0.53]) == pytest.approx(1 / 252)


@given(DICES, DICES)
def test_harm_is_significant_and_beyond_two_sigma_and_neutral_within_one(healthy, faulty):
    found = judge(faulty, healthy)
    if found.verdict == "harmful":
        assert found.p < 0.05
        assert found.drop > 2 * np.std(healthy, ddof=1)
    if found.verdict == "neutral":
        assert found.drop < np.std(healthy, ddof=1) or found.drop <= 0


def test_a_fault_is_not_harmful_on_too_few_runs():
    healthy = [0.90, 0.91, 0.92, 0.90, 0.91]
    assert judge([0.1] * 4, healthy).verdict == "open"
    assert judge([0.1] * 5, healthy).verdict == "harmful"
    assert judge([0.1] * 5, healthy[:4]).verdict == "open"
    assert judge([0.1], healthy).verdict == "open"


def test_three_runs_as_good_as_healthy_ones_settle_the_matter():
    assert judge([0.9, 0.95, 0.93], [0.90, 0.91, 0.92, 0.90, 0.91]).verdict == "neutral"
    assert judge([0.9, 0.95], [0.90, 0.91, 0.92, 0.90, 0.91]).verdict == "open"


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_leave_their_tails_exactly(pair):
    hits, of = pair
    low, high = clopper_pearson(hits, of)
    assert low <= hits / of <= high
    if hits:
        assert stats.binom.sf(hits - 1, of, low) == pytest.approx(0.025, rel=1e-6)
    if hits < of:
        assert stats.binom.cdf(hits, of, high) == pytest.approx(0.025, rel=1e-6)
        assert stats.binom.cdf(hits, of, upper_bound(hits, of)) == pytest.approx(0.05, rel=1e-6)


def test_nothing_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert upper_bound(0, 0) == 1.0
    assert math.isnan(judge([], [0.9, 0.9]).mean)

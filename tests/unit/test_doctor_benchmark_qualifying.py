"""Harm is decided as the protocol says, and intervals are exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from volumen.doctor.benchmark.qualifying import clopper_pearson, judge, upper_bound, welch

DICES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=5, max_size=8)


@given(DICES, DICES)
def test_the_test_is_welchs(healthy, faulty):
    if np.var(healthy) + np.var(faulty) < 1e-8:
        return
    expected = stats.ttest_ind(healthy, faulty, equal_var=False, alternative="greater").pvalue
    assert welch(healthy, faulty) == pytest.approx(expected, abs=1e-9)


def test_samples_without_spread_are_compared_by_their_means():
    assert welch([0.9] * 5, [0.0] * 5) == 0.0
    assert welch([0.9] * 5, [0.9] * 5) == 1.0


@given(DICES, DICES)
def test_what_is_harmful_costs_more_than_two_sigma_and_is_significant(healthy, faulty):
    found = judge(faulty, healthy)
    if found.verdict == "harmful":
        assert found.p < 0.05
        assert found.drop > 2 * np.std(healthy, ddof=1)
    assert found.verdict != "open"


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

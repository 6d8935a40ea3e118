"""What terms are worth at a constant, at the truth and at their least, by closed forms."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.errors import UserError
from volumen.monitors.objective_facts import KNOWN, facts, unexplained

SHARES = st.integers(1, 99).map(lambda share: share / 100)


@settings(max_examples=6, deadline=None)
@given(SHARES)
def test_constants_have_their_closed_forms(share):
    found = facts({"dice": 1, "bce": 1, "mse": 1, "mae": 1, "iou": 1}, share)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    constants = {
        "dice": 1 - 2 * share / (1 + share),
        "bce": entropy,
        "mse": share * (1 - share),
        "mae": min(share, 1 - share),
        "iou": 1 - share,
    }
    for name, expected in constants.items():
        assert found[name].constant == pytest.approx(expected, rel=2e-3, abs=2e-3)
        assert found[name].perfect == pytest.approx(0, abs=1e-6)
    for each in found.values():
        assert each.floor <= each.perfect + 1e-9
        assert each.floor <= each.constant + 1e-9


def test_the_plans_variance_cannot_be_what_its_plan_wanted():
    variance = facts({"variance": 0.1}, 0.6)["variance"]
    assert variance.floor == pytest.approx(0.828, abs=2e-3)
    assert variance.constant == pytest.approx(1)
    assert variance.perfect == pytest.approx(1.078, abs=1e-3)
    dice = facts({"dice": 0.5}, 0.6)["dice"]
    assert dice.constant == pytest.approx(0.25)
    assert dice.progress(0.4845) > 1.9


def test_with_an_entropy_beside_it_variance_is_the_packages_own():
    found = facts({"variance": 0.3, "entropy": 0.1}, 0.6)
    assert found["variance"].floor == pytest.approx(0.5625, abs=1e-3)
    assert found["variance"].perfect == pytest.approx(0.76**2, abs=1e-6)
    assert found["entropy"].perfect == pytest.approx(0.5)


def test_the_total_is_the_weighted_sum_and_there_only_where_all_terms_are_known():
    weights = {"dice": 0.5, "focal": 0.25}
    found = facts(weights, 0.3)
    assert found["total"].perfect == pytest.approx(0, abs=1e-6)
    assert found["total"].constant >= sum(weight * found[name].constant for name, weight in weights.items()) - 1e-9
    assert "total" not in facts({**weights, "cldice": 0.1}, 0.3)
    assert set(facts({**weights, "cldice": 0.0}, 0.3)) == {"dice", "focal", "total"}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_no_known_term_is_better_than_its_floor(name):
    found = facts({name: 1.0}, 0.4)
    assert found[name].source
    assert found["total"].floor == pytest.approx(found[name].floor)
    assert found[name].floor <= min(found[name].constant, found[name].perfect) + 1e-9


@pytest.mark.parametrize("share", [0, 1, -0.1, 60.9, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match="surface share"):
        facts({"dice": 1.0}, share)


def test_a_total_that_holds_more_than_its_terms_is_seen():
    weights = {"dice": 0.7, "focal": 0.2, "variance": 0.05}
    terms = {"dice": 0.4425, "focal": 0.1806, "variance": 0.9702}
    assert unexplained(0.6286, terms, weights) == pytest.approx(0.2342, abs=1e-4)
    assert unexplained(0.6286, terms, {**weights, "boundary": 0.05}) is None
    assert unexplained(0.6286, terms, {}) is None

"""What a sweep says: importances that chance does not make, repeats that decide, a page that escapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep_stubs import SPACE, plan_of
from volumen.experiments.sweep_halving import Entry
from volumen.experiments.sweep_importance import explained, groups_of, importances
from volumen.experiments.sweep_report import report_of
from volumen.experiments.sweep_space import Factor, Space
from volumen.reporting.sweep_page import sweep_page

KEYS = [one.key for one in SPACE.factors]


def entries(random, trials, value):
    found = []
    for number in range(trials):
        point = {KEYS[0]: float(10 ** random.uniform(-4, -1)), KEYS[1]: int(random.integers(1, 4)),
                 KEYS[2]: str(random.choice(["none", "12.0"]))}  # fmt: skip
        found.append(Entry(number, {} if number == 0 else point, (value(point, random),)))
    return found


def test_a_factor_that_does_everything_matters_and_the_others_cannot_be_told():
    random = np.random.default_rng(0)
    found = importances(SPACE, entries(random, 60, lambda point, _: -abs(np.log10(point[KEYS[0]]) + 2)))
    assert found[0].factor == KEYS[0]
    assert [one.verdict for one in found] == ["matters", "cannot tell from chance", "cannot tell from chance"]
    assert found[0].low <= found[0].share <= found[0].high <= 1


def test_of_pure_noise_a_factor_matters_about_as_rarely_as_is_said():
    random, told = np.random.default_rng(3), 0
    for _ in range(40):
        told += any(
            one.verdict == "matters" for one in importances(SPACE, entries(random, 24, lambda _, r: r.normal()))
        )
    assert told <= 7  # of 40, where 2 are expected


def test_few_trials_and_equal_values_tell_nothing():
    random = np.random.default_rng(0)
    few = importances(SPACE, entries(random, 7, lambda point, _: point[KEYS[0]]))
    assert all(one.verdict.startswith("cannot tell: 6 trials") for one in few)
    alike = importances(SPACE, entries(random, 30, lambda point, _: 0.0))
    assert all("same value" in one.verdict for one in alike)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 3)), min_size=2, max_size=40))
def test_a_share_is_a_share_and_whole_where_groups_say_all(pairs):
    values, groups = np.array([one for one, _ in pairs]), np.array([one for _, one in pairs])
    assert 0 <= explained(values, groups) <= 1
    if len(np.unique(groups)) > 1 and len(values) > len(np.unique(groups)):
        assert explained(groups.astype(float), groups) == pytest.approx(1)


def test_quarters_are_as_large_as_each_other():
    factor = Factor("x", "", low=0.0, high=1.0)
    groups = groups_of(factor, list(np.random.default_rng(0).uniform(size=40) ** 5))
    assert np.bincount(groups).tolist() == [10, 10, 10, 10]


def repeats(plan, gains):
    """Repeats of trials 0 and 1 with every seed; the second gains so much."""
    return [Entry(number, values=(0.5 + gain * of,), of=of, seed=seed) for number, (seed, gain) in enumerate(
        zip(plan.repeat_seeds, gains, strict=True)) for of in (0, 1)]  # fmt: skip


@pytest.mark.parametrize(
    ("gains", "recommended", "said"),
    [
        ((0.10, 0.11, 0.12), 1, "better than the configuration"),
        ((0.10, -0.11, 0.02), 0, "none of them beats the noise"),
        ((-0.1, -0.11, -0.12), 0, "none of them beats the noise"),
        ((0.10, 0.10), 0, "cannot tell"),
    ],
)
def test_only_repeats_recommend(gains, recommended, said):
    plan = plan_of(rungs=(1,), trials=3, confirm=1, seeds=len(gains))
    found = [Entry(0, values=(0.5,)), Entry(1, {KEYS[1]: 2}, (0.9,)), Entry(2, {KEYS[1]: 3}, (0.4,))]
    alone = report_of(plan, found, [], 3)
    assert alone.recommended == 0
    assert "--confirm" in alone.advice
    report = report_of(plan, found, repeats(plan, gains), 3)
    assert report.recommended == recommended
    assert said in report.advice


def test_a_page_escapes_what_it_is_given_and_survives_every_state():
    nasty = "<script>alert(1)</script>"
    space = Space((Factor("loss.terms", "x:1", choices={nasty: 1, "b": 2}), SPACE.factors[0], SPACE.factors[1]))
    plan = plan_of(space=space, trials=9)
    rate = SPACE.factors[0].key
    for found in (
        [],
        [Entry(0)],
        [Entry(0, values=(0.1, 0.2, 0.3)), Entry(1, {"loss.terms": nasty, rate: 0.01}, (0.2,)),
         Entry(2, {"loss.terms": "b"}, reason=nasty), Entry(3, {"loss.terms": "b", rate: 1e-4}, (0.1, 0.5, 0.7))],
    ):  # fmt: skip
        report = report_of(plan, found, [], 9)
        page = sweep_page(report, space)
        assert "<script" not in page
        assert report.to_dict()["planned"] == 9
    assert "&lt;script&gt;" in page
    assert "polyline" in page

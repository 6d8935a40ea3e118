"""Objectives where the truth is in doubt: what their best answer can expect follows what they ask for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.doctor.objective.harm import OF_A_TERM
from volumen.doctor.objective.knowledge import blurred, expected_dice, sigma_for
from volumen.doctor.objective.limited import best_answer, doubt_of, expected, plain
from volumen.losses import TERMS, CompositeLoss


def sheets(count: int = 2, thickness: int = 3) -> np.ndarray:
    """Patches with parallel sheets, one axis each."""
    patches = np.zeros((count, 24, 24, 24), np.uint8)
    for number, patch in enumerate(patches):
        turned = np.moveaxis(patch, number % 3, 0)
        turned[4 : 4 + thickness] = 1
        turned[14 : 14 + thickness] = 1
    patches[:, :, :2] = 2
    return patches


@pytest.fixture(scope="module")
def doubt():
    return doubt_of(sheets(), 0.75)


@given(st.integers(0, 2**31 - 1), st.floats(0.02, 0.98))
@settings(max_examples=30, deadline=None)
def test_no_answer_expects_more_than_the_probabilities_themselves(seed, level) -> None:
    random = np.random.default_rng(seed)
    probability, answer = random.random(500) ** 3, random.random(500)
    best = expected_dice(probability, probability)
    assert expected_dice(answer, probability).at(level) <= best.best + 0.01
    mask = answer > np.ceil(level * 200 - 1e-9) / 200
    direct = 2 * probability[mask].sum() / (mask.sum() + probability.sum())
    assert expected_dice(answer, probability).at(level) == pytest.approx(direct, abs=1e-9)


def test_more_doubt_leaves_less_to_expect() -> None:
    label = sheets()[0]
    assert sigma_for(label, 0.6) > sigma_for(label, 0.8) > sigma_for(label, 0.95)
    known = blurred(label, 1.0)
    assert known[label == 2].max() == 0
    assert 0 <= known.min() <= known.max() <= 1


def test_the_usual_objective_comes_near_the_best_that_can_be_expected(doubt) -> None:
    known = doubt.probability[doubt.known]
    best = expected_dice(known, known).best
    assert expected(plain(), doubt, 0.5).at(0.5) > 0.95 * best


@pytest.mark.parametrize(("heavy", "larger"), [("surface", True), ("background", False)])
def test_a_class_weight_moves_the_answer_its_way(doubt, heavy, larger) -> None:
    weighted = TERMS["cross_entropy"](**{f"{heavy}_weight": 30.0})
    answer = best_answer(CompositeLoss({"cross_entropy": (1.0, weighted)}), doubt, 0.0)
    usual = best_answer(plain(), doubt, 0.0)
    assert ((answer > 0.5).mean() > (usual > 0.5).mean()) == larger


@pytest.mark.parametrize(("weight", "harmful"), [(0.01, False), (0.5, False), (30.0, True)])
def test_a_regulariser_harms_where_it_is_heavy(doubt, weight, harmful) -> None:
    terms = {**plain().terms, "variance": (weight, TERMS["variance"]())}
    lost = 1 - expected(CompositeLoss(terms), doubt, 0.5).at(0.5) / expected(plain(), doubt, 0.5).best
    assert (lost > 0.04) == harmful


@pytest.mark.parametrize(
    ("term", "weight", "told"), [("cldice", 0.3, False), ("medial_recall", 0.3, False), ("variance", 30.0, True)]
)
def test_usual_weights_of_a_term_cost_less_than_what_is_told(term, weight, told) -> None:
    added = TERMS[term]()
    doubt = doubt_of(sheets(), 0.7, tuple({*added.requires, *plain().requires}))
    terms = {**plain().terms, term: (weight, added)}
    lost = 1 - expected(CompositeLoss(terms), doubt, 0.5).at(0.5) / expected(plain(), doubt, 0.5).at(0.5)
    assert (lost > OF_A_TERM) == told

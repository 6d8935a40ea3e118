"""The arithmetic of objectives against closed forms: floors, constants, conflicts, operating points."""

import math

import numpy as np
import pytest

from volumen.doctor.objective.autopsy import autopsy
from volumen.doctor.objective.operating_point import Population, operating_point, population_of
from volumen.losses import TERMS, CompositeLoss


def labels(share: float, ignored: float = 0.0) -> np.ndarray:
    """Two patches with exactly this share of surface, in random places."""
    size = 16**3
    random = np.random.default_rng(3)
    patches = np.zeros((2, size), np.uint8)
    for patch in patches:
        patch[: round(share * size)] = 1
        random.shuffle(patch)
        patch[random.permutation(size)[: round(ignored * size)]] = 2
    return patches.reshape(2, 16, 16, 16)


def composite(**weights: float) -> CompositeLoss:
    return CompositeLoss({name: (weight, TERMS[name]()) for name, weight in weights.items()})


def test_the_usual_objective_has_nothing_to_hide() -> None:
    found = autopsy(composite(soft_dice=1.0, cross_entropy=1.0), labels(0.2, ignored=0.3))
    assert found.total.floor < 1e-4
    assert found.total.conflict < 1e-4
    assert found.optimum.dice == 1.0
    assert found.optimum.leaderboard == pytest.approx(1.0)
    assert found.total.progress(found.total.baseline) == 1.0
    assert found.total.progress(found.total.floor) == 0.0
    assert found.range_of("validation_loss") is found.total
    assert found.range_of("loss.soft_dice") is found.terms[0]
    assert found.range_of("dice") is None


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_constants_reach_what_theory_says(share: float) -> None:
    volume = labels(share)
    share = float(volume.mean())
    found = autopsy(composite(soft_dice=1.0, cross_entropy=0.5), volume)
    dice, entropy = found.terms
    assert dice.baseline == pytest.approx(1 - 2 * share / (1 + share), abs=2e-3)
    assert dice.all_surface == pytest.approx(dice.baseline, abs=2e-3)
    assert entropy.prior == pytest.approx(-share * math.log(share) - (1 - share) * math.log(1 - share), abs=1e-4)
    assert entropy.baseline == pytest.approx(entropy.prior)
    assert entropy.baseline_probability == pytest.approx(share, abs=1e-3)
    assert entropy.weight == 0.5


def test_the_variance_term_cannot_fall_below_its_floor() -> None:
    found = autopsy(composite(variance=1.0), labels(0.6))
    assert found.total.floor == pytest.approx(0.5625, abs=2e-3)
    assert found.total.perfect == pytest.approx((1 - 0.24) ** 2, abs=1e-4)
    assert found.total.baseline == pytest.approx(1.0)


def test_variance_and_entropy_together_punish_the_perfect_prediction() -> None:
    """Half the voxels at 0.8 and half at 0.2 is their best; a constant beats a perfect prediction."""
    found = autopsy(composite(variance=1.0, entropy=1.0), labels(0.6))
    assert found.total.floor == pytest.approx(0.8284, abs=3e-3)
    assert found.total.perfect == pytest.approx(1.0776, abs=1e-3)
    assert found.total.baseline == pytest.approx(1.0, abs=1e-3)
    assert found.total.progress(found.total.perfect) > 1
    conflicts = {term.name: term.conflict for term in found.terms}
    assert conflicts["entropy"] == pytest.approx(0.5, abs=1e-3)


def test_an_optimum_that_is_not_the_truth_is_seen() -> None:
    found = autopsy(composite(variance=1.0), labels(0.1))
    assert found.optimum.predicted_share == pytest.approx(0.5, abs=0.1)
    assert found.optimum.dice < 0.5


UNIFORM = Population(np.linspace(0, 1, 101), np.full(101, 1 / 101))


def test_the_cross_entropy_answers_with_the_truth() -> None:
    point = operating_point(composite(cross_entropy=1.0), UNIFORM)
    np.testing.assert_allclose(point.answer[1:-1], UNIFORM.probability[1:-1], atol=5e-3)
    assert point.crossing() == pytest.approx(0.5, abs=0.02)
    assert point.asked_share() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("surface", "background"), [(3.0, 1.0), (1.0, 3.0), (2.94, 1.52)])
def test_class_weights_move_the_operating_point_by_their_ratio(surface: float, background: float) -> None:
    weighted = TERMS["cross_entropy"](surface_weight=surface, background_weight=background)
    point = operating_point(CompositeLoss({"cross_entropy": (1.0, weighted)}), UNIFORM)
    assert point.crossing() == pytest.approx(background / (surface + background), abs=0.02)


def test_alpha_acts_as_a_class_weight() -> None:
    focal = TERMS["focal"](alpha=0.75, gamma=0.0)
    assert operating_point(CompositeLoss({"focal": (1.0, focal)}), UNIFORM).crossing() == pytest.approx(0.25, abs=0.02)
    plain = operating_point(CompositeLoss({"focal": (1.0, TERMS["focal"](gamma=2.0))}), UNIFORM)
    assert plain.crossing() == pytest.approx(0.5, abs=0.02)


def test_dice_calls_surface_what_is_above_half_its_own_best_dice() -> None:
    """The best set under Dice is {q > D / 2}, D being the Dice it reaches (Lipton et al. 2014)."""
    point = operating_point(composite(soft_dice=1.0), UNIFORM)
    q, share = UNIFORM.probability, UNIFORM.share
    chosen = point.answer > 0.5
    best = 2 * (share[chosen] @ q[chosen]) / (share[chosen].sum() + share @ q)
    assert point.crossing() == pytest.approx(best / 2, abs=0.03)


def test_terms_over_neighbourhoods_are_left_out() -> None:
    assert operating_point(composite(cldice=1.0), UNIFORM) is None
    assert operating_point(composite(cldice=1.0, cross_entropy=1.0), UNIFORM).left_out == ("cldice",)


def test_a_population_is_that_of_the_labels() -> None:
    plate = np.zeros((1, 32, 32, 32), np.uint8)
    plate[:, 12:16] = 1
    plate[:, :, :, 24:] = 2
    population = population_of(plate)
    assert population.share.sum() == pytest.approx(1.0)
    assert population.surface_share == pytest.approx(4 / 32, abs=0.02)
    assert (population.share[10:90] > 0).any()


def test_bins_without_voxels_have_an_answer_too() -> None:
    centres = np.linspace(0.0, 1.0, 101)
    share = np.where(centres < 0.6, 1.0, 0.0)
    point = operating_point(composite(soft_dice=0.2, cross_entropy=1.0), Population(centres, share / share.sum()))
    assert point is not None
    assert np.all(np.diff(point.answer) > -0.02)
    assert point.answer[-1] > 0.9

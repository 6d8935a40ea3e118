"""Baselines tuned on the truth: the search finds what brute force finds, and phantoms defeat them all."""

import numpy as np
import pytest
from benchmarks import baselines
from benchmarks.baselines import (
    Case,
    Rule,
    best_constant,
    gaussian_smoothing,
    gradient_magnitude,
    tuned_edge_filter,
    tuned_intensity_threshold,
)
from scipy import ndimage

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.sheetness import hessian_sheetness, largest_eigenvalue
from volumen.errors import UserError
from volumen.metrics import leaderboard, overlap
from volumen.phantoms.scrolls import phantom

OBJECTIVES = ("dice", "leaderboard")


@pytest.fixture(scope="module")
def phantoms() -> list[Case]:
    made = [phantom(seed, (48, 48, 48), scroll=seed) for seed in range(3)]
    return [(f"p{number}", one.image, one.label) for number, one in enumerate(made)]


def plate(grey_of_surface: int, *, seed: int) -> Case:
    """A plate of one grey level in noise that never reaches it, with an unlabelled corner that would mislead."""
    random = np.random.default_rng(seed)
    image = random.integers(100, 140, (24, 28, 32)).astype(np.uint8)
    label = np.full(image.shape, BACKGROUND, np.uint8)
    label[10:13] = SURFACE
    image[10:13] = grey_of_surface
    label[:, :10, :10] = IGNORE
    image[:, :10, :10] = grey_of_surface
    return f"plate{seed}", image, label


def dice_of(mask: np.ndarray, label: np.ndarray) -> float:
    mask, truth = mask.astype(bool) & (label != IGNORE), label == SURFACE
    total = mask.sum() + truth.sum()
    return 2 * (mask & truth).sum() / total if total else 1.0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("grey", [30, 90, 150, 220])
def test_a_plate_of_its_own_grey_level_is_found_exactly(grey: int, objective: str) -> None:
    found = tuned_intensity_threshold([plate(grey, seed=1), plate(grey, seed=2)], objective)
    assert found.mean == pytest.approx(1.0)
    assert found.per_case == pytest.approx({"plate1": 1.0, "plate2": 1.0})
    _, image, label = plate(grey, seed=3)
    assert dice_of(found.mask_of(image), label) == 1.0


def test_a_grey_level_in_the_middle_needs_a_band() -> None:
    random = np.random.default_rng(0)
    image = random.choice(np.array([40, 200], np.uint8), (24, 24, 24))
    label = np.zeros(image.shape, np.uint8)
    label[8:11] = SURFACE
    image[8:11] = 120
    found = tuned_intensity_threshold([("band", image, label)], "dice")
    assert found.mean == 1.0
    assert 40 < found.parameters["low"] <= 120 < found.parameters["high"] <= 200


def test_search_finds_what_brute_force_finds(phantoms: list[Case]) -> None:
    """On unsmoothed grey levels every band can be tried by hand; the search may only do better (it also smooths)."""
    best = 0.0
    for low in range(60, 200, 4):
        for high in range(low + 4, 210, 4):
            rule = Rule("intensity", 0.0, low, high)
            best = max(best, float(np.mean([dice_of(rule.mask(image), label) for _, image, label in phantoms])))
    assert tuned_intensity_threshold(phantoms, "dice").mean >= best - 0.005


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("tune", [best_constant, tuned_intensity_threshold, tuned_edge_filter])
def test_reported_scores_are_those_of_the_masks(phantoms: list[Case], tune, objective: str) -> None:
    baseline = tune(phantoms[:2], objective)
    assert baseline.objective == objective
    assert list(baseline.per_case) == ["p0", "p1"]
    for identity, image, label in phantoms[:2]:
        mask = baseline.mask_of(image)
        assert mask.dtype == np.uint8
        assert mask.shape == image.shape
        assert mask.max() <= 1
        score = dice_of(mask, label) if objective == "dice" else leaderboard(mask, label).score
        assert baseline.per_case[identity] == pytest.approx(score)
        if objective == "dice":
            assert overlap(mask, label).dice == pytest.approx(score)
    assert baseline.mean == pytest.approx(np.mean(list(baseline.per_case.values())))


def test_tuning_for_an_objective_is_best_at_that_objective(phantoms: list[Case]) -> None:
    for tune in (best_constant, tuned_intensity_threshold, tuned_edge_filter):
        for_dice, for_leaderboard = (tune(phantoms[:2], objective) for objective in OBJECTIVES)
        dice_of_other = np.mean([dice_of(for_leaderboard.mask_of(image), label) for _, image, label in phantoms[:2]])
        score_of_other = np.mean(
            [leaderboard(for_dice.mask_of(image), label).score for _, image, label in phantoms[:2]]
        )
        assert for_dice.mean >= dice_of_other - 1e-9
        assert for_leaderboard.mean >= score_of_other - 1e-9


def test_the_phantom_is_solved_by_no_trivial_method(phantoms: list[Case]) -> None:
    constant, intensity, edges = (
        tune(phantoms, "dice").mean for tune in (best_constant, tuned_intensity_threshold, tuned_edge_filter)
    )
    assert constant < intensity < 0.6
    assert constant < edges < 0.6


def test_constants_are_scored_as_they_should_be() -> None:
    case = plate(150, seed=1)
    found = best_constant([case], "dice")
    surface, known = (case[2] == SURFACE).sum(), (case[2] != IGNORE).sum()
    assert found.parameters == {"value": "surface"}
    assert found.mean == pytest.approx(2 * surface / (surface + known))
    empty = np.zeros((8, 8, 8), np.uint8)
    nothing = best_constant([("empty", empty, empty)], "dice")
    assert nothing.parameters == {"value": "background"}
    assert np.isnan(nothing.mean)


def test_unlabelled_voxels_change_nothing(phantoms: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "INTENSITY_SIGMAS", (0.0,))  # smoothing would carry grey levels across the border
    identity, image, label = phantoms[0]
    noise = np.random.default_rng(0).integers(0, 256, image.shape)
    scrambled = np.where(label == IGNORE, noise, image).astype(np.uint8)
    first, again = (tuned_intensity_threshold([(identity, one, label)], "dice") for one in (image, scrambled))
    assert first.parameters == again.parameters
    assert first.per_case == again.per_case


def test_edge_filter_finds_a_bright_and_a_dark_sheet() -> None:
    for grey in (60, 200):
        image = np.full((32, 32, 32), 120, np.uint8)
        image[15:18] = grey
        label = np.zeros(image.shape, np.uint8)
        label[15:18] = SURFACE
        found = tuned_edge_filter([("sheet", image, label)], "dice")
        assert found.mean == 1.0


def test_a_volume_without_any_labelled_voxel_does_not_break_the_search() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (16, 16, 16)).astype(np.uint8)
    label = np.full(image.shape, IGNORE, np.uint8)
    assert np.isnan(tuned_intensity_threshold([("blank", image, label)], "dice").mean)


def test_filters_run_by_slabs_equal_filters_of_the_whole() -> None:
    image = np.random.default_rng(0).integers(0, 256, (75, 20, 24)).astype(np.uint8)
    whole = image.astype(np.float32)
    for sigma in (0.7, 1.5, 3.0):
        expected = ndimage.gaussian_filter(whole, sigma, truncate=3.0)
        np.testing.assert_array_equal(gaussian_smoothing(image, sigma), expected)
        gradient = np.sqrt(
            sum(ndimage.gaussian_filter(whole, sigma, order=order, truncate=3.0) ** 2 for order in np.eye(3, dtype=int))
        )
        np.testing.assert_allclose(gradient_magnitude(image, sigma), gradient, rtol=1e-5, atol=1e-4)


def test_eigenvalue_is_that_of_a_general_solver() -> None:
    random = np.random.default_rng(0)
    matrices = random.standard_normal((500, 3, 3))
    matrices = matrices + matrices.transpose(0, 2, 1)
    matrices[:3] = [np.eye(3), np.zeros((3, 3)), np.diag([2.0, -2.0, 0.0])]
    values = np.linalg.eigvalsh(matrices)
    expected = np.take_along_axis(values, np.abs(values).argmax(1)[:, None], 1)[:, 0]
    entries = [matrices[:, i, j].astype(np.float32) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    found = largest_eigenvalue(*entries)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    clear = np.abs(values[:, 0] + values[:, 2]) > 0.01  # else both ends are the largest
    np.testing.assert_allclose(found[clear], expected[clear], atol=2e-3)


def test_sheetness_is_negative_on_bright_sheets_and_positive_in_dark_gaps() -> None:
    image = np.full((40, 16, 16), 100.0, np.float32)
    image[10:13], image[27:30] = 160, 40
    sheetness = hessian_sheetness(image, 1.5)
    assert sheetness[11].max() < -20
    assert sheetness[28].min() > 20


@pytest.mark.parametrize("tune", [best_constant, tuned_intensity_threshold, tuned_edge_filter])
def test_cases_that_do_not_fit_are_refused(tune) -> None:
    identity, image, label = plate(150, seed=1)
    with pytest.raises(UserError, match="at least one"):
        tune([], "dice")
    with pytest.raises(UserError, match="use 'dice' or 'leaderboard'"):
        tune([(identity, image, label)], "loss")
    with pytest.raises(UserError, match="one shape"):
        tune([(identity, image[1:], label)], "dice")
    with pytest.raises(UserError, match="canonical"):
        tune([(identity, image, np.where(label == IGNORE, 255, label).astype(np.uint8))], "dice")
    with pytest.raises(UserError, match="twice"):
        tune([(identity, image, label)] * 2, "dice")

"""The compiled metric against a slow account of the definitions, on random tiny volumes of every shape."""

import metrics_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.metrics import surface_dice, voi_score
from volumen.metrics.masks import Masks
from volumen.metrics.surface_elements import element_areas
from volumen.metrics.topology import tile_counts


@st.composite
def mask_pairs(draw: st.DrawFn, largest: int = 5) -> Masks:
    """Two masks of one shape: independent, nearly equal, nested, empty or full, sparse or with cavities."""
    shape = tuple(draw(st.integers(1, largest)) for _ in range(3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from((0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)))
    first = random.random(shape) < share
    other = random.random(shape) < draw(st.sampled_from((0.0, 0.1, 0.3, 0.6, 0.9, 1.0)))
    relation = draw(st.sampled_from(("independent", "differs", "inside", "around")))
    second = {
        "independent": other,
        "differs": first ^ (random.random(shape) < 0.1),
        "inside": first & other,
        "around": first | other,
    }[relation]
    pair = [first.astype(np.uint8), second.astype(np.uint8)]
    return Masks(*(pair if draw(st.booleans()) else pair[::-1]))


def one_tile(masks: Masks) -> list[list[int]]:
    return tile_counts(masks, ((0, 0, 0), masks.truth.shape)).tolist()


@settings(max_examples=150, deadline=None)
@given(mask_pairs())
def test_counts_equal_those_of_persistence(masks: Masks) -> None:
    assert one_tile(masks) == reference.counts(masks.prediction > 0, masks.truth > 0)


@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_those_of_persistence_for_thousands_of_pairs(seed: int) -> None:
    """3200 pairs with axes of 1 to 4: any density from empty to full, alike, nested or independent."""
    random = np.random.default_rng([2026, seed])
    for _ in range(400):
        shape = tuple(random.integers(1, 5, 3))
        first = random.random(shape) < random.choice((0.0, 0.2, 0.5, 0.7, 0.85, 1.0))
        noise = random.random(shape) < random.choice((0.0, 0.1, 0.4, 1.0))
        second = (first ^ noise, first & noise, first | noise, noise)[random.integers(4)]
        masks = Masks(first.astype(np.uint8), second.astype(np.uint8))
        assert one_tile(masks) == reference.counts(first, second), (seed, shape)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1), (2, 2, 1), (1, 2, 2), (2, 2, 2)])
def test_counts_equal_those_of_persistence_for_every_tiny_pair(shape: tuple[int, int, int]) -> None:
    size = int(np.prod(shape))
    every = range(2**size) if size <= 4 else range(0, 2**size, 17)
    volumes = [np.array([code >> k & 1 for k in range(size)], np.uint8).reshape(shape) for code in every]
    for prediction in volumes:
        for truth in volumes:
            assert one_tile(Masks(prediction, truth)) == reference.counts(prediction > 0, truth > 0)


@settings(max_examples=100, deadline=None)
@given(mask_pairs(), st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 3.0)))
def test_surface_dice_equals_comparing_all_elements(masks: Masks, tolerance: float) -> None:
    expected = reference.surface_dice(masks.prediction > 0, masks.truth > 0, tolerance, element_areas())
    assert surface_dice(*masks, tolerance=tolerance) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    mask_pairs(),
    st.tuples(*[st.sampled_from((0.5, 1.0, 1.7, 2.0, 40.0))] * 3),
    st.sampled_from((0.0, 0.7, 1.0, 2.0, 3.4, 1e3)),
)
def test_surface_dice_of_other_spacings_equals_comparing_all_elements(
    masks: Masks, spacing: tuple[float, float, float], tolerance: float
) -> None:
    areas = element_areas(spacing)
    expected = reference.surface_dice(masks.prediction > 0, masks.truth > 0, tolerance, areas, spacing)
    assert surface_dice(*masks, tolerance=tolerance, spacing=spacing) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 3.0, 0.5), (0.7, 1.1, 1.9)])
def test_areas_of_elements_are_those_of_monai(spacing: tuple[float, float, float]) -> None:
    utils = pytest.importorskip("monai.metrics.utils")
    table, _ = utils.create_table_neighbour_code_to_surface_area(spacing, device=torch.device("cpu"))
    np.testing.assert_allclose(element_areas(spacing), np.asarray(table), rtol=1e-6)


@pytest.mark.parametrize("width", [62, 63, 64, 65, 127, 128, 130])
def test_surface_dice_is_right_across_the_words_of_a_row(width: int) -> None:
    random = np.random.default_rng(width)
    pair = [(random.random((2, 2, width)) < 0.03).astype(np.uint8) for _ in range(2)]
    expected = reference.surface_dice(pair[0] > 0, pair[1] > 0, 2.0, element_areas())
    assert 0 < expected < 1
    assert surface_dice(*pair) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(mask_pairs())
def test_voi_equals_the_entropies(masks: Masks) -> None:
    split, merge = reference.voi(masks.prediction > 0, masks.truth > 0)
    found = voi_score(*masks)
    assert found.split == pytest.approx(split, abs=1e-9)
    assert found.merge == pytest.approx(merge, abs=1e-9)
    assert found.score == pytest.approx(1 / (1 + 0.3 * (split + merge)), abs=1e-9)


@pytest.mark.parametrize("width", [63, 64, 65, 129])
def test_voi_is_right_across_the_words_of_a_row(width: int) -> None:
    random = np.random.default_rng(width)
    pair = [(random.random((3, 3, width)) < 0.1).astype(np.uint8) for _ in range(2)]
    for mask in pair:
        mask[1, 1, width - 3 :] = 1
    split, merge = reference.voi(pair[0] > 0, pair[1] > 0)
    found = voi_score(*pair)
    assert (found.split, found.merge) == (pytest.approx(split, abs=1e-9), pytest.approx(merge, abs=1e-9))

"""Hysteresis, pinholes, opening, median and cavities: closed cases, laws, and SciPy as a second opinion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sheet_volumes import assert_commutes_with_flips, assert_pure, joins_nothing, masks, pieces, probability_volumes

from volumen.errors import UserError
from volumen.postprocess import (
    close,
    fill_cavities,
    fill_holes,
    hysteresis,
    median,
    opening,
    plug_pinholes,
    remove_small_components,
    threshold,
)

LEVELS = st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)).map(sorted).filter(lambda pair: pair[0] < pair[1])
CONNECTIVITIES = st.sampled_from([6, 18, 26])
RADII = st.tuples(*[st.integers(0, 2)] * 3)


def test_hysteresis_keeps_faint_voxels_beside_clear_ones():
    row = np.array([[[0.4, 0.4, 0.9, 0.4, 0.1, 0.4, 0.4, 0.1, 0.8, np.nan, 0.4]]], dtype=np.float32)
    assert hysteresis(row, 0.3, 0.8).ravel().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert hysteresis(row, 0.3, 0.7).ravel().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(("connectivity", "kept"), [(6, 1), (18, 2), (26, 3)])
def test_hysteresis_through_faces_edges_and_corners(connectivity, kept):
    volume = np.zeros((3, 3, 3), dtype=np.float32)
    volume[1, 1, 1], volume[1, 2, 2], volume[0, 0, 0] = 0.9, 0.4, 0.4
    assert hysteresis(volume, 0.3, 0.5, connectivity).sum() == kept


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.5), (0.0, 0.5), (0.5, 1.0), (float("nan"), 0.5)])
def test_hysteresis_refuses_levels_out_of_order(low, high):
    with pytest.raises(UserError, match="0 < low < high < 1"):
        hysteresis(np.zeros((2, 2, 2), dtype=np.float32), low, high)


def test_unknown_connectivities_are_refused():
    with pytest.raises(UserError, match="connectivity must be one of"):
        hysteresis(np.zeros((2, 2, 2), dtype=np.float32), 0.2, 0.5, 8)
    with pytest.raises(UserError, match="connectivity must be one of"):
        remove_small_components(np.zeros((2, 2, 2), dtype=np.uint8), 0, 8)


@settings(max_examples=60)
@given(probability_volumes(), LEVELS, CONNECTIVITIES)
def test_hysteresis_lies_between_its_thresholds_and_is_idempotent(probabilities, levels, connectivity):
    low, high = levels
    result = assert_pure(lambda volume: hysteresis(volume, low, high, connectivity), probabilities)
    assert (result >= threshold(probabilities, high)).all()
    assert (result <= threshold(probabilities, low)).all()
    again = hysteresis(probabilities * result, low, high, connectivity)
    assert np.array_equal(again, result)
    assert_commutes_with_flips(lambda volume: hysteresis(volume, low, high, connectivity), probabilities)


@settings(max_examples=40)
@given(probability_volumes(), LEVELS, CONNECTIVITIES, st.floats(0, 1))
def test_hysteresis_is_monotone(probabilities, levels, connectivity, share):
    low, high = levels
    result = hysteresis(probabilities, low, high, connectivity)
    higher = np.maximum(probabilities, np.float32(share))
    assert (hysteresis(higher, low, high, connectivity) >= result).all()
    assert (hysteresis(probabilities, low, (low + high) / 2, connectivity) >= result).all()


@settings(max_examples=40)
@given(masks(), st.integers(0, 40), st.sampled_from([(6, 1), (18, 2), (26, 3)]))
def test_small_components_of_each_connectivity_agree_with_scipy(mask, minimum, kind):
    connectivity, rank = kind
    labels, _ = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, rank))
    expected = (mask > 0) & (np.bincount(labels.ravel())[labels] >= minimum)
    result = assert_pure(lambda volume: remove_small_components(volume, minimum, connectivity), mask)
    assert np.array_equal(result, expected)
    assert_commutes_with_flips(lambda volume: remove_small_components(volume, minimum, connectivity), mask)


@settings(max_examples=60)
@given(masks())
def test_every_cavity_is_filled_and_nothing_else(mask):
    result = assert_pure(fill_cavities, mask)
    assert np.array_equal(result, fill_holes(mask, mask.size))
    labels, count = ndimage.label(result == 0, structure=np.ones((3, 3, 3)))
    inside = np.zeros(mask.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    open_labels = np.unique(labels[~inside])
    assert set(range(1, count + 1)) <= set(open_labels.tolist())
    assert_commutes_with_flips(fill_cavities, mask)


def test_a_pinhole_is_plugged_and_a_wider_hole_is_not():
    plate = np.zeros((5, 9, 9), dtype=np.uint8)
    plate[2:4, 1:-1, 1:-1] = 1
    plate[2:4, 3, 3] = 0  # a pinhole, right through
    plate[2:4, 5:7, 5:7] = 0
    result = plug_pinholes(plate)
    assert result[2:4, 3, 3].all()
    assert not result[:, 5:7, 5:7].any()
    assert result.sum() == plate.sum() + 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pinholes_between_plates_one_voxel_apart(axis):
    plates = np.zeros((7, 7, 7), dtype=np.uint8)
    plates[[2, 4]] = 1
    plates[2, 3, 3] = plates[4, 1, 5] = 0
    result = np.moveaxis(plug_pinholes(np.moveaxis(plates, 0, axis)), axis, 0)
    assert result[[2, 4]].all()
    assert not result[3].any()
    assert pieces(result) == 2


def test_a_pinhole_at_the_border_needs_all_four_neighbours():
    plate = np.ones((1, 4, 4), dtype=np.uint8)
    plate[0, 1, 1] = plate[0, 0, 3] = plate[0, 3, 2] = 0
    result = plug_pinholes(plate)
    assert result[0, 1, 1] == 1
    assert result.sum() == 14


@settings(max_examples=80)
@given(masks())
def test_plugs_add_only_and_never_join_components(mask):
    result = assert_pure(plug_pinholes, mask)
    assert (result >= mask).all()
    assert pieces(result) == pieces(mask)
    assert joins_nothing(mask, result)
    assert_commutes_with_flips(plug_pinholes, mask)


@settings(max_examples=60)
@given(masks(), RADII)
def test_closing_and_opening_are_dual_idempotent_and_ordered(mask, radii):
    closed = assert_pure(lambda volume: close(volume, radii), mask)
    opened = assert_pure(lambda volume: opening(volume, radii), mask)
    assert (opened <= mask).all()
    assert (mask <= closed).all()
    assert np.array_equal(opening(1 - mask, radii), 1 - closed)
    assert np.array_equal(opening(opened, radii), opened)
    assert np.array_equal(close(closed, radii), closed)
    assert_commutes_with_flips(lambda volume: close(volume, radii), mask)
    assert_commutes_with_flips(lambda volume: opening(volume, radii), mask)


@settings(max_examples=40)
@given(masks(), RADII)
def test_boxes_agree_with_scipy(mask, radii):
    box = np.ones([2 * radius + 1 for radius in radii])
    around = [(2 * radius, 2 * radius) for radius in radii]
    inside = tuple(slice(2 * radius, 2 * radius + length) for radius, length in zip(radii, mask.shape, strict=True))
    assert np.array_equal(close(mask, radii), ndimage.binary_closing(np.pad(mask, around), box)[inside])
    padded = np.pad(mask, around, constant_values=1)
    eroded = ndimage.binary_erosion(padded, box, border_value=1)
    assert np.array_equal(opening(mask, radii), ndimage.binary_dilation(eroded, box)[inside])


def test_one_radius_means_three_and_a_flat_box_acts_on_its_axes_only():
    mask = (np.random.default_rng(3).random((9, 9, 9)) < 0.4).astype(np.uint8)
    assert np.array_equal(close(mask, 1), close(mask, (1, 1, 1)))
    plates = np.zeros((9, 9, 9), dtype=np.uint8)
    plates[[2, 4]] = 1
    plates[:, 4] = 0
    result = close(plates, (0, 1, 1))
    assert result[[2, 4]].all()
    assert result.sum() == 2 * 81


def test_opening_removes_what_the_box_does_not_fit_into():
    volume = np.zeros((12, 12, 12), dtype=np.uint8)
    volume[2:5, 2:10, 2:10] = 1
    plate = volume.copy()
    volume[5:10, 5, 5] = 1  # a thread on the plate
    assert np.array_equal(opening(volume, 1), plate)
    with pytest.raises(UserError, match="radius must be 0 or more"):
        opening(volume, (1, -1, 0))


@settings(max_examples=60)
@given(masks(), st.integers(1, 3))
def test_median_agrees_with_scipy_and_treats_both_sides_alike(mask, iterations):
    expected = mask
    for _ in range(iterations):
        expected = ndimage.median_filter(expected, size=3, mode="nearest")
    result = assert_pure(lambda volume: median(volume, iterations), mask)
    assert np.array_equal(result, expected)
    assert np.array_equal(median(1 - mask, iterations), 1 - result)
    assert_commutes_with_flips(lambda volume: median(volume, iterations), mask)


def test_median_refuses_a_negative_number():
    with pytest.raises(UserError, match="0 iterations or more"):
        median(np.zeros((2, 2, 2), dtype=np.uint8), -1)

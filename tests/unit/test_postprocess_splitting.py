"""Fused sheets cut apart: bridged plates become two, single sheets stay as they are, bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sheet_volumes import assert_pure, heights, masks, pieces, sheet

from volumen.errors import UserError
from volumen.postprocess import count, split_fused

LEVELS = (0.6, 0.7, 0.8)
KINDS = ["flat", "tilted", "curved"]


def split(mask: np.ndarray, probabilities: np.ndarray, minimum: int = 200, share: float = 0.1) -> np.ndarray:
    return split_fused(mask, probabilities, LEVELS, minimum, share)


def bridged(kind: str, distance: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of two parallel sheets and 3 for a bridge between them, their mask and probabilities."""
    lower, upper = (sheet(heights(kind, 40, middle), 56) for middle in (20, 20 + distance))
    between = sheet(heights(kind, 40, 20 + distance / 2), 56, distance)
    between[:, :15] = between[:, 20:] = between[:, :, :10] = between[:, :, 30:] = 0
    labels = np.where(lower, 1, np.where(upper, 2, np.where(between, 3, 0)))
    probabilities = np.array([0.1, 0.9, 0.9, 0.55], np.float32)[labels]
    return labels, (labels > 0).astype(np.uint8), probabilities


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_bridged_sheets_become_two(kind, axis):
    labels, mask, probabilities = bridged(kind)
    assert pieces(mask) == 1
    turned = np.ascontiguousarray(np.moveaxis(probabilities, 0, axis))
    result = assert_pure(lambda volume: split(volume, turned), np.ascontiguousarray(np.moveaxis(mask, 0, axis)))
    result = np.moveaxis(result, axis, 0)
    assert pieces(result) == 2
    assert (result <= mask).all()
    lost = mask > result
    assert (labels[lost] == 3).all()  # the sheets themselves lose nothing
    assert 0 < lost.sum() < (labels == 3).sum()


def test_three_sheets_that_part_at_different_levels():
    middles, names = (12, 20, 28), (0.9, 0.9, 0.9)
    probabilities = np.zeros((40, 40, 40), np.float32)
    for middle, value in zip(middles, names, strict=True):
        probabilities[middle - 1 : middle + 2] = value
    probabilities[14:19, 10:20, 10:20] = 0.55
    probabilities[22:27, 20:30, 20:30] = 0.75
    mask = (probabilities > 0.5).astype(np.uint8)
    assert pieces(mask) == 1
    assert pieces(split_fused(mask, probabilities, [0.6], 200, 0.1)) == 2
    assert pieces(split(mask, probabilities)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_sheet_stays_identical_even_where_a_higher_level_would_break_it(kind):
    mask = sheet(heights(kind, 40, 28), 56)
    probabilities = mask * np.float32(0.9)
    probabilities[:, 18:21] *= np.float32(0.62)  # a faint seam
    assert pieces(((probabilities > 0.6) & (mask > 0)).astype(np.uint8)) == 2
    assert np.array_equal(split(mask, probabilities), mask)


def test_a_folded_sheet_without_a_dip_stays_identical():
    z, y, _ = np.mgrid[:60, :52, :30]
    radius = np.hypot(z - 30, y - 20)
    bent = (((radius > 12) & (radius < 16) & (y < 20)) | ((np.abs(np.abs(z - 30) - 14) < 2) & (y >= 20))).astype(
        np.uint8
    )
    assert pieces(bent) == 1
    assert np.array_equal(split(bent, bent * np.float32(0.95)), bent)


def test_only_the_fused_component_changes():
    _, mask, probabilities = bridged("flat")
    mask, probabilities = (np.pad(volume, ((0, 20), (0, 0), (0, 0))) for volume in (mask, probabilities))
    mask[60:63] = 1
    probabilities[60:63] = 0.55
    result = split(mask, probabilities)
    assert pieces(result) == 3
    assert result[60:63].all()


def test_pieces_below_the_minimum_are_absorbed():
    _, mask, probabilities = bridged("flat")
    assert np.array_equal(split(mask, probabilities, minimum=10_000), mask)
    probabilities[23, 17, 20] = 0.95  # a clear spot in the bridge
    result = split(mask, probabilities)
    assert pieces(result) == 2


def test_a_bridge_in_a_corner_of_a_large_volume_is_found():
    probabilities = np.zeros((100, 100, 100), np.float32)
    probabilities[60:63] = probabilities[68:71] = 0.9
    probabilities[63:68, 90:94, 3:8] = 0.55
    mask = (probabilities > 0.5).astype(np.uint8)
    result = split(mask, probabilities)
    assert pieces(mask) == 1
    assert pieces(result) == 2
    assert count(result).components == 2


@settings(max_examples=60)
@given(masks(20), st.integers(0, 2**20), st.integers(1, 30), st.floats(0, 0.5))
def test_the_result_is_a_subset_with_no_fewer_components(mask, seed, minimum, share):
    probabilities = np.random.default_rng(seed).random(mask.shape, dtype=np.float32)
    result = assert_pure(lambda volume: split_fused(volume, probabilities, LEVELS, minimum, share), mask)
    assert (result <= mask).all()
    assert pieces(result) >= pieces(mask)
    assert np.array_equal(split_fused(mask, probabilities, LEVELS, max(1, mask.size), share), mask)


def test_wrong_settings_are_refused():
    mask, probabilities = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.float32)
    for levels in ([], [0.5, 0.5], [0.7, 0.6], [0.0], [1.0], [float("nan")]):
        with pytest.raises(UserError, match="levels must increase"):
            split_fused(mask, probabilities, levels, 5, 0.1)
    with pytest.raises(UserError, match="one shape"):
        split_fused(mask, probabilities[1:], LEVELS, 5, 0.1)
    with pytest.raises(UserError, match="smallest piece"):
        split_fused(mask, probabilities, LEVELS, 0, 0.1)
    with pytest.raises(UserError, match="folded share"):
        split_fused(mask, probabilities, LEVELS, 5, -0.1)

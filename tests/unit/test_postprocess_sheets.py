"""Patches of holes in sheets: sheets with known holes, and the laws that hold for any mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sheet_volumes import assert_pure, heights, joins_nothing, masks, pieces, sheet

from volumen.errors import UserError
from volumen.postprocess import count, patch_sheets
from volumen.postprocess.columns import blocks

KINDS = ["flat", "tilted", "curved"]


def punched(mask: np.ndarray, row: int, column: int, radius: float) -> np.ndarray:
    """The mask without a round hole through all planes."""
    y, x = np.mgrid[: mask.shape[1], : mask.shape[2]]
    result = mask.copy()
    result[:, (y - row) ** 2 + (x - column) ** 2 <= radius**2] = 0
    return result


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thickness", [3, 5])
def test_a_holed_sheet_becomes_the_sheet(kind, thickness, axis):
    whole = sheet(heights(kind, 32, 20), 40, thickness)
    holed = punched(whole, 14, 17, 5.2)
    assert count(holed).tunnels == 1
    result = assert_pure(lambda mask: patch_sheets(mask, 100), np.ascontiguousarray(np.moveaxis(holed, 0, axis)))
    result = np.moveaxis(result, axis, 0)
    counts = count(result)
    assert (counts.components, counts.tunnels, counts.cavities) == (1, 0, 0)
    assert (result >= holed).all()
    hole = whole > holed
    assert (result & hole).sum() > 0.9 * hole.sum()
    assert (result > whole).sum() < 0.2 * hole.sum()


def test_a_flat_sheet_is_restored_exactly_and_any_thickness_will_do():
    for thickness in (1, 2, 3):
        whole = sheet(heights("flat", 24, 9), 20, thickness)
        assert np.array_equal(patch_sheets(punched(whole, 11, 12, 4), 60), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_sheets_without_holes_are_unchanged(kind):
    whole = sheet(heights(kind, 32, 20), 40)
    assert np.array_equal(patch_sheets(whole, 10_000), whole)
    notched = punched(whole, 0, 16, 5)  # open at the volume's border
    assert np.array_equal(patch_sheets(notched, 10_000), notched)


def test_the_area_of_a_hole_decides():
    holed = punched(sheet(heights("flat", 32, 9), 20), 10, 10, 1)  # five pixels
    assert np.array_equal(patch_sheets(holed, 4), holed)
    assert count(patch_sheets(holed, 5)).tunnels == 0
    assert np.array_equal(patch_sheets(holed, 0), holed)


@pytest.mark.parametrize("gap", [1, 2, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_parallel_sheets_stay_two(kind, gap):
    lower, upper = (sheet(heights(kind, 32, middle), 48) for middle in (18, 21 + gap))
    holed = punched(lower, 16, 15, 4) | punched(upper, 9, 20, 3)
    before, result = count(holed), patch_sheets(holed, 100)
    assert pieces(result) == pieces(holed)
    assert joins_nothing(holed, result)
    if gap > 1 or kind == "flat":  # nearer, inclined sheets touch by their corners, and count as one that is folded
        assert pieces(result) == 2
        assert count(result).tunnels < before.tunnels
    if gap == 6 or kind == "flat":  # nearer, a patch may find no room
        assert count(result).tunnels == 0


def test_a_hole_that_cannot_be_closed_without_touching_stays():
    holed = punched(sheet(heights("flat", 24, 9), 20), 11, 12, 4)
    blocked = holed.copy()
    blocked[2:18, 11, 12] = 1  # a rod through the middle of the hole
    assert pieces(blocked) == 2
    assert np.array_equal(patch_sheets(blocked, 100), blocked)


def test_a_spiral_ramp_has_a_hole_in_its_shadow_only_and_stays():
    y, x = np.mgrid[:24, :24] - 11.5
    radius = np.hypot(y, x)
    ramp = sheet(12 + 4 * np.arctan2(y, x) / (2 * np.pi), 24) * ((radius > 3) & (radius < 10)).astype(np.uint8)
    assert (pieces(ramp), count(ramp).tunnels) == (1, 0)
    assert np.array_equal(patch_sheets(ramp, 100), ramp)


def test_a_patch_gets_thinner_where_another_piece_is_near():
    whole = sheet(heights("flat", 24, 9), 20)
    holed = punched(whole, 11, 12, 4)
    holed[11, 10:13, 11:14] = 1  # a scrap one voxel above the sheet, in the middle of the hole
    holed[11, 11, 12] = 1
    result = patch_sheets(holed, 100)
    assert pieces(holed) == pieces(result) == 2
    assert count(result).tunnels == 0
    assert (result & whole).sum() < whole.sum()


def test_folded_pieces_are_left_alone():
    both = sheet(heights("flat", 24, 6), 30) | sheet(heights("flat", 24, 16), 30)
    both[6:17, :, :3] = 1  # one piece that meets every column twice
    holed = punched(both, 12, 12, 2)
    assert np.array_equal(patch_sheets(holed, 100), holed)
    assert not np.array_equal(patch_sheets(holed, 100, maximum_folded_share=1.0), holed)


@settings(max_examples=25)
@given(st.integers(0, 2**20), st.sampled_from(KINDS), st.integers(0, 2))
def test_holes_anywhere_in_a_large_volume_are_closed(seed, kind, axis):
    rng = np.random.default_rng(seed)
    holed = sheet(heights(kind, 70, 34), 72, 4)
    for row, column in rng.integers(6, 64, (4, 2)):
        holed = punched(holed, row, column, rng.uniform(0, 3.5))
    before = count(holed)
    result = np.moveaxis(patch_sheets(np.moveaxis(holed, 0, axis), 300, block_voxels=32), axis, 0)
    after = count(result)
    assert before.tunnels > 0
    assert (after.components, after.tunnels, after.cavities) == (1, 0, 0)
    assert (result >= holed).all()


@settings(max_examples=60)
@given(masks(24), st.integers(0, 60), st.floats(0, 1))
def test_no_mask_loses_voxels_or_has_components_joined(mask, maximum, share):
    result = assert_pure(lambda volume: patch_sheets(volume, maximum, 8, share), mask)
    assert (result >= mask).all()
    assert joins_nothing(mask, result)
    assert pieces(result) == pieces(mask)


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.integers(2, 4), st.floats(0.5, 0.75), st.booleans())
def test_crumpled_stacks_of_torn_sheets_are_patched_but_never_joined(seed, distance, quantile, ragged):
    rng = np.random.default_rng(seed)
    wave = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 5) * 40
    torn = np.zeros((48, 40, 40), np.uint8)
    for middle in range(8, 40, 2 + distance):
        noise = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 1.5)
        torn |= sheet(middle + wave, 48, 2) * (noise < np.quantile(noise, quantile + 0.2))
    if ragged:
        noise = ndimage.gaussian_filter(rng.normal(size=torn.shape), 1)
        torn *= noise < np.quantile(noise, 0.95)
    result = patch_sheets(torn, 200, 24)
    assert (result >= torn).all()
    assert joins_nothing(torn, result)
    assert pieces(result) == pieces(torn)
    before, after = count(torn), count(result)
    assert after.components <= before.components
    assert after.components - after.tunnels + after.cavities >= before.components - before.tunnels + before.cavities


def test_most_tunnels_of_ragged_sheets_are_closed():
    rng = np.random.default_rng(2)
    wave = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 8) * 60
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 64, 64)), 1.5)
    ragged = sheet(20 + wave, 40, 3) * (noise < np.quantile(noise, 0.93)).astype(np.uint8)
    before, after = count(ragged), count(patch_sheets(ragged, 300))
    assert before.tunnels > 10
    assert after.tunnels < before.tunnels / 2


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 60)] * 3), st.integers(8, 24), st.integers(0, 2**20))
def test_blocks_hold_whatever_is_half_their_size(shape, side, seed):
    rng = np.random.default_rng(seed)
    first = np.array([rng.integers(0, max(1, length - side // 2 + 1)) for length in shape])
    last = np.minimum(first + side // 2, shape)
    assert any(
        all(box[a].start <= first[a] and last[a] <= box[a].stop for a in range(3)) for box in blocks(shape, side)
    )


def test_wrong_settings_are_refused():
    mask = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(UserError, match="largest hole"):
        patch_sheets(mask, -1)
    with pytest.raises(UserError, match="folded share"):
        patch_sheets(mask, 5, maximum_folded_share=2)
    with pytest.raises(UserError, match="sides of 8 voxels or more"):
        patch_sheets(mask, 5, block_voxels=4)

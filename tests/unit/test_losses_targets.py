"""Medial surfaces, gaps and capped distances on shapes with known answers."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from volumen.losses.distance import capped_squared_distance, distance_to_interface
from volumen.losses.targets import PRECOMPUTE, medial_surface, sheet_gap


def everywhere(target: np.ndarray) -> np.ndarray:
    return np.ones(target.shape, bool)


def tilted_plane(seed: int, size: int = 36) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance of voxel centres to a plane of random tilt, and half a random thickness."""
    generator = np.random.default_rng(seed)
    normal = generator.normal(size=3)
    normal /= np.linalg.norm(normal)
    centres = np.stack(np.meshgrid(*[np.arange(size) - size / 2 + 0.5] * 3, indexing="ij"), -1)
    return centres @ normal - generator.uniform(-1, 1), generator.uniform(0.9, 4.0)


@pytest.mark.parametrize("thickness", range(1, 8))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_medial_surface_of_a_plate_is_its_middle(thickness, axis):
    target = np.zeros((20, 20, 20), np.uint8)
    np.moveaxis(target, axis, 0)[6 : 6 + thickness] = 1
    middle = np.zeros_like(target)
    np.moveaxis(middle, axis, 0)[6 + (thickness - 1) // 2 : 6 + thickness // 2 + 1] = 1
    np.testing.assert_array_equal(medial_surface(target, everywhere(target)), middle)


@pytest.mark.parametrize("seed", range(12))
def test_tilted_sheets_have_a_whole_medial_surface_in_their_middle(seed):
    distance, half = tilted_plane(seed)
    target = (np.abs(distance) < half).astype(np.uint8)
    medial = medial_surface(target, everywhere(target)).astype(bool)
    core = (slice(8, -8),) * 3  # away from the border, which cuts the plane
    assert np.abs(distance[core][medial[core]]).max() < 1.1
    far = ndimage.distance_transform_edt(~medial)
    assert far[core][np.abs(distance[core]) < 0.5].max() <= 1.5
    assert medial.sum() < 0.75 * target.sum() or half < 1.5


@pytest.mark.parametrize("seed", range(12))
def test_gaps_between_tilted_sheets_are_found_and_open_sides_are_not(seed):
    distance, half = tilted_plane(seed)
    between = np.abs(distance) < half
    target = ((np.abs(distance) < half + 3) & ~between).astype(np.uint8)
    width = sheet_gap(target, everywhere(target))
    core = (slice(8, -8),) * 3
    assert not width[core][np.abs(distance[core]) >= 1.1].any()
    far = ndimage.distance_transform_edt(width == 0)
    assert far[core][np.abs(distance[core]) < 0.5].max() <= 1.5
    found = width[core][width[core] > 0]
    assert np.abs(found.astype(float) - 2 * half).max() <= 2.5


@pytest.mark.parametrize("gap", [1, 2, 3, 4, 5, 9])
def test_gap_width_of_flat_sheets(gap):
    target = np.zeros((24, 12, 12), np.uint8)
    target[4:6] = target[6 + gap : 9 + gap] = 1
    expected = np.zeros_like(target)
    expected[6 + (gap - 1) // 2 : 6 + gap // 2 + 1, 1:-1, 1:-1] = gap - (gap % 2 == 0)
    np.testing.assert_array_equal(sheet_gap(target, everywhere(target)), expected)


def test_ignored_voxels_are_never_marked_and_never_a_sheet():
    target = np.zeros((20, 12, 12), np.uint8)
    target[4:7] = 1
    valid = everywhere(target)
    valid[11:] = False  # four layers of background between the sheet and the unlabelled rest: no gap
    target[11:] = 1
    assert not sheet_gap(target, valid).any()
    medial = medial_surface(target, valid)
    assert medial[5].all()
    assert not medial[11:].any()


@pytest.mark.parametrize("name", list(PRECOMPUTE))
@pytest.mark.parametrize("seed", range(3))
def test_targets_do_not_depend_on_what_is_ignored(name, seed):
    generator = np.random.default_rng(seed)
    target = (ndimage.gaussian_filter(generator.normal(size=(16, 15, 14)), 2) > 0.02).astype(np.uint8)
    valid = generator.random(target.shape) > 0.2
    other = np.where(valid, target, generator.integers(0, 3, target.shape)).astype(np.uint8)
    made = PRECOMPUTE[name](target, valid)
    assert made.dtype == np.uint8
    assert made.any()
    assert not made[~valid].any()
    np.testing.assert_array_equal(made, PRECOMPUTE[name](other, valid))


@pytest.mark.parametrize("name", list(PRECOMPUTE))
@pytest.mark.parametrize("value", [0, 1])
def test_uniform_targets_have_neither_sheet_nor_gap(name, value):
    target = np.full((6, 6, 6), value, np.uint8)
    assert not PRECOMPUTE[name](target, everywhere(target)).any()
    assert not PRECOMPUTE[name](target, ~everywhere(target)).any()


@pytest.mark.parametrize("cap", [1, 2, 4, 31, 128, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_capped_distance_equals_scipy_below_the_cap(cap, seed):
    generator = np.random.default_rng(seed)
    seeds = generator.random((2, 13, 1 + 9 * seed, 11)) < 0.01
    expected = np.full(seeds.shape, cap)
    for sample, mask in enumerate(seeds):
        if mask.any():
            squared = np.rint(ndimage.distance_transform_edt(~mask) ** 2).astype(int)
            expected[sample] = np.minimum(squared, cap)
    np.testing.assert_array_equal(capped_squared_distance(torch.from_numpy(seeds), cap).numpy(), expected)


def test_distance_to_interface_looks_through_ignored_voxels():
    surface = torch.zeros(1, 12, 1, 1, dtype=torch.bool)
    background = torch.zeros_like(surface)
    surface[:, 8:] = True
    background[:, :6] = True  # voxels 6 and 7 are ignored
    distance = distance_to_interface(surface, background, 4.0, torch.float64).flatten()
    assert distance[:6].tolist() == [4.0, 4.0, 4.0, 4.0, 3.5, 2.5]
    assert distance[8:].tolist() == [2.5, 3.5, 4.0, 4.0]

"""Local shape: what filters over the whole volume give, whatever block a voxel lies in; areas of plates."""

import numpy as np
import pytest
from scipy import ndimage

from volumen.doctor.data.local_shape import (
    FEATURES,
    INVARIANTS,
    JET,
    MARGIN,
    ORDERS,
    SCALES_VOXELS,
    SIDE,
    area_of,
    block_starts,
    local_shape,
    padded,
    within,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 36, 50)), 1.0).astype(np.float32)


@pytest.mark.parametrize("order", ORDERS)
def test_derivatives_equal_those_of_filters(image: np.ndarray, order: tuple[int, int, int]) -> None:
    scale = SCALES_VOXELS[1]
    expected = scale ** sum(order) * ndimage.gaussian_filter(image, scale, order=order, truncate=MARGIN / scale)
    found = local_shape(padded(image, (4, 4, 10)))[len(ORDERS) + ORDERS.index(order)]
    np.testing.assert_allclose(found, expected[4:36, 4:36, 10:42], atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_invariants_turn_with_the_image(image: np.ndarray, axes: tuple[int, int, int]) -> None:
    block = padded(image, (0, 0, 0))
    straight, turned = local_shape(block)[JET:], local_shape(np.ascontiguousarray(block.transpose(axes)))[JET:]
    assert len(straight) == len(INVARIANTS) == FEATURES - JET
    apart = np.abs(turned - straight.transpose(0, *(1 + axis for axis in axes)))
    assert np.quantile(apart, 0.9999) < 1e-5  # where two curvatures are equal and opposite, either is the largest


@pytest.mark.parametrize("shape", [(20, 32, 33), (64, 40, 95), (7, 9, 100)])
def test_blocks_cover_a_volume(shape: tuple[int, int, int]) -> None:
    seen = np.zeros(shape, dtype=int)
    volume = np.arange(np.prod(shape)).reshape(shape)
    for start in block_starts(shape):
        inside = tuple(slice(first, first + SIDE) for first in start)
        seen[inside] += 1
        np.testing.assert_array_equal(padded(volume, start, 0), volume[inside])
    assert seen.min() > 0


@pytest.mark.parametrize("thickness", [3, 5, 8])
def test_a_plate_has_two_faces(thickness: int) -> None:
    mask = np.zeros((SIDE + 2 * MARGIN,) * 3, dtype=np.float32)
    mask[25 : 25 + thickness] = 1
    counted = np.ones((SIDE,) * 3, dtype=bool)
    assert area_of(mask, counted) == pytest.approx(2 * SIDE**2, rel=0.05)
    assert within(mask, 2).sum() == (thickness + 4) * SIDE**2

"""Slices: the right one, the right colours, and the same picture every time."""

import imagecodecs
import numpy as np
import pytest

from volumen.data.pictures import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GAP,
    MOST_SIDE,
    TRUE_POSITIVE,
    TRUTH,
    case_panel,
    choose_slices,
    encode_png,
    slice_panel,
)
from volumen.errors import UserError

SIDE = 160  # large enough not to be enlarged


@pytest.fixture
def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.zeros((6, SIDE, SIDE), dtype=np.uint8)
    truth = np.zeros_like(image)
    truth[3, 10:20, 10:40] = 1
    truth[:, :, 100:] = 2
    mask = np.zeros_like(image)
    mask[3, 15:25, 10:40] = 1
    mask[3, 50:60, 110:120] = 1
    return image, truth, mask


def tinted(picture: np.ndarray, at: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    """On a black image a painted pixel has the colour's own proportions."""
    pixel = picture[at].astype(float)
    return bool(np.allclose(pixel / pixel.max(), np.array(colour) / max(colour), atol=0.03))


def test_each_outcome_has_its_own_colour(volumes):
    picture = slice_panel(*volumes, axis=0, index=3)
    assert picture.shape == (SIDE, 3 * SIDE + 2 * GAP, 3)
    truth, prediction = SIDE + GAP, 2 * (SIDE + GAP)
    assert (picture[:, :SIDE] == 0).all()  # the image is left alone
    assert tinted(picture, (12, truth + 20), TRUTH)
    assert (picture[50, truth + 20] == 0).all()
    assert tinted(picture, (17, prediction + 20), TRUE_POSITIVE)
    assert tinted(picture, (22, prediction + 20), FALSE_POSITIVE)
    assert tinted(picture, (12, prediction + 20), FALSE_NEGATIVE)
    assert (picture[50, prediction + 20] == 0).all()


def test_voxels_without_a_label_are_grey_hatched_and_never_judged(volumes):
    picture = slice_panel(*volumes, axis=0, index=3)
    for panel in (SIDE + GAP, 2 * (SIDE + GAP)):
        ignored = picture[70:90, panel + 105 : panel + 150].astype(int)
        assert np.ptp(ignored, axis=2).max() < 12  # no colour
        assert len(np.unique(ignored[..., 0])) == 2  # ground and hatching
    judged = picture[50:60, 2 * (SIDE + GAP) + 110 : 2 * (SIDE + GAP) + 120].astype(int)
    assert np.ptp(judged, axis=2).max() < 12


def test_slices_go_through_the_surface_and_through_the_middle_without_any(volumes):
    _, truth, _ = volumes
    assert choose_slices(truth) == (3, 14, 24)
    assert choose_slices(np.zeros((6, 8, 10), dtype=np.uint8)) == (3, 4, 5)


def test_small_slices_are_enlarged_and_pictures_are_deterministic():
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (5, 40, 30), dtype=np.uint8)
    truth = random.integers(0, 3, image.shape, dtype=np.uint8)
    mask = random.integers(0, 2, image.shape, dtype=np.uint8)
    assert slice_panel(image, truth, mask, 0, 2).shape == (200, 3 * 150 + 2 * GAP, 3)
    first, second = (encode_png(case_panel(image, truth, mask)) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(imagecodecs.png_decode(first), case_panel(image, truth, mask))


def test_a_constant_image_is_no_division_by_zero():
    flat = np.full((4, 4, 4), 7, dtype=np.uint8)
    assert slice_panel(flat, flat * 0, flat * 0, 1, 0).dtype == np.uint8


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9000), (9000, 1, 1), (1, 9000, 1), (1, 2500, 2100), (700, 1, 2)])
def test_pictures_of_odd_shapes_are_bounded_and_of_the_whole_slice(shape):
    truth = np.zeros(shape, dtype=np.uint8)
    truth[-1, -1, -1] = 1
    picture = case_panel(truth, truth, truth)
    assert picture.shape[0] <= 3 * (MOST_SIDE + GAP)
    assert picture.shape[1] <= 3 * (MOST_SIDE + GAP)
    assert picture.size
    assert imagecodecs.png_decode(encode_png(picture)).shape == picture.shape


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4, 0), (4, 4), (2, 2, 2, 2)])
def test_what_has_no_slices_is_refused(shape):
    nothing = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(UserError, match="there is no slice"):
        slice_panel(nothing, nothing, nothing, 0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -1e38])
def test_voxels_that_are_no_numbers_are_pictures_all_the_same(value):
    image = np.full((3, 130, 130), value, dtype=np.float32)
    nothing = np.zeros(image.shape, dtype=np.uint8)
    assert (slice_panel(image, nothing, nothing, 0, 0)[:, :130] == 0).all()
    image[:, :, 65:] = 7
    image[:, :, 100:] = 9
    assert slice_panel(image, nothing, nothing, 0, 0).dtype == np.uint8


@pytest.mark.parametrize(("axis", "index"), [(3, 0), (0, 6), (0, -1)])
def test_a_slice_that_is_not_there_is_refused(volumes, axis, index):
    with pytest.raises(UserError, match="there is no slice"):
        slice_panel(*volumes, axis=axis, index=index)
    with pytest.raises(UserError, match="same shape"):
        slice_panel(volumes[0][:2], volumes[1], volumes[2], 0, 0)

"""Post-processing: closed cases with known results, the laws of each step, and SciPy as a second opinion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volumen.config.postprocessing import Close, FillHoles, Postprocessing, RemoveSmallComponents, Threshold
from volumen.errors import UserError
from volumen.postprocess import apply_pipeline, close, describe, fill_holes, remove_small_components, threshold

FULL = np.ones((3, 3, 3), dtype=bool)


@st.composite
def masks(draw):
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    share = draw(st.floats(0, 1))
    seed = draw(st.integers(0, 2**20))
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


def shell(side: int, hollow: int) -> np.ndarray:
    """A solid cube with a cubic cavity in its middle, and a margin of background around it."""
    volume = np.zeros((side + 4,) * 3, dtype=np.uint8)
    volume[2:-2, 2:-2, 2:-2] = 1
    start = 2 + (side - hollow) // 2
    volume[(slice(start, start + hollow),) * 3] = 0
    return volume


def test_threshold_is_strict_and_nan_is_background():
    probabilities = np.array([[[0.2, 0.5, 0.50001, np.nan, 1]]], dtype=np.float32)
    mask = threshold(probabilities, 0.5)
    assert mask.dtype == np.uint8
    assert mask.ravel().tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, float("nan")])
def test_a_threshold_that_decides_nothing_is_refused(level):
    with pytest.raises(UserError, match="between 0 and 1"):
        threshold(np.zeros((1, 1, 1), dtype=np.float32), level)


def test_closing_joins_plates_across_a_narrow_gap_only():
    plates = np.zeros((12, 8, 8), dtype=np.uint8)
    plates[[2, 5, 9]] = 1  # gaps of 2 and 3 voxels
    closed = close(plates, 1)
    assert closed[:, 4, 4].nonzero()[0].tolist() == [2, 3, 4, 5, 9]


@settings(max_examples=60, deadline=None)
@given(masks(), st.integers(1, 3))
def test_closing_agrees_with_scipy_loses_nothing_and_is_idempotent(mask, radius):
    closed = close(mask, radius)
    padded = np.pad(mask, 2 * radius)
    expected = ndimage.binary_closing(padded, np.ones((2 * radius + 1,) * 3))
    inside = (slice(2 * radius, -2 * radius),) * 3
    assert np.array_equal(closed, expected[inside])
    assert (closed >= mask).all()
    assert np.array_equal(close(closed, radius), closed)


@pytest.mark.parametrize(("maximum", "filled"), [(26, False), (27, True), (1000, True)])
def test_a_cavity_is_filled_up_to_its_size(maximum, filled):
    volume = shell(7, 3)
    result = fill_holes(volume, maximum)
    assert int(result.sum()) == (343 if filled else 316)
    assert result[0, 0, 0] == 0


def test_a_hole_that_is_open_to_the_outside_is_no_cavity():
    volume = shell(7, 3)
    volume[5, 5, 5:] = 0  # a channel from the cavity to the margin
    assert np.array_equal(fill_holes(volume, 10_000), volume)
    at_border = np.ones((4, 4, 4), dtype=np.uint8)
    at_border[0, 1, 1] = 0
    assert np.array_equal(fill_holes(at_border, 10_000), at_border)


def test_background_that_leaks_through_a_corner_is_open_as_in_the_leaderboard():
    volume = np.ones((5, 5, 5), dtype=np.uint8)
    volume[2, 2, 2] = volume[1, 1, 1] = volume[0, 0, 0] = 0
    assert np.array_equal(fill_holes(volume, 10), volume)


@settings(max_examples=60, deadline=None)
@given(masks(), st.integers(1, 60))
def test_filling_agrees_with_a_slow_reference(mask, maximum):
    labels, count = ndimage.label(mask == 0, structure=FULL)
    expected = mask.copy()
    for number in range(1, count + 1):
        piece = labels == number
        corners = np.argwhere(piece)
        open_to_outside = (corners == 0).any() or (corners == np.array(mask.shape) - 1).any()
        if not open_to_outside and piece.sum() <= maximum:
            expected[piece] = 1
    assert np.array_equal(fill_holes(mask, maximum), expected)


@settings(max_examples=60, deadline=None)
@given(masks(), st.integers(0, 40))
def test_small_components_agree_with_scipy(mask, minimum):
    labels, _ = ndimage.label(mask, structure=FULL)
    sizes = np.bincount(labels.ravel())
    expected = (mask > 0) & (sizes[labels] >= minimum)
    before = mask.copy()
    assert np.array_equal(remove_small_components(mask, minimum), expected)
    assert np.array_equal(mask, before)  # the argument is not changed


def test_pieces_that_touch_at_a_corner_count_as_one():
    mask = np.zeros((4, 4, 4), dtype=np.uint8)
    mask[1, 1, 1] = mask[2, 2, 2] = 1
    assert remove_small_components(mask, 2).sum() == 2
    assert remove_small_components(mask, 3).sum() == 0


SMALL = RemoveSmallComponents(kind="remove_small_components", minimum_voxels=5)


@settings(max_examples=40, deadline=None)
@given(masks())
def test_the_default_pipeline_is_the_threshold_alone(mask):
    probabilities = mask * np.float32(0.8)
    assert np.array_equal(apply_pipeline(probabilities, Postprocessing()), mask)


def test_steps_run_in_the_stated_order():
    volume = np.zeros((20, 20, 20), dtype=np.uint8)
    volume[4:13, 4:13, 4:13] = 1
    volume[7:10, 7:10, 7:10] = 0  # a cavity of 27 ...
    volume[8, 8, 10:13] = 0  # ... open through a pinhole, which closing plugs
    volume[17, 17, 17] = 1  # and a speck
    probabilities = volume * np.float32(0.9)
    steps = (Threshold(), Close(kind="close"), FillHoles(kind="fill_holes", maximum_voxels=40), SMALL)
    settings_ = Postprocessing(steps=steps)
    result = apply_pipeline(probabilities, settings_)
    assert result.dtype == np.uint8
    assert int(result.sum()) == 729
    without = Postprocessing(steps=(steps[0], *steps[2:]))
    assert int(apply_pipeline(probabilities, without).sum()) == 729 - 27 - 3
    assert describe(settings_) == (
        "probability above 0.5, close (radius voxels 1 1 1), fill holes (maximum voxels 40), "
        "remove small components (minimum voxels 5, connectivity 26)"
    )


@pytest.mark.parametrize(("side", "least"), [(160, 2000), (64, 320), (32, 80), (16, 20)])
def test_what_is_small_where_nothing_is_said_depends_on_the_volume(side: int, least: int) -> None:
    """A sheet of a small volume is no speck."""
    probabilities = np.zeros((side,) * 3, dtype=np.float32)
    probabilities[1, 1:-1].reshape(-1)[:least] = 1.0
    probabilities[-2, 1:-1].reshape(-1)[: least - 1] = 1.0  # a speck
    settings = Postprocessing.model_validate({"steps": ({"kind": "threshold"}, {"kind": "remove_small_components"})})
    mask = apply_pipeline(probabilities, settings)
    assert (mask[1].sum(), mask[-2].sum()) == (least, 0)
    assert "5/64 of a face of the volume" in describe(settings)

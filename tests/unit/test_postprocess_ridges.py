"""Sharpening across sheets: identity where it should be, lower valleys, higher ridges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sheet_volumes import FLIPS, probability_volumes

from volumen.errors import UserError
from volumen.postprocess import hysteresis, sharpen_ridges
from volumen.postprocess.ridges import ALPHA, GAMMA


def touching_sheets(axis: int = 0) -> np.ndarray:
    """Two sheets three voxels thick whose probabilities run together: 0.8 in the middles, about 0.6 between them."""
    volume = np.zeros((24, 20, 20), np.float32)
    volume[8:11] = volume[13:16] = 1
    return np.moveaxis(np.minimum(ndimage.gaussian_filter(volume, 1.3), 1).astype(np.float32), 0, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_valley_between_touching_sheets_gets_lower_than_their_ridges(axis):
    before = np.moveaxis(touching_sheets(axis), axis, 0)[:, 10, 10]
    after = np.moveaxis(sharpen_ridges(touching_sheets(axis), 1.0, 1.0), axis, 0)[:, 10, 10]
    ridges, valley = [9, 14], [11, 12]
    assert (after[ridges] > before[ridges]).all()
    assert (after[valley] < before[valley]).all()
    assert after[valley].max() / after[ridges].min() < 0.8 * before[valley].max() / before[ridges].min()


def test_sharpening_separates_what_a_threshold_joins():
    before = touching_sheets()
    after = sharpen_ridges(before, 1.0, 1.0)
    assert (before[8:16] > 0.45).all()
    assert not (after[11:13] > 0.45).all(axis=(1, 2)).any()
    assert hysteresis(after, 0.45, 0.6)[9].all()


def test_flat_probabilities_and_the_inside_of_thick_sheets_stay():
    assert np.allclose(sharpen_ridges(np.full((9, 9, 9), 0.7, np.float32), 1.5, 1), 0.7)
    thick = np.zeros((30, 12, 12), np.float32)
    thick[8:22] = 0.9
    assert np.allclose(sharpen_ridges(thick, 1, 1)[13:17], 0.9)


def test_a_bright_line_and_a_blob_are_raised_less_than_a_sheet():
    gains = []
    for free in ((1, 2), (2,), ()):
        volume = np.zeros((21, 21, 21), np.float32)
        volume[tuple(slice(None) if axis in free else slice(9, 12) for axis in range(3))] = 0.5
        gains.append(float(sharpen_ridges(volume, 1.5, 1)[10, 10, 10] - 0.5))
    assert gains[0] > 0.2
    assert gains[0] > 3 * gains[1] > 0
    assert gains[0] > 3 * gains[2]


@settings(max_examples=30)
@given(probability_volumes(), st.floats(0.5, 2), st.floats(0.01, 1))
def test_the_laws_of_sharpening(probabilities, scale, weight):
    probabilities *= probabilities > 0.3
    before = probabilities.copy()
    result = sharpen_ridges(probabilities, scale, weight)
    assert np.array_equal(probabilities, before)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert (result >= 0).all()
    assert (result <= 1).all()
    assert not result[probabilities == 0].any()
    assert np.array_equal(sharpen_ridges(probabilities, scale, 0), probabilities)
    assert (result >= (1 - weight) * probabilities - 1e-6).all()
    assert (result <= probabilities + weight * probabilities * (1 - probabilities) + 1e-6).all()
    half = sharpen_ridges(probabilities, scale, weight / 2)  # linear in the weight
    assert np.allclose(half - probabilities, (result - probabilities) / 2, atol=1e-6)
    for axes in FLIPS:
        assert np.allclose(
            sharpen_ridges(np.flip(probabilities, axes), scale, weight), np.flip(result, axes), atol=1e-4
        )


def test_the_formula_agrees_with_a_general_eigenvalue_solver():
    rng = np.random.default_rng(5)
    probabilities = rng.random((9, 10, 11), dtype=np.float32)
    smooth = np.pad(ndimage.gaussian_filter(probabilities, 1.2, mode="nearest", truncate=3.0), 1, mode="edge")

    def shifted(*steps: int) -> np.ndarray:
        return smooth[tuple(slice(1 + a, length - 1 + a) for a, length in zip(steps, smooth.shape, strict=True))]

    hessian = np.empty((*probabilities.shape, 3, 3))
    unit = np.eye(3, dtype=int)
    for a in range(3):
        hessian[..., a, a] = shifted(*unit[a]) + shifted(*-unit[a]) - 2 * shifted(0, 0, 0)
        for b in range(a):
            same, other = unit[a] + unit[b], unit[a] - unit[b]
            cross = shifted(*same) + shifted(*-same) - shifted(*other) - shifted(*-other)
            hessian[..., a, b] = hessian[..., b, a] = cross / 4
    values = np.linalg.eigvalsh(hessian * 1.2**2)
    order = np.argsort(np.abs(values), axis=-1)
    _, b, c = np.moveaxis(np.take_along_axis(values, order, axis=-1), -1, 0)
    plate = np.exp(-((b / c) ** 2) / (2 * ALPHA**2)) * (1 - np.exp(-(values**2).sum(-1) / (2 * GAMMA**2)))
    gain = np.where(c < 0, (1 - probabilities) * plate, -plate)
    expected = probabilities + 0.7 * probabilities * gain
    close_call = np.abs(np.abs(values[..., 0]) - np.abs(values[..., 2])) < 1e-4  # the sign of c is a matter of rounding
    assert np.allclose(sharpen_ridges(probabilities, 1.2, 0.7)[~close_call], expected[~close_call], atol=1e-4)


def test_nan_counts_as_zero_and_wrong_settings_are_refused():
    volume = touching_sheets()
    volume[9, 3, 3] = np.nan
    result = sharpen_ridges(volume, 1, 0.5)
    assert np.isfinite(result).all()
    assert result[9, 3, 3] == 0
    with pytest.raises(UserError, match="scale"):
        sharpen_ridges(volume, 0, 0.5)
    with pytest.raises(UserError, match="weight"):
        sharpen_ridges(volume, 1, 1.5)

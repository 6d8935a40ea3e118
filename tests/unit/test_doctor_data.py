"""Alignment: its peak is where labels were put, and too few voxels are no evidence."""

import numpy as np
import pytest
from scipy import ndimage

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.data.alignment import measure_alignment


def pair(seed: int, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """An image whose bright ridges are the surface."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side,) * 3), 2.0)
    field /= field.std()
    return (40 * field + 120).clip(0, 255).astype(np.uint8), np.where(field > 1.2, SURFACE, 0).astype(np.uint8)


@pytest.mark.parametrize("moved", [(0, 0, 0), (8, 0, 0), (0, -4, 0), (0, 0, 12)])
def test_the_peak_undoes_the_shift(moved) -> None:
    pairs = [(image, np.roll(label, moved, (0, 1, 2))) for image, label in (pair(0), pair(1))]
    found = measure_alignment(pairs)
    assert found is not None
    assert found.best == tuple(-distance for distance in moved)
    assert found.explained[found.best] > 0.3
    assert found.exchanged < 0.05


def test_a_shift_that_leaves_nothing_explains_nothing() -> None:
    image, label = pair(2)
    label[:, :, 10:] = IGNORE  # moved along x by 12 none of it is left
    found = measure_alignment([(image, label)])
    assert found is not None
    assert found.here > 0.3
    assert found.explained[0, 0, -12] == 0.0


def test_too_little_surface_is_no_evidence() -> None:
    image, _ = pair(3)
    assert measure_alignment([(image, np.zeros_like(image))]) is None

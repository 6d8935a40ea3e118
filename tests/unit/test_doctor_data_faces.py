"""A cut volume goes on at the cut and nowhere else; even sheets say nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from volumen.doctor.data.faces import continuations, faces_of


def faces(image: np.ndarray, empty=None):
    case = SimpleNamespace(empty=None if empty is None else SimpleNamespace(values=empty))
    return faces_of(SimpleNamespace(image=image, case=case, label=None))


def textured(seed: int, shape=(64, 64, 64)) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    return (120 + 30 * field / field.std()).clip(1, 255).astype(np.uint8)


@pytest.mark.parametrize("axis", range(3))
def test_halves_of_a_volume_continue_each_other_along_the_cut(axis) -> None:
    whole = textured(3)
    halves = np.split(whole, 2, axis=axis)
    others = [textured(seed, halves[0].shape) for seed in (4, 5)]
    found = continuations([faces(one) for one in (halves[0], others[0], halves[1], others[1])])
    assert [pair[:3] for pair in found] == [(0, 2, axis)]


def test_a_stack_of_even_sheets_continues_nothing() -> None:
    y, x = np.indices((64, 64))
    layer = (100 + 60 * (np.mod(x + 0.3 * y, 14) < 5)).astype(np.uint8)
    stack = faces(np.broadcast_to(layer, (64, 64, 64)))
    assert continuations([stack, stack]) == []


def test_a_face_that_the_scan_does_not_fill_says_nothing() -> None:
    image = textured(3)
    image[:, :, :10] = 0
    found = faces(image, empty=(0,))["faces"]
    assert not found[0].any()
    assert found[2, 1].any()

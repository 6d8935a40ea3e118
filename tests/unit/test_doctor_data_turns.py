"""The 48 turns are a group that acts on volumes as on coordinates."""

import numpy as np
import pytest

from volumen.doctor.data.turns import BETWEEN, MATRICES, TURNS, in_words, turned

VOLUME = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.mark.parametrize("number", range(48))
def test_a_turn_moves_a_voxel_as_its_matrix_moves_coordinates(number) -> None:
    after = turned(VOLUME, number)
    for place in np.ndindex(VOLUME.shape):
        about = np.array(place) - (np.array(VOLUME.shape) - 1) / 2
        there = MATRICES[number] @ about + (np.array(after.shape) - 1) / 2
        assert after[tuple(there.astype(int))] == VOLUME[place]


def test_between_two_turns_lies_a_turn() -> None:
    random = np.random.default_rng(0)
    for one, other in random.integers(48, size=(40, 2)).tolist():
        between = turned(turned(VOLUME, BETWEEN[one, other]), one)
        np.testing.assert_array_equal(between, turned(VOLUME, other))


def test_turns_have_different_names() -> None:
    assert len({in_words(number) for number in range(len(TURNS))}) == 48
    assert in_words(0) == ""

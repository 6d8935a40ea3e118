"""A shared part is found however it is turned, moved or recoloured; what is only of one kind is no twin."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from volumen.doctor.data.matching import find_candidates
from volumen.doctor.data.overlap import measure_overlap
from volumen.doctor.data.prints import print_of
from volumen.doctor.data.turns import MATRICES, turned
from volumen.doctor.data.twins import are_same
from volumen.phantoms.scrolls import phantom


def printed(image: np.ndarray):
    return print_of(SimpleNamespace(image=image, case=SimpleNamespace(empty=None), label=None))


def shared(one: np.ndarray, other: np.ndarray):
    """Turn and overlap of two volumes where voxels agree, else None."""
    for found in find_candidates([printed(one), printed(other)]):
        overlap = measure_overlap(one, other, found.turn, found.move)
        if overlap and are_same(overlap, found.votes):
            return found.turn, overlap
    return None


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    return phantom(7, (64, 64, 96), scroll=1, difficulty=0.5).image


def stored(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


CHANGES = {
    "noise": lambda one, random: stored(one + random.normal(0, 40, one.shape)),
    "inverted": lambda one, random: 255 - one,
    "blur": lambda one, random: stored(ndimage.gaussian_filter(one.astype(np.float32), 2)),
    "gamma": lambda one, random: stored(255 * (one / 255.0) ** 2),
    "type": lambda one, random: one.astype(np.uint16) * 257,
}


@pytest.mark.parametrize(("number", "change"), list(enumerate(CHANGES)))
def test_a_moved_crop_is_found_and_its_place_measured(scan, number, change) -> None:
    random = np.random.default_rng(number)
    turn = int(random.integers(48))
    start = [int(random.integers(5)), int(random.integers(5)), int(random.integers(28, 36))]
    part = scan[start[0] :, start[1] :, start[2] :]
    other = np.ascontiguousarray(turned(CHANGES[change](part, random), turn))
    one = np.ascontiguousarray(scan[:, :, :72])
    found = shared(one, other)
    assert found is not None
    back, overlap = found
    np.testing.assert_array_equal(MATRICES[back] @ MATRICES[turn], np.eye(3))
    np.testing.assert_allclose(overlap.move, start, atol=1)
    assert np.sign(overlap.agreement) == (-1 if change == "inverted" else 1)
    expected = (72 - start[2]) * (64 - start[0]) * (64 - start[1]) / min(one.size, other.size)
    assert overlap.share == pytest.approx(expected, rel=0.06)


def stack(seed: int) -> np.ndarray:
    """Even sheets without end."""
    _, y, x = np.indices((64, 64, 64))
    random = np.random.default_rng(seed)
    return stored(100.0 + 60 * (np.mod(x + 0.2 * y, 14) < 5) + random.normal(0, 10, x.shape))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48, 48)).astype(np.uint8)


def scrolls(seed: int) -> np.ndarray:
    return phantom(seed, (64, 64, 64), scroll=0, difficulty=0.4).image


@pytest.mark.parametrize("kind", [stack, noise, scrolls])
def test_volumes_of_one_kind_share_nothing(kind) -> None:
    assert shared(kind(1), kind(2)) is None


@pytest.mark.parametrize("seed", range(4))
def test_small_volumes_of_one_scroll_share_nothing(seed) -> None:
    one, other = (phantom(2 * seed + n, (40, 40, 40), scroll=0, difficulty=0.8).image for n in (0, 1))
    assert shared(one, other) is None


@pytest.mark.parametrize("scroll", range(3))
def test_volumes_that_hold_two_sheets_share_nothing(scroll) -> None:
    images = [phantom(seed, (32, 32, 32), scroll=scroll, difficulty=0.5).image for seed in range(10)]
    assert not [pair for pair in combinations(range(10), 2) if shared(images[pair[0]], images[pair[1]]) is not None]


def test_a_small_volume_and_its_copy_are_still_found() -> None:
    image = phantom(3, (40, 40, 40), scroll=0, difficulty=0.5).image
    turn, overlap = shared(image[:36], image[4:, ::-1].copy())
    assert turn != 0
    assert overlap.agreement > 0.95


def test_a_volume_too_small_for_a_keypoint_has_none() -> None:
    assert len(printed(np.zeros((6, 40, 40), dtype=np.uint8))["places"]) == 0
    assert find_candidates([printed(np.zeros((6, 40, 40), dtype=np.uint8))] * 2) == []


def test_what_the_scan_does_not_hold_has_no_keypoint(scan) -> None:
    image = scan.copy()
    image[:, :, :40] = 0
    seen = SimpleNamespace(image=image, case=SimpleNamespace(empty=SimpleNamespace(values=(0,))), label=None)
    places = print_of(seen)["places"] + (np.array(image.shape) - 1) / 2
    assert len(places)
    assert places[:, 2].min() >= 40

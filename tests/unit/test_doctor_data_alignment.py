"""Alignment: what moved, mirrored or turned labels is told, and whole data sets of every kind are left alone."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.benchmark.volumes import Look, draw_volume
from volumen.doctor.data.alignment import check_alignment, orientation_words
from volumen.doctor.data.placement import HERE, ORIENTATIONS, SHIFTS, measure_placement, turn
from volumen.doctor.data.poses import _Table, find_poses
from volumen.doctor.findings import Severity

SIDE = 44


@cache
def pair(seed: int, kind: str = "sheets") -> tuple[np.ndarray, np.ndarray]:
    """Bright walls on a zero level of a random field, or solid bodies in it, with noise."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal((SIDE,) * 3), 4.0)
    field /= field.std()
    distance = field / np.maximum(np.sqrt(sum(one**2 for one in np.gradient(field))), 1e-3)
    if kind == "sheets":
        image, label = 100 + 60 * np.exp(-((distance / 1.5) ** 2)), np.abs(distance) < 1.5
    else:
        image, label = 100 + 60 / (1 + np.exp(-distance)), field > 0.5
    image += random.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8), np.where(label, SURFACE, 0).astype(np.uint8)


def moved(label: np.ndarray, shift: tuple[int, int, int]) -> np.ndarray:
    """Every label lies further by the shift; what comes in is ignored."""
    result = np.roll(label, shift, (0, 1, 2))
    for axis, step in enumerate(shift):
        gone = slice(0, step) if step > 0 else slice(step or SIDE, None)
        result[(slice(None),) * axis + (gone,)] = IGNORE
    return result


def measured(image: np.ndarray, label: np.ndarray):
    return measure_placement(SimpleNamespace(case=None, image=image, label=label))


@cache
def healthy(kind: str = "sheets", count: int = 4):
    return tuple(measured(*pair(seed, kind)) for seed in range(count))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_points_is_turning_the_array(orientation) -> None:
    axes, signs = orientation
    right = np.random.default_rng(0).permutation(5**3).reshape(5, 5, 5)
    points = np.stack(np.indices(right.shape), axis=-1).reshape(-1, 3)
    lying = right[tuple(turn(points, orientation, np.array(right.shape)).T)].reshape(right.shape)
    flipped = np.flip(right, [axis for axis in range(3) if signs[axis] < 0])
    assert np.array_equal(lying, flipped.transpose(np.argsort(axes)))


def test_no_two_orientations_are_called_the_same() -> None:
    words = [orientation_words(one) for one in ORIENTATIONS]
    assert len(set(words)) == len(ORIENTATIONS)
    assert words[0] == "as they should be"


@pytest.mark.parametrize("shift", [(0, 0, 2), (2, 2, -2), (0, 6, 0)])
def test_a_shift_of_all_labels_is_told_to_a_fraction_of_a_voxel(shift) -> None:
    found = find_poses([measured(image, moved(label, shift)) for image, label in map(pair, range(3))])
    assert found.shared is not None
    assert len(found.followed) >= 2
    assert not found.single
    assert found.shared.shift == pytest.approx(shift, abs=0.5)
    assert found.shared.there > found.shared.here


def test_half_a_voxel_between_two_shifts_lies_between_them() -> None:
    def off(image: np.ndarray, label: np.ndarray):
        return ndimage.shift(image.astype(np.float32), (0, 0, -2.5), order=3, mode="nearest"), label

    found = find_poses([measured(*off(*pair(seed))) for seed in range(3)])
    assert found.shared is not None
    assert found.shared.shift == pytest.approx((0, 0, 2.5), abs=0.35)


@pytest.mark.parametrize("shift", [(0, 0, 3), (-4, 4, 0)])
def test_one_volume_that_is_shifted_is_named_with_its_shift(shift) -> None:
    image, label = pair(2)
    numbers = [*healthy()[:2], measured(image, moved(label, shift)), healthy()[3]]
    found = find_poses(numbers)
    assert found.shared is None
    assert list(found.single) == [2]
    assert found.single[2].shift == pytest.approx(shift, abs=0.7)
    (finding,) = check_alignment(dict(zip("abcd", numbers, strict=True)))
    assert finding.code == "P7"
    assert finding.where == "train_labels/c"
    assert finding.severity == Severity.warn


@pytest.mark.parametrize("number", [1, 9, 30])
def test_an_orientation_is_told_for_one_and_for_all(number) -> None:
    def turned(seed: int):
        image, label = pair(seed)
        points = np.stack(np.indices(label.shape), axis=-1).reshape(-1, 3)
        places = turn(points, ORIENTATIONS[number], np.array(label.shape))
        return measured(image, label[tuple(places.T)].reshape(label.shape))

    single = find_poses([*healthy()[:3], turned(3)])
    assert single.shared is None
    assert {one: pose.orientation for one, pose in single.single.items()} == {3: ORIENTATIONS[number]}
    shared = find_poses([turned(0), turned(1), turned(2)])
    assert shared.shared is not None
    assert shared.shared.orientation == ORIENTATIONS[number]


@pytest.mark.parametrize("kind", ["sheets", "solids"])
def test_labels_that_belong_to_their_images_are_left_alone(kind) -> None:
    assert list(check_alignment(dict(zip("abcd", healthy(kind), strict=True)))) == []


def test_a_constant_image_and_a_label_of_one_class_say_nothing_of_a_place() -> None:
    image, label = pair(0)
    assert measured(image, np.zeros_like(label)) == {}
    assert measured(np.full_like(image, 7), label) == {}
    assert list(check_alignment({"a": {}, "b": {}})) == []


@pytest.mark.parametrize("seed", range(6))
def test_images_that_say_nothing_have_no_pose(seed) -> None:
    random = np.random.default_rng(seed)
    made = [draw_volume(Look("balls", side=32, count=4, noise=0.9), seed, number) for number in range(3)]
    numbers = [measured(random.permuted(one.image.ravel()).reshape(one.image.shape), one.label) for one in made]
    assert find_poses(numbers).single == {}


def test_of_poses_that_are_all_worse_than_nothing_the_best_one_is_taken() -> None:
    table = _Table(list(healthy()))
    explained = np.full(len(SHIFTS) + len(ORIENTATIONS), -0.4)
    explained[HERE + 3] = -0.2
    assert table.best(explained) == HERE + 3


def test_labels_of_other_volumes_have_nothing_to_do_with_their_images() -> None:
    numbers = [measured(pair(seed)[0], pair(seed + 10)[1]) for seed in range(3)]
    (finding,) = check_alignment(dict(zip("abc", numbers, strict=True)))
    assert finding.title == "labels have next to nothing to do with their images"


def test_numbers_do_not_change_with_what_nobody_labelled() -> None:
    image, label = pair(1)
    label = label.copy()
    label[:, :, 30:] = IGNORE
    changed = image.copy()
    changed[:, :, 30 + 2 * 12 :] = 255  # further than shifts and filters reach
    first, second = measured(image, label), measured(changed, label)
    assert np.array_equal(first["at"][HERE], second["at"][HERE])
    assert first["at"].shape[0] == len(SHIFTS)

"""Volumes are functions of their look and seed; what breaks them breaks that and nothing else."""

import numpy as np
import pytest

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.benchmark.corruptions import CORRUPTIONS
from volumen.doctor.benchmark.setups import SETUPS
from volumen.doctor.benchmark.volumes import TRAINING, UNSEEN, VALIDATION, Look, draw_volumes

LOOK = Look("sheets", side=32)
VOLUMES = draw_volumes(LOOK, 0)
IMAGES_KEPT = {
    "ignore_as_surface", "ignore_as_background", "off_by_one_up", "off_by_one_down", "swapped_classes", "label_flip",
    "shuffled_pairs", "missing_components", "shuffled_labels", "thick_labels",
}  # fmt: skip
STRENGTHS = {"image_shift": 4.0, "thick_labels": 1.0, "odd_scales": 0.9}


def corrupted(kind, strength=None, seed=0):
    return CORRUPTIONS[kind](VOLUMES, strength or STRENGTHS.get(kind, 1.0), np.random.default_rng(seed))


@pytest.mark.parametrize("name", SETUPS)
def test_every_set_up_has_volumes_with_all_three_kinds_of_voxels(name):
    found = draw_volumes(SETUPS[name].look, 0)
    assert len(found) == TRAINING + VALIDATION + UNSEEN
    for volume in found:
        assert volume.image.shape == volume.label.shape == (48, 48, 48)
        assert set(np.unique(volume.label)) == {BACKGROUND, SURFACE, IGNORE}
        assert volume.image.std() > 5


def test_volumes_are_functions_of_look_and_seed():
    again, other = draw_volumes(LOOK, 0), draw_volumes(LOOK, 1)
    for one, two, three in zip(VOLUMES, again, other, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.label, two.label)
        assert not np.array_equal(one.label, three.label)


def test_empty_cases_are_empty():
    first, second, *_ = draw_volumes(Look("balls", side=32, empty_cases=1), 0)
    assert not (first.label == SURFACE).any()
    assert (second.label == SURFACE).any()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_changes_what_it_is_about_and_repeats_itself(kind):
    found, again = corrupted(kind), corrupted(kind)
    for before, after, same in zip(VOLUMES, found, again, strict=True):
        np.testing.assert_array_equal(after.image, same.image)
        np.testing.assert_array_equal(after.label, same.label)
        assert np.array_equal(before.image, after.image) == (kind in IMAGES_KEPT)
        assert np.array_equal(before.label, after.label) == (kind not in IMAGES_KEPT)


@pytest.mark.parametrize("kind", ["swapped_classes", "label_flip"])
def test_what_is_done_twice_is_undone(kind):
    random = np.random.default_rng(0)
    for before, after in zip(VOLUMES, CORRUPTIONS[kind](corrupted(kind), 1.0, random), strict=True):
        np.testing.assert_array_equal(before.label, after.label)


@pytest.mark.parametrize("kind", ["shuffled_labels", "label_flip", "shuffled_pairs"])
def test_orders_are_lost_and_counts_kept(kind):
    counts = [sum(np.bincount(one.label.ravel(), minlength=3) for one in found) for found in (VOLUMES, corrupted(kind))]
    np.testing.assert_array_equal(*counts)


def test_off_by_one_down_undoes_off_by_one_up():
    up = corrupted("off_by_one_up")
    for before, after in zip(VOLUMES, CORRUPTIONS["off_by_one_down"](up, 1.0, np.random.default_rng(0)), strict=True):
        np.testing.assert_array_equal(before.label, after.label)


def test_a_share_of_the_volumes_is_changed():
    found = corrupted("swapped_classes", 0.5)
    changed = [not np.array_equal(a.label, b.label) for a, b in zip(VOLUMES, found, strict=True)]
    assert sum(changed) == round(0.5 * len(VOLUMES))


def test_ignored_voxels_stay_where_surface_grows_or_goes_missing():
    for kind in ("thick_labels", "missing_components", "shuffled_labels"):
        for before, after in zip(VOLUMES, corrupted(kind, 0.5 if kind != "thick_labels" else 2.0), strict=True):
            np.testing.assert_array_equal(before.label == IGNORE, after.label == IGNORE)

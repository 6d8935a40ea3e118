"""Parts of patches that are emptied: what is left is untouched, what is gone teaches nothing, and devices agree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_datasets import prepared_dataset
from volumen.config.data import Augmentation, Data
from volumen.data.augment import draw_variation
from volumen.data.device.filling import empty_on
from volumen.data.emptiness import fill_in
from volumen.data.emptying import draw_emptied, empty
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.sampling import PatchDataset

shapes = st.tuples(*[st.integers(8, 20)] * 3)
seeds = st.integers(0, 2**32)


@given(shapes, seeds)
def test_a_part_and_never_all_of_a_patch_is_emptied(shape, seed):
    scan = draw_emptied(shape, np.random.default_rng(seed)).scan()
    assert scan.shape == shape
    assert 0 < np.count_nonzero(scan) < scan.size
    np.testing.assert_array_equal(scan, draw_emptied(shape, np.random.default_rng(seed)).scan())


def test_small_and_large_shares_are_drawn():
    shares = [1 - draw_emptied((24, 32, 20), np.random.default_rng(seed)).scan().mean() for seed in range(300)]
    assert min(shares) < 0.2 < 0.35 < np.median(shares) < 0.6 < 0.8 < max(shares) < 0.97


@given(shapes, seeds, st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_what_is_left_is_untouched_and_the_rest_filled_and_ignored(shape, seed, labelled):
    random = np.random.default_rng(seed)
    image = random.standard_normal(shape).astype(np.float32)
    codes = np.where(random.random(shape) < labelled, random.integers(0, 2, shape), IGNORE).astype(np.uint8)
    emptied = draw_emptied(shape, random)
    scan, (filled, lesson) = emptied.scan(), empty(image, codes, emptied)
    if not np.any(codes[scan] != IGNORE):  # a patch without any lesson is worth nothing
        scan = np.ones(shape, bool)
    np.testing.assert_array_equal(filled, fill_in(image, scan))
    np.testing.assert_array_equal(lesson, np.where(scan, codes, IGNORE))

    target, valid = torch.from_numpy((codes == SURFACE).view(np.uint8)), torch.from_numpy(codes != IGNORE)
    there = empty_on(torch.from_numpy(image.copy()), target, valid, emptied)
    np.testing.assert_array_equal(there.numpy(), filled)
    np.testing.assert_array_equal(target.numpy(), lesson == SURFACE)
    np.testing.assert_array_equal(valid.numpy(), lesson != IGNORE)


@given(st.floats(0, 1), seeds)
def test_nothing_else_of_a_sample_depends_on_it(probability, seed):
    without, with_it = (
        draw_variation(Augmentation(rotations="all", empty_probability=one), (16, 16, 16), np.random.default_rng(seed))
        for one in (0.0, probability)
    )
    for name in ("quarter_turns", "flips", "scale", "shift", "gamma", "noise_std", "blur_sigma_voxels"):
        assert getattr(without, name) == getattr(with_it, name)
    assert without.emptied is None


@pytest.mark.parametrize("own", [0, 9])
def test_samples_are_emptied_last(tmp_path: Path, own: int):
    prepared = prepared_dataset(tmp_path, {"11": "a", "12": "a"}, empty=own)
    with_it, without = (
        PatchDataset(prepared, ["11", "12"], Data(dataset="prepared", patch=(16, 16, 16),
                     augmentation=Augmentation(empty_probability=one, noise_probability=0.0)), 3)
        for one in (1.0, 0.0)
    )  # fmt: skip
    lost = 0
    for key in range(12):
        part, whole = with_it[key], without[key]
        valid = part["valid"]
        assert bool(valid.any())
        assert not bool((valid & ~whole["valid"]).any())
        assert torch.equal(part["image"][0][valid], whole["image"][0][valid])
        assert torch.equal(part["target"], whole["target"] * valid)
        lost += int((whole["valid"] & ~valid).sum())
    assert lost > 12 * 16**3 / 20

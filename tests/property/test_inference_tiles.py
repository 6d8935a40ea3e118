"""Laws of tiling: every voxel covered, and cutting and merging is the identity."""

import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from volumen.data.emptiness import EMPTY_VOXELS, find_emptiness
from volumen.inference.accumulator import merge
from volumen.inference.predictor import Predictor
from volumen.inference.tiles import CoverageError, Tiles, plan_tiles

sides = st.integers(1, 24)
shapes = st.tuples(sides, sides, sides)
tile_sides = st.integers(1, 14)
tile_shapes = st.tuples(tile_sides, tile_sides, tile_sides)
overlaps = st.floats(0, 0.9)
laws = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Plain:
    """Stand-in for the precision policy: no casting."""

    memory_format: torch.memory_format = torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Identity(nn.Module):
    divisor = (1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 1.0


@laws
@given(shapes, tile_shapes, overlaps)
def test_every_voxel_is_covered_and_tiles_stay_inside(shape, tile, overlap):
    tiles = plan_tiles(shape, tile, overlap)
    counts = np.zeros(tiles.padded_shape, dtype=int)
    for origin in tiles.origins:
        assert all(o >= 0 and o + t <= p for o, t, p in zip(origin, tile, tiles.padded_shape, strict=True))
        counts[tiles.window(origin)] += 1
    assert counts.min() >= 1
    assert len(list(tiles.origins)) == len(set(tiles.origins)) == len(tiles)
    for starts, side, length in zip(tiles.starts, tiles.padded_shape, tile, strict=True):
        assert starts[0] == 0
        assert starts[-1] + length == side  # flush with the end


@laws
@given(shapes, tile_shapes, overlaps)
def test_neighbours_share_at_least_the_overlap(shape, tile, overlap):
    for starts, length in zip(plan_tiles(shape, tile, overlap).starts, tile, strict=True):
        step = max(1, int(length * (1 - overlap) + 1e-9))
        assert all(0 < b - a <= step for a, b in itertools.pairwise(starts))


@laws
@given(shapes, tile_shapes, overlaps)
def test_the_normaliser_is_the_sum_of_all_weights(shape, tile, overlap):
    tiles = plan_tiles(shape, tile, overlap)
    depth, height, width = tiles.axis_weights
    weights = depth[:, None, None] * height[:, None] * width
    total = np.zeros(tiles.padded_shape)
    for origin in tiles.origins:
        total[tiles.window(origin)] += weights
    z, y, x = tiles.coverage
    np.testing.assert_allclose(z[:, None, None] * y[:, None] * x, total, rtol=1e-5)
    assert total.min() > 0


@laws
@given(shapes, tile_shapes, overlaps, st.booleans(), st.integers(1, 3), st.integers(0, 2**16))
def test_an_identity_network_returns_its_input(shape, tile, overlap, mirror, batch, seed):
    image = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
    predictor = Predictor(
        Identity(), tile=tile, overlap=overlap, device="cpu", precision=Plain(), mirror=mirror, batch=batch
    )
    result = predictor.logits(image)
    assert result.dtype == np.float32
    assert result.shape == shape
    np.testing.assert_allclose(result, image, atol=2e-5)


class Blur(nn.Module):
    """A network that sees its neighbourhood, so that tiles disagree where they overlap."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images + images.roll(1, -1) + images.roll(-1, -2) + images.roll(1, -3)) / 4


@laws
@given(shapes, tile_shapes, overlaps, st.booleans(), st.data())
def test_a_region_is_the_crop_of_the_whole(shape, tile, overlap, masked, data):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ends = [sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in shape]
    region = tuple(slice(low, high) for low, high in ends)
    mask = np.random.default_rng(1).random(shape) < 0.1 if masked else None
    predictor = Predictor(Blur(), tile=tile, overlap=overlap, device="cpu", precision=Plain())
    whole = predictor.logits(image, mask)
    asked = []
    part = predictor.logits(image, mask, lambda done, of: asked.append(of), region=region)
    assert np.array_equal(part, whole[region])  # to the last bit
    assert not asked or asked[-1] <= len(predictor.plan(shape))


@laws
@given(st.tuples(*[st.integers(9, 20)] * 3), st.tuples(*[st.integers(0, 6)] * 3), overlaps)
def test_the_origin_of_the_tiles_does_not_matter_to_a_network_without_context(shape, offset, overlap):
    """A volume cut off at its beginning has its tiles elsewhere, and the same answers."""
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    predictor = Predictor(Identity(), tile=(6, 7, 8), overlap=overlap, device="cpu", precision=Plain())
    rest = tuple(slice(first, None) for first in offset)
    np.testing.assert_allclose(predictor.logits(image[rest]), predictor.logits(image)[rest], atol=2e-5)


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((9, 14, 11), (6, 5, 8), 0.5), ((4, 9, 3), (6, 5, 8), 0.0)])
def test_a_volume_in_a_file_is_the_one_in_memory(tmp_path, shape, tile, overlap):
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    predictor = Predictor(Blur(), tile=tile, overlap=overlap, device="cpu", precision=Plain())
    mapped = predictor.probabilities(image, scratch=tmp_path)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, predictor.probabilities(image))
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 2**16))
def test_empty_is_what_a_cube_of_zeros_reaches(shape, seed):
    random = np.random.default_rng(seed)
    image = (random.random(shape) < random.random() ** 2).astype(np.uint8)
    image[tuple(slice(0, side // 2) for side in shape)] = 0
    reach = EMPTY_VOXELS // 2
    padded = np.pad(image, reach)
    empty = np.zeros(padded.shape, bool)
    for origin in np.ndindex(*shape):  # cubes about every voxel of the volume
        cube = tuple(slice(start, start + EMPTY_VOXELS) for start in origin)
        if not padded[cube].any():
            empty[cube] = True
    inside = tuple(slice(reach, reach + side) for side in shape)
    found = find_emptiness(image, declared=(0,))
    scan = np.ones(shape, bool) if found.scan is None else found.scan
    thinner = ~empty[inside] & ~scan  # at the faces, where a cube only touches the volume
    assert not (scan & empty[inside]).any()
    assert not image[thinner].any()


@laws
@given(shapes, tile_shapes, overlaps)
def test_padding_is_undone(shape, tile, overlap):
    tiles = plan_tiles(shape, tile, overlap)
    volume = np.arange(np.prod(shape)).reshape(shape)
    padded = tiles.pad(volume)
    assert padded.shape == tiles.padded_shape
    assert np.array_equal(padded[tiles.interior], volume)
    assert set(np.unique(padded)) == set(volume.ravel())  # nothing invented
    assert tiles.is_padded == any(s < t for s, t in zip(shape, tile, strict=True))


@laws
@given(st.tuples(*[st.integers(1, 8)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_a_missing_a_second_and_a_foreign_tile_are_errors(shape, tile):
    tiles = plan_tiles(shape, tile, 0.5)
    parts = [(origin, np.float32(1)) for origin in tiles.origins]
    assert np.allclose(merge(tiles, reversed(parts)), 1)
    for wrong in (parts[1:], [*parts, parts[0]], [*parts[1:], ((-1, 0, 0), np.float32(1))]):
        with pytest.raises(CoverageError):
            merge(tiles, wrong)


def test_a_plan_that_misses_voxels_is_an_error():
    # 256 voxels, tile 128 and step 96 that stops short: only 224 are covered.
    tiles = Tiles((256, 8, 8), (128, 8, 8), ((0, 96), (0,), (0,)))
    with pytest.raises(CoverageError, match="32 of 256 voxels along axis z"):
        merge(tiles, [(origin, np.float32(1)) for origin in tiles.origins])


def test_the_published_example_is_covered_to_its_end():
    assert plan_tiles((256, 320, 128), (128, 128, 128), 0.25).starts == ((0, 64, 128), (0, 96, 192), (0,))

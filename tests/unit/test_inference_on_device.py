"""A device that cuts and sums the tiles gives the bits of the host, whatever its memory holds at a time."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from volumen.data.normalise import Normalised, statistics_of
from volumen.errors import UserError
from volumen.inference.accumulator import Stitching
from volumen.inference.network_memory import activation_bytes, busy_batch
from volumen.inference.predictor import Predictor
from volumen.inference.slabs import plan_slabs, slab_bytes
from volumen.inference.tiles import plan_tiles
from volumen.postprocess import probabilities_from_logits
from volumen.runtime import Precision
from volumen.system.stopping import StopRequest, StopWanted

SIDES = st.tuples(*[st.integers(1, 22)] * 3)
TILES = st.tuples(st.sampled_from((4, 6, 8)), st.sampled_from((4, 7)), st.sampled_from((4, 7)))
few = settings(max_examples=40, deadline=None)


class Skewed(nn.Module):
    """Logits that depend on value, neighbour and place in the tile: no view, batch, order or filling goes unseen."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        z, y, x = (torch.linspace(-1, 1.3, side, device=images.device) for side in images.shape[2:])
        return images * 1.7 + images.roll((1, 1, 2), (2, 3, 4)) + z[:, None, None] * 3 + y[:, None] * x


class Cramped(Skewed):
    """Has memory for so many tiles in a call, after refusing the first few calls."""

    def __init__(self, most: int, refused: int = 0) -> None:
        super().__init__()
        self.most, self.refused, self.largest = most, refused, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most or self.refused > 0:
            self.refused -= len(images) <= self.most
            raise torch.OutOfMemoryError("no memory")
        self.largest = max(self.largest, len(images))
        return super().forward(images)


def predictor(model: nn.Module, **changes) -> Predictor:
    arguments = {"tile": (4, 4, 4), "overlap": 0.5, "device": "cpu", "precision": Precision("fp32", "cpu")} | changes
    return Predictor(model, **arguments)


@st.composite
def images(draw, shape):
    """As validation hands them (float32), or as they are stored, with their normalisation."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(("float32", "uint8", "uint16", ">u2", "int16", "uint32")))
    if kind == "float32":
        return rng.normal(size=shape).astype(np.float32)
    stored = rng.integers(0, 200 if kind == "uint8" else 60000 if kind != "int16" else 30000, shape).astype(kind)
    return Normalised(stored, statistics_of(stored), draw(st.sampled_from(("zscore", "percentile", "none"))))


@st.composite
def masks(draw, shape):
    """Nothing empty, or blocks of the volume, or all of it."""
    if draw(st.booleans()):
        return None
    mask = np.ones(shape, dtype=bool)
    for _ in range(draw(st.integers(0, 3))):
        start = [draw(st.integers(0, side - 1)) for side in shape]
        mask[tuple(slice(one, draw(st.integers(one + 1, side))) for one, side in zip(start, shape, strict=True))] = (
            False
        )
    return mask


@st.composite
def regions(draw, shape):
    if draw(st.booleans()):
        return None
    starts = [draw(st.integers(0, side - 1)) for side in shape]
    return tuple(slice(one, draw(st.integers(one + 1, side))) for one, side in zip(starts, shape, strict=True))


@st.composite
def budgets(draw, tiles, region, mask):
    """No limit, or from what one row of tiles takes to what the volume does."""
    if draw(st.booleans()):
        return None
    box = Stitching(tiles, region)
    sizes = [
        max(slab_bytes(box, slab, 4, mask is not None) for slab in plan_slabs(box, 4, mask is not None, most_rows=most))
        for most in (1, None)
    ]
    return draw(st.integers(min(sizes), max(sizes)))


@few
@given(st.data())
def test_the_device_gives_the_bits_of_the_host(data):
    shape, tile, overlap = data.draw(SIDES), data.draw(TILES), data.draw(st.sampled_from((0.0, 0.3, 0.5, 0.8)))
    image, mask, region = data.draw(images(shape)), data.draw(masks(shape)), data.draw(regions(shape))
    views = {"mirror": data.draw(st.booleans()), "rotate": tile[1] == tile[2] and data.draw(st.booleans())}
    budget = data.draw(budgets(plan_tiles(shape, tile, overlap), region, mask))
    common = {"tile": tile, "overlap": overlap, **views}
    host = predictor(Skewed(), **common, sums=False)
    device = predictor(Skewed(), **common, sums=True, batch=data.draw(st.integers(1, 9)), device_bytes=budget)
    told: list[tuple[int, int]] = []
    expected = host.logits(image, mask, region=region)
    result = device.logits(image, mask, lambda done, of: told.append((done, of)), region=region)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_allclose(
        device.probabilities(image, mask, region=region), probabilities_from_logits(expected), rtol=1e-6, atol=0
    )
    assert result.dtype == np.float32
    assert told == sorted(told)
    assert not told or told[-1] == (told[-1][1],) * 2


def test_a_volume_in_a_file_is_the_same(tmp_path: Path):
    image = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    one = predictor(Skewed(), sums=True)
    result = one.logits(image, scratch=tmp_path)
    assert isinstance(result, np.memmap)
    np.testing.assert_array_equal(result, one.logits(image))


@few
@given(SIDES, TILES, st.sampled_from((0.0, 0.3, 0.8)), st.integers(1, 4), st.data())
def test_slabs_hold_every_tile_once_and_finish_every_plane_once(shape, tile, overlap, most, data):
    box = Stitching(plan_tiles(shape, tile, overlap), data.draw(regions(shape)))
    slabs = plan_slabs(box, 1, True, most_rows=most)
    assert [origin for slab in slabs for row in slab.rows for origin in row.origins] == list(box.waiting)
    ends = [box.box[0].start, *(row.finished for slab in slabs for row in slab.rows)]
    assert ends == sorted(ends)
    assert ends[-1] == box.box[0].stop
    for slab in slabs:
        assert len(slab.rows) <= most
        for row in slab.rows:
            assert slab.image[0] <= row.start <= row.start + tile[0] <= slab.image[1]
            assert slab.low <= max(row.start, box.box[0].start) <= slab.high
    sizes = [slab_bytes(box, slab, 1, True) for slab in slabs]
    tight = plan_slabs(box, 1, True, budget=max(sizes))
    assert 1 <= len(tight) <= len(slabs)
    assert all(slab_bytes(box, slab, 1, True) <= max(sizes) for slab in tight)
    assert plan_slabs(box, 1, True, budget=1) == ()


@few
@given(st.integers(0, 26), st.sampled_from((float("nan"), float("inf"), -float("inf"))), st.integers(1, 9))
def test_logits_that_are_not_finite_name_the_first_tile_that_has_them(number, value, batch):
    image = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    tiles = plan_tiles(image.shape, (4, 4, 4), 0.0)
    origin = list(tiles.origins)[number]
    image[tiles.window(origin)][1, 2, 3] = value
    for sums in (True, False):
        with pytest.raises(UserError) as caught:
            predictor(Skewed(), overlap=0.0, sums=sums, batch=batch).logits(image)
        assert f"not finite in the tile at {list(origin)}:" in str(caught.value)


@few
@given(st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_fewer_tiles_at_a_time_where_memory_is_short_said_once_each(most, batch, mirror):
    image = np.random.default_rng(1).normal(size=(7, 9, 4)).astype(np.float32)
    mask = np.ones(image.shape, dtype=bool)
    mask[:3, :5] = False
    said: list[str] = []
    model = Cramped(most)
    one = predictor(model, mirror=mirror, sums=True, batch=batch, say=said.append)
    expected = predictor(Skewed(), mirror=mirror, sums=False).logits(image, mask)
    np.testing.assert_array_equal(one.logits(image, mask), expected)
    assert model.largest <= most
    count = len(said)
    assert bool(count) <= (batch > most)
    np.testing.assert_array_equal(one.logits(image, mask), expected)
    assert len(said) == count


@pytest.mark.parametrize("refused", range(1, 6))
def test_where_not_one_tile_fits_a_slab_gives_way_and_then_the_sum(refused):
    image = np.random.default_rng(2).normal(size=(14, 5, 4)).astype(np.float32)  # 6 rows of tiles: 6, 3, 1, the host
    said: list[str] = []
    one = predictor(Cramped(1, refused), sums=True, say=said.append)
    if refused > 3:
        with pytest.raises(UserError, match=r"has no memory for a tile of \[4, 4, 4\].*use a smaller one \(--tile"):
            one.logits(image)
        return
    np.testing.assert_array_equal(one.logits(image), predictor(Skewed(), sums=False).logits(image))
    assert ["slabs of" in text for text in said] == [True, True, False][:refused]
    assert ("the host blends" in said[-1]) == (refused == 3)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError, "asked"])
def test_whoever_stops_it_finds_the_model_as_it_was_and_no_thread(kind):
    class Ending(Skewed):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            Ending.calls += 1
            if Ending.calls == 5:
                if kind == "asked":
                    request.requested = True
                else:
                    raise kind
            return super().forward(images)

    image = np.random.default_rng(3).normal(size=(20, 8, 8)).astype(np.float32)
    mask = np.indices(image.shape).sum(axis=0) % 7 > 0
    before, model = threading.active_count(), Ending().train()
    with StopRequest() as request, pytest.raises(StopWanted if kind == "asked" else kind):
        predictor(model, sums=True).logits(image, mask)
    assert model.training
    assert threading.active_count() == before
    assert Ending.calls == 5


@few
@given(st.integers(1, 300), st.integers(0, 2**34), st.integers(1, 2**32))
def test_a_batch_is_at_least_one_and_fits_where_it_is_more(side, room, each):
    batch = busy_batch((side,) * 3, room, each)
    assert batch >= 1
    assert batch == 1 or (batch * each <= room and batch * side**3 <= 2**24)


def test_activations_grow_with_the_batch():
    model = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.Conv3d(5, 1, 3, padding=1))
    one, three = (activation_bytes(model, (8, 8, 8), Precision("fp32", "cpu"), batch) for batch in (1, 3))
    assert three == 3 * one >= 3 * 4 * 6 * 8**3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("budget", [None, 2**28])
def test_on_cuda_the_device_gives_the_bits_of_the_host(budget):
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 60000, (90, 70, 50)).astype(np.uint16)
    mask = np.ones(stored.shape, dtype=bool)
    mask[:20, :30] = mask[40:60, 50:] = False
    image = Normalised(stored, statistics_of(stored, mask), "zscore")
    common = {"tile": (32, 32, 32), "device": "cuda", "precision": Precision("fp32", "cuda"), "mirror": True}
    expected = predictor(Skewed(), **common, sums=False).logits(image, mask)
    device = predictor(Skewed(), **common, device_bytes=budget)
    assert device.sums
    np.testing.assert_array_equal(device.logits(image, mask), expected)
    np.testing.assert_allclose(
        device.probabilities(image, mask), probabilities_from_logits(expected), rtol=1e-5, atol=1e-30
    )

"""The predictor: what it gives the model, what it refuses, and how it leaves things behind."""

import contextlib
import errno
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from volumen.data.sampling import crop
from volumen.errors import UserError
from volumen.inference.predictor import EMPTY_LOGIT, Predictor
from volumen.postprocess import probabilities_from_logits


@dataclass(frozen=True)
class Plain:
    memory_format: torch.memory_format = torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Recorder(nn.Module):
    """Gives its input back and remembers what it saw."""

    divisor = (4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.clone())
        self.modes.append(self.training)
        return images * 1.0


class Ramp(nn.Module):
    """Logits that depend on the position in the tile: not symmetric under mirroring."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + torch.arange(images.shape[-1], dtype=torch.float32)


def predictor(model: nn.Module, **changes) -> Predictor:
    arguments = {"tile": (8, 8, 8), "overlap": 0.25, "device": "cpu", "precision": Plain()} | changes
    return Predictor(model, **arguments)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_sigmoid_is_exact_at_the_ends_and_in_place_on_request():
    logits = np.array([-200, -1, 0, 1, 200], dtype=np.float32)
    result = probabilities_from_logits(logits)
    np.testing.assert_allclose(result, [0, 0.26894143, 0.5, 0.7310586, 1], rtol=1e-6)
    assert result.dtype == np.float32
    assert logits[0] == -200
    assert probabilities_from_logits(logits, out=logits) is logits


def test_probabilities_are_the_sigmoid_of_the_logits():
    image = noise(12, 9, 8)
    one = predictor(Recorder())
    np.testing.assert_array_equal(one.probabilities(image), probabilities_from_logits(one.logits(image)))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_predicts_in_evaluation_mode_and_is_left_as_it_was(training):
    model = Recorder().train(training)
    predictor(model).logits(noise(8, 8, 8))
    assert model.modes == [False]
    assert model.training is training


def test_the_mode_is_restored_when_the_model_fails():
    class Failing(Recorder):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of memory")

    model = Failing().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        predictor(model).logits(noise(8, 8, 8))
    assert model.training


def test_every_call_gets_whole_tiles_and_at_most_the_batch():
    model = Recorder()
    predictor(model, batch=3).logits(noise(16, 10, 8))  # 3 x 2 x 1 tiles: the overlap is honoured
    assert [tuple(seen.shape) for seen in model.seen] == [(3, 1, 8, 8, 8), (3, 1, 8, 8, 8)]


def test_mirroring_asks_eight_times_and_makes_the_result_symmetric():
    model = Recorder()
    predictor(model, mirror=True).logits(noise(8, 8, 8))
    assert len(model.seen) == 8
    assert len({tuple(seen.ravel().tolist()) for seen in model.seen}) == 8
    result = predictor(Ramp(), mirror=True).logits(np.zeros((8, 8, 8), dtype=np.float32))
    np.testing.assert_allclose(result, 3.5, rtol=1e-6)  # the mean of 0..7, wherever


def test_turning_asks_four_times_and_with_mirrors_sixteen():
    for mirror, count in ((False, 4), (True, 16)):
        model = Recorder()
        image = noise(8, 8, 8)
        result = predictor(model, mirror=mirror, rotate=True).logits(image)
        assert len(model.seen) == count
        assert len({tuple(seen.ravel().tolist()) for seen in model.seen}) == count
        np.testing.assert_allclose(result, image, atol=1e-5)  # every view is undone
    result = predictor(Ramp(), rotate=True).logits(np.zeros((8, 8, 8), dtype=np.float32))
    np.testing.assert_allclose(result, 3.5, rtol=1e-6)


def test_an_empty_tile_is_background_without_asking_the_model():
    image = noise(8, 8, 32)
    mask = np.ones(image.shape, dtype=bool)
    mask[..., :14] = False  # holds the tile at x = 0 whole, the next one (6) too, not the one at 12
    model = Recorder()
    reports: list[tuple[int, int]] = []
    result = predictor(model).logits(image, mask, lambda done, of: reports.append((done, of)))
    assert len(model.seen) == 3
    assert reports == [(3, 5), (4, 5), (5, 5)]
    np.testing.assert_allclose(result[..., :12], EMPTY_LOGIT, rtol=1e-6)
    np.testing.assert_allclose(result[..., 14:], image[..., 14:], atol=1e-5)


def test_one_occupied_voxel_is_enough_to_ask_the_model():
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[3, 3, 3] = True
    image = noise(8, 8, 8)
    result = predictor(Recorder()).logits(image, mask)
    np.testing.assert_allclose(result[mask], image[mask], atol=1e-5)
    assert (result[~mask] == EMPTY_LOGIT).all()  # zeros of the scan give no surface


def test_a_small_volume_is_padded_as_in_training_and_cropped_back():
    model, image = Recorder(), noise(5, 8, 3)
    result = predictor(model).logits(image)
    np.testing.assert_allclose(result, image, atol=1e-5)
    assert np.array_equal(model.seen[0][0, 0], crop(image, (-1, 0, -2), (8, 8, 8)))
    assert predictor(model).plan(image.shape).is_padded


def test_a_network_with_context_sees_no_seam():
    torch.manual_seed(0)
    network = nn.Conv3d(1, 1, 3, padding=1)
    image = noise(20, 20, 20)
    with torch.no_grad():
        whole = network(torch.from_numpy(image)[None, None])[0, 0].numpy()
    tiled = predictor(network, overlap=0.5).logits(image)
    inside = (slice(1, -1),) * 3
    assert np.abs(tiled - whole)[inside].max() < 0.1 * whole.std()  # tile faces see zeros, and weigh little
    assert np.abs(tiled - whole)[inside].mean() < 0.01 * whole.std()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile": (8, 10, 8)}, r"multiple of \[4, 4, 4\] for this model: use \[8, 8, 8\]"),
        ({"overlap": 1.0}, "below 1, got 1"),
        ({"batch": 0}, "at least 1 tile"),
        ({"tile": (8, 0, 8)}, "at least 1 voxel"),
        ({"tile": (8, 8, 12), "rotate": True}, "square in y and x"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_volume(changes, said):
    with pytest.raises(UserError, match=said):
        predictor(Recorder(), **changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused_with_their_place(value):
    class Diverged(Recorder):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * value

    with pytest.raises(UserError, match=r"not finite in the tile at \[0, 0, 0\]"):
        predictor(Diverged()).logits(noise(8, 8, 8) + 10)


def test_a_model_with_several_outputs_is_refused():
    with pytest.raises(UserError, match=r"got \[1, 2, 8, 8, 8\]"):
        predictor(nn.Conv3d(1, 2, 1)).logits(noise(8, 8, 8))


def test_image_and_mask_of_different_shapes_are_refused():
    with pytest.raises(UserError, match="must have the shape of the image"):
        predictor(Recorder()).logits(noise(8, 8, 8), np.ones((8, 8, 9), dtype=bool))
    with pytest.raises(UserError, match="three axes"):
        predictor(Recorder()).logits(noise(8, 8))


@pytest.mark.parametrize("region", [(slice(0, 9), slice(0, 8), slice(0, 8)), (slice(3, 3), slice(0, 8), slice(0, 8))])
def test_a_region_outside_of_the_volume_is_refused(region):
    with pytest.raises(UserError, match="z0:z1,y0:y1,x0:x1"):
        predictor(Recorder()).logits(noise(8, 8, 8), region=region)


def test_a_scratch_folder_without_room_is_refused(monkeypatch, tmp_path):
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"has no room for 0\.0 GB"):
        predictor(Recorder()).logits(noise(8, 8, 8), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []

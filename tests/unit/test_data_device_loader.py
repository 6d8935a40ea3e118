"""Patches made on a device are those that the CPU makes, whatever is drawn; a CPU stands in for the device."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from small_datasets import MEANINGS, prepared_dataset, save, volume
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data.dataset import PreparedDataset
from volumen.data.device import volumes
from volumen.data.device.choice import loader_for
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.loader import PatchLoader
from volumen.data.prepare import prepare
from volumen.data.sampling import PatchDataset, SampleError
from volumen.errors import UserError
from volumen.losses.targets import target_makers

CPU = torch.device("cpu")
CASES = ("11", "12")
DRAWN = ("key", "case", "centred", "attempts")
OFTEN = {
    "intensity_probability": 0.5, "gamma_probability": 0.5, "noise_probability": 0.5, "blur_probability": 0.5,
}  # fmt: skip
QUIET = dict.fromkeys(OFTEN, 0.0)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    """Data sets of unsigned and signed integers of one and two bytes, of another size each, and with empty parts."""
    made = {}
    for kind in (np.uint16, np.int16, np.uint32):
        folder, name = tmp_path_factory.mktemp("kind"), np.dtype(kind).name
        for number, case in enumerate(CASES):
            image, label = volume(number, (19 + number, 25, 30))
            save(folder / "source" / "train_images" / f"{case}.tif", (image.astype(np.int64) * 7 + 1).astype(kind))
            save(folder / "source" / "train_labels" / f"{case}.tif", label)
        (folder / "source" / "train.csv").write_text("id,scroll_id\n11,a\n12,b\n")
        (folder / "source" / "dataset.yaml").write_text(MEANINGS)
        made[name] = prepare(folder / "source", folder / "prepared")
    both = dict.fromkeys(CASES, "a")
    made["uint8"] = prepared_dataset(tmp_path_factory.mktemp("plain"), both, lambda n: (20, 33 + n, 40))
    made["empty"] = prepared_dataset(tmp_path_factory.mktemp("empty"), both, empty=9)
    return made


def patches_of(prepared: PreparedDataset, **given: Any) -> PatchDataset:
    return PatchDataset(prepared, CASES, Data(dataset="prepared", **given), 7)


augmentations = st.builds(
    Augmentation,
    flips=st.booleans(),
    rotations=st.sampled_from(["none", "about_z", "all"]),
    affine_probability=st.sampled_from([0.0, 0.5, 1.0]),
    affine_degrees=st.floats(0, 45),
    affine_scale=st.sampled_from([(1.0, 1.0), (0.3, 0.6), (0.8, 1.25), (2.0, 4.0)]),
    intensity_probability=st.sampled_from([0.0, 0.5]),
    gamma_probability=st.sampled_from([0.0, 0.5]),
    blur_probability=st.sampled_from([0.0, 0.5]),
    blur_sigma_voxels=st.sampled_from([(0.0, 0.2), (0.4, 1.0), (2.0, 6.0)]),
    noise_probability=st.just(0.0),
    empty_probability=st.sampled_from([0.0, 0.5, 1.0]),
)
samplings = st.builds(
    Sampling,
    patches_per_epoch=st.integers(3, 6),
    surface_share=st.sampled_from([0.0, 0.5, 1.0]),
    jitter_voxels=st.integers(0, 20),
    minimum_valid_share=st.sampled_from([0.0, 0.05, 0.6, 0.8, 1.0]),
)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["uint8", "uint16", "int16", "uint32", "empty"]),
    patch=st.tuples(*[st.sampled_from([8, 9, 16, 21, 36])] * 3),
    normalisation=st.sampled_from(["zscore", "percentile", "none"]),
    augmentation=augmentations,
    sampling=samplings,
    on_device=st.integers(0, 2),
    epoch=st.integers(0, 10**6),
)
def test_a_device_makes_the_patches_that_the_cpu_makes(
    kinds, kind, patch, normalisation, augmentation, sampling, on_device, epoch
):
    patches = patches_of(
        kinds[kind], patch=patch, normalisation=normalisation, augmentation=augmentation, sampling=sampling
    )
    budget = on_device * volumes._bytes_of(patches.cases[0]) + 1
    with PatchLoader(patches, 1, 0) as loader, DevicePatchLoader(patches, 1, CPU, budget) as device:
        for index, (one, other) in enumerate(zip(loader.epoch(epoch), device.epoch(epoch), strict=True)):
            for name in ("target", "valid"):
                assert torch.equal(one[name], other[name])
                assert one[name].dtype == other[name].dtype
            assert one["meta"].keys() == other["meta"].keys()
            for name, value in one["meta"].items():
                assert torch.equal(value, other["meta"][name])
                assert value.dtype == other["meta"][name].dtype
            variation, _ = patches.variation(epoch, index)
            if variation.gamma is None and variation.blur_sigma_voxels == 0:  # else sums and powers round elsewhere
                assert torch.equal(one["image"], other["image"])
            else:
                torch.testing.assert_close(other["image"], one["image"], rtol=2e-5, atol=2e-5)


@settings(max_examples=10)
@given(
    batch=st.integers(1, 4),
    start=st.integers(0, 4),
    epoch=st.integers(0, 9),
    budget=st.sampled_from([0, None]),
    ahead=st.integers(0, 10),
)
def test_a_sample_is_a_function_of_its_key(kinds, batch, start, epoch, budget, ahead):
    """Also its noise, whatever the batch and the part of it, the start, what is made ahead, and where volumes lie."""
    augmentation = Augmentation(affine_probability=0.5, **{**OFTEN, "noise_probability": 1.0})
    patches = patches_of(
        kinds["empty"], patch=(16, 16, 9), augmentation=augmentation, sampling=Sampling(patches_per_epoch=9)
    )
    part = (0, 1) if batch % 2 else (1, 2)
    first, count = part[0] * batch // part[1], batch // part[1]
    with DevicePatchLoader(patches, 1, CPU) as single, DevicePatchLoader(patches, batch, CPU, budget, part) as loader:
        alone = {int(one["meta"]["key"]): one for one in single.epoch(epoch)}
        start, loader._ahead = min(start, loader.batches_per_epoch), ahead
        made = list(loader.epoch(epoch, start))
        assert len(made) == loader.batches_per_epoch - start
        for number, each in enumerate(made, start):
            keys = each["meta"]["key"].tolist()
            assert keys == [patches.key(epoch, number * batch + first + place) for place in range(count)]
            for place, key in enumerate(keys):
                for name in ("image", "target", "valid"):
                    assert torch.equal(each[name][place], alone[key][name][0])


def test_noise_is_that_of_the_law_and_of_its_sample(kinds):
    quiet = Augmentation(affine_probability=0.0, **{**QUIET, "noise_probability": 0.0})
    loud = Augmentation(affine_probability=0.0, **{**QUIET, "noise_probability": 1.0, "noise_std": (0.5, 0.5)})
    sampling = Sampling(patches_per_epoch=8)
    noises = []
    with (
        DevicePatchLoader(patches_of(kinds["uint8"], augmentation=quiet, sampling=sampling), 1, CPU) as without,
        DevicePatchLoader(patches_of(kinds["uint8"], augmentation=loud, sampling=sampling), 1, CPU) as noisy,
    ):
        for one, other in zip(without.epoch(0), noisy.epoch(0), strict=True):
            if torch.equal(one["target"], other["target"]):
                noises.append((other["image"] - one["image"]).ravel())
    assert len(noises) == 8
    for noise in noises:
        assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
        assert abs(float(noise.mean())) < 0.5 * 5 / noise.numel() ** 0.5
    correlations = torch.corrcoef(torch.stack(noises)) - torch.eye(8)
    assert float(correlations.abs().max()) < 5 / noises[0].numel() ** 0.5


def test_who_makes_patches_is_chosen_and_said(kinds):
    config = {"patch": (8, 8, 8), "batch": 2}
    makers = target_makers(["sheet_gap"])
    plain = patches_of(kinds["uint8"], **config)
    wanting = PatchDataset(kinds["uint8"], CASES, Data(dataset="prepared", **config), 0, makers)
    forced = PatchDataset(kinds["uint8"], CASES, Data(dataset="prepared", on_device="on", **config), 0, makers)
    cuda = torch.device("cuda")
    with loader_for(plain, CPU, 0) as loader, loader_for(wanting, cuda, 0) as other:
        assert isinstance(loader, PatchLoader)
        assert loader.notes == ()
        assert isinstance(other, PatchLoader)
        assert "sheet_gap" in other.notes[0]
    with loader_for(patches_of(kinds["uint8"], on_device="on", **config), CPU, 3) as loader:
        assert isinstance(loader, DevicePatchLoader)
        assert loader.notes == ("volumes in memory: 2 of 2, 0.0 GB",)
        assert loader.workers == 0
    with pytest.raises(UserError, match=r"sheet_gap.*auto or off"):
        loader_for(forced, CPU, 0)
    with pytest.raises(UserError, match="batch must lie between"):
        DevicePatchLoader(plain, 10**6, CPU)
    with DevicePatchLoader(plain, 2, CPU, 0) as loader, pytest.raises(UserError, match="start_batch"):
        loader.epoch(0, 101)
    assert loader.notes[0].startswith("volumes in memory: 0 of 2, 0.0 GB; of the others")
    with pytest.raises(RuntimeError, match="closed"):
        loader.epoch(0)


def test_a_sample_that_cannot_be_made_names_its_case(kinds, monkeypatch):
    patches = patches_of(kinds["uint8"], patch=(8, 8, 8))

    def broken(*arguments: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(volumes.Volumes, "source", broken)
    with DevicePatchLoader(patches, 2, CPU) as loader, pytest.raises(SampleError, match=r"case 1[12], epoch 3.*: no"):
        next(loader.epoch(3))


def test_a_damaged_volume_is_refused_by_its_name(tmp_path: Path):
    prepared = prepared_dataset(tmp_path, dict.fromkeys(CASES, "a"))
    path = prepared.path("11", "images")
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    with (
        DevicePatchLoader(patches_of(prepared, patch=(8, 8, 8)), 1, CPU) as loader,
        pytest.raises(UserError, match=r"11\.npy is damaged"),
    ):
        list(loader.epoch(0))


class Lane:
    """A stream that writes down what it is told."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: "Lane") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> str:
        return f"batch {sum(line.startswith('makes') for line in self.log)}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


def test_a_stream_beside_waits_before_it_uses_memory_again_and_is_waited_for(kinds, monkeypatch):
    """Before each batch for all that was launched, so also for what reads the batches that nobody holds any more."""
    patches = patches_of(kinds["uint8"], patch=(8, 8, 8), sampling=Sampling(patches_per_epoch=4))
    log: list[str] = []
    with DevicePatchLoader(patches, 1, CPU) as loader:
        makes = loader._make
        loader._stream, loader._ahead = Lane("side", log), 1
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Lane("main", log))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(loader, "_make", lambda keys: log.append(f"makes {keys}") or makes(keys))
        for batch in loader.epoch(0):
            log.append(f"uses {batch['meta']['key'].tolist()}")
    made = ["side waits for main", "makes [0]"]
    for number in range(1, 4):
        made += ["side waits for main", f"makes [{number}]", f"main waits for batch {number}", f"uses [{number - 1}]"]
    assert log == [*made, "main waits for batch 4", "uses [3]"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "empty"])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_gpu_makes_the_patches_that_the_cpu_makes(kinds, kind, compiled):
    augmentation = Augmentation(affine_probability=0.5, **{**OFTEN, "noise_probability": 0.0})
    sampling = Sampling(patches_per_epoch=24)
    patches = patches_of(kinds[kind], patch=(16, 36, 16), augmentation=augmentation, sampling=sampling)
    with PatchLoader(patches, 2, 0) as loader, DevicePatchLoader(patches, 2, torch.device("cuda")) as device:
        assert len(device.notes) == 1  # the kernel runs
        device._kernel = device._kernel if compiled else None
        for one, other in zip(loader.epoch(1), device.epoch(1), strict=True):
            assert other["image"].is_cuda
            assert torch.equal(one["target"], other["target"].cpu())
            assert torch.equal(one["valid"], other["valid"].cpu())
            torch.testing.assert_close(other["image"].cpu(), one["image"], rtol=1e-4, atol=1e-4)
            for name in DRAWN:
                assert not other["meta"][name].is_cuda

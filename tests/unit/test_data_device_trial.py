"""A device is tried before a training relies on it: what is sound passes, and each kind of fault is found and said."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from small_datasets import prepared_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data.dataset import PreparedDataset
from volumen.data.device import choice, cutting, trial, volumes
from volumen.data.device import loader as device_loader
from volumen.data.device.choice import loader_for
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.loader import PatchLoader
from volumen.data.packed import DamagedDataError
from volumen.data.sampling import PatchDataset
from volumen.errors import UserError
from volumen.system.stopping import StopWanted

CPU = torch.device("cpu")
CASES = ("11", "12")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    both = dict.fromkeys(CASES, "a")
    return {
        "whole": prepared_dataset(tmp_path_factory.mktemp("whole"), both, lambda n: (20, 33 + n, 40)),
        "empty": prepared_dataset(tmp_path_factory.mktemp("empty"), both, empty=9),
    }


def patches_of(prepared: PreparedDataset, **given: Any) -> PatchDataset:
    given = {"patch": (8, 12, 8), "batch": 2, **given}
    return PatchDataset(prepared, CASES, Data(dataset="prepared", **given), 7)


@pytest.fixture
def like_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` chooses the device, as it does on a card."""
    chooses = choice.is_made_on
    monkeypatch.setattr(choice, "is_made_on", lambda _, *others: chooses(torch.device("cuda"), *others))


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["whole", "empty"]),
    patch=st.tuples(*[st.sampled_from([8, 9, 16, 36])] * 3),
    normalisation=st.sampled_from(["zscore", "percentile", "none"]),
    augmentation=st.builds(
        Augmentation,
        rotations=st.sampled_from(["none", "all"]),
        affine_probability=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
        affine_scale=st.sampled_from([(1.0, 1.0), (0.3, 0.6), (0.8, 1.25), (2.0, 4.0)]),
        intensity_probability=st.sampled_from([0.0, 0.5]),
        gamma=st.sampled_from([(0.1, 0.2), (0.7, 1.5), (4.0, 5.0)]),
        gamma_probability=st.sampled_from([0.0, 0.5, 1.0]),
        blur_probability=st.sampled_from([0.0, 0.5, 1.0]),
        blur_sigma_voxels=st.sampled_from([(0.4, 1.0), (2.0, 6.0)]),
        noise_probability=st.sampled_from([0.0, 1.0]),
    ),
    patches_per_epoch=st.integers(2, 6),
    seed=st.integers(0, 10**6),
)
def test_what_is_sound_passes(kinds, kind, patch, normalisation, augmentation, patches_per_epoch, seed):
    data = Data(
        dataset="prepared", patch=patch, batch=2, normalisation=normalisation, augmentation=augmentation,
        on_device="on", sampling=Sampling(patches_per_epoch=patches_per_epoch),
    )  # fmt: skip
    with loader_for(PatchDataset(kinds[kind], CASES, data, seed), CPU, 0) as loader:
        assert isinstance(loader, DevicePatchLoader)


def test_one_plain_and_one_warped_patch_are_tried_as_far_as_there_are(kinds):
    for probability, warped in ((0.0, {False}), (0.05, {False, True}), (0.5, {False, True}), (1.0, {True})):
        patches = patches_of(kinds["whole"], augmentation=Augmentation(affine_probability=probability))
        keys = list(trial._keys(patches))
        found = [patches.variation(*divmod(key, len(patches)))[0].matrix is not None for key in keys]
        assert set(found) == warped
        assert len(found) == len(warped)


def test_a_trial_changes_nothing_that_follows(kinds, like_cuda):
    patches = patches_of(kinds["empty"], augmentation=Augmentation(noise_probability=1.0))
    before, state = dict(vars(patches)), torch.random.get_rng_state()
    with DevicePatchLoader(patches, 2, CPU) as untried, loader_for(patches, CPU, 0) as tried:
        assert isinstance(tried, DevicePatchLoader)
        assert vars(patches) == before
        assert torch.equal(torch.random.get_rng_state(), state)
        assert tried.notes == untried.notes
        assert tried.dataset is patches
        one, other = next(untried.epoch(1, 3)), next(tried.epoch(1, 3))
        assert all(torch.equal(one[name], other[name]) for name in ("image", "target", "valid"))
        assert all(torch.equal(value, other["meta"][name]) for name, value in one["meta"].items())


def swapped(source, grid, image, target, valid):
    """The patch beside the right one."""
    cutting.cut_into(source, grid, image, target, valid)
    image.copy_(image.roll(1, 0))


def shifted_codes(source, grid, image, target, valid):
    cutting.cut_into(source, grid, image, target, valid)
    target.copy_(target.roll(1, 1))


def not_a_number(source, grid, image, target, valid):
    cutting.cut_into(source, grid, image, target, valid)
    image[0, 0, 0] = float("nan")


def raises(*arguments: object) -> None:
    raise OSError("no compiler\nfor this kernel")


def warp_wrong(source, grid, image, target, valid):
    """Only warped patches, by a tenth of a voxel."""
    if grid.matrix is not None:
        grid.begin[0] += 0.1
    cutting.cut_into(source, grid, image, target, valid)


FAULTS = [
    (swapped, "the card's differ from the CPU's (key "),
    (shifted_codes, "target in "),
    (not_a_number, "image in 1 of 768 values, the first nan and not"),
    (warp_wrong, "warped: "),
    (raises, "the card could not make them (OSError: no compiler)"),
]
CALM = Augmentation(blur_probability=0.0, gamma_probability=0.0, affine_probability=0.5)


@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_falls_back_to_the_cpu_and_says_so_or_is_an_error(kinds, like_cuda, monkeypatch, fault, said):
    monkeypatch.setattr(device_loader, "cut_into", fault)
    with loader_for(patches_of(kinds["whole"], augmentation=CALM), CPU, 0) as loader:
        assert isinstance(loader, PatchLoader)
        (note,) = loader.notes
        assert note.startswith("patches are made by the CPU: the card")
        assert said in note
        assert "\n" not in note
        assert torch.isfinite(next(loader.epoch(0))["image"]).all()
    with pytest.raises(UserError, match=r"data\.on_device is on, but the card.*: set it to auto or off"):
        loader_for(patches_of(kinds["whole"], on_device="on", augmentation=CALM), CPU, 0)


def test_other_noise_is_found(kinds, like_cuda, monkeypatch):
    own = trial.normals
    calls = iter([0, 1])
    monkeypatch.setattr(trial, "normals", lambda *arguments: own(*arguments) + next(calls))
    with loader_for(patches_of(kinds["whole"]), CPU, 0) as loader:
        assert "(noise in 210 of 210 values" in loader.notes[0]


@pytest.mark.parametrize("error", [StopWanted(), UserError("mend this"), DamagedDataError("x.npy is damaged")])
def test_who_stops_and_what_the_user_can_mend_is_no_fault_of_the_device(kinds, like_cuda, monkeypatch, error):
    def ends(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(volumes.Volumes, "source", ends)
    if isinstance(error, DamagedDataError):
        with pytest.raises(DamagedDataError):
            loader_for(patches_of(kinds["whole"]), CPU, 0)
    monkeypatch.setattr(choice, "difference", ends)
    with pytest.raises(type(error)):
        loader_for(patches_of(kinds["whole"]), CPU, 0)


def test_a_card_that_does_not_answer_after_the_trial_is_said(kinds, monkeypatch):
    monkeypatch.setattr(choice, "DevicePatchLoader", raises)
    monkeypatch.setattr(torch.cuda, "synchronize", raises)
    with pytest.raises(UserError, match=r"could not make them .*does not answer .*data\.on_device=off"):
        loader_for(patches_of(kinds["whole"]), torch.device("cuda"), 0)


def test_values_are_compared_with_what_they_are():
    one = np.array([1.0, np.nan, np.inf, -50.0], np.float32)
    assert trial._values_differ("image", one, one.copy(), 0) is None
    assert trial._values_differ("image", one, one + np.float32(1e-3), 0) is None
    assert "in 2 of 4" in str(trial._values_differ("image", one, one + np.float32(0.1), 0))
    assert "float64 [4], not float32 [4]" in str(trial._values_differ("image", one, one.astype(np.float64), 0))


def test_a_sample_that_the_cpu_cannot_make_either_is_no_fault_of_the_device(kinds, like_cuda, monkeypatch):
    monkeypatch.setattr(PatchDataset, "cut", raises)
    with loader_for(patches_of(kinds["whole"]), CPU, 0) as loader:
        assert isinstance(loader, DevicePatchLoader)

"""Patches: their contents, what is stated about them, and the crop underneath."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from small_datasets import SHAPE, prepared_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data import sampling
from volumen.data.dataset import PreparedDataset
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.normalise import normalise
from volumen.data.sampling import REDRAWS, PatchDataset, SampleError, crop
from volumen.errors import UserError

PATCH = (16, 16, 16)
PLAIN = Augmentation(
    flips=False,
    rotations="none",
    affine_probability=0.0,
    intensity_probability=0.0,
    gamma_probability=0.0,
    noise_probability=0.0,
    blur_probability=0.0,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_dataset(tmp_path_factory.mktemp("sampling"), {"11": "a", "12": "b"})


def data(**settings: object) -> Data:
    return Data.model_validate({"dataset": "prepared", "patch": PATCH, "augmentation": PLAIN, **settings})


def test_a_patch_is_what_the_volume_holds_at_its_place(prepared: PreparedDataset) -> None:
    dataset = PatchDataset(prepared, ("11", "12"), data(), 3)
    for index in range(20):
        sample, draw = dataset[index], dataset.draw(0, index)
        case = prepared.case(dataset.case_ids[draw.case])
        place = tuple(slice(first, first + 16) for first in draw.origin)
        label = prepared.label(case.id)[place]
        image = normalise(prepared.image(case.id), case.statistics, "zscore")[place]
        np.testing.assert_array_equal(sample["image"][0].numpy(), image)
        np.testing.assert_array_equal(sample["target"].numpy(), label == SURFACE)
        np.testing.assert_array_equal(sample["valid"].numpy(), label != IGNORE)
        assert sample["image"].dtype == torch.float32
        assert (sample["target"].dtype, sample["valid"].dtype) == (torch.uint8, torch.bool)
        assert int(sample["meta"]["case"]) == draw.case
        assert float(sample["meta"]["valid_share"]) == pytest.approx(float((label != IGNORE).mean()))


def test_the_requested_share_is_centred_on_surface(prepared: PreparedDataset) -> None:
    settings = Sampling(patches_per_epoch=600, surface_share=0.7, jitter_voxels=3, minimum_valid_share=0.0)
    dataset = PatchDataset(prepared, ("11", "12"), data(sampling=settings), 0)
    draws = [dataset.draw(0, index) for index in range(600)]
    assert np.mean([draw.centred for draw in draws]) == pytest.approx(0.7, abs=0.06)
    assert np.mean([draw.case for draw in draws]) == pytest.approx(0.5, abs=0.07)
    for draw in draws:
        place = tuple(slice(first, first + 16) for first in draw.origin)
        if draw.centred:
            assert np.any(prepared.label(dataset.case_ids[draw.case])[place] == SURFACE)


def test_volumes_are_drawn_in_proportion_to_their_voxels(tmp_path: Path) -> None:
    prepared = prepared_dataset(tmp_path, {"11": "a", "12": "a"}, shape=lambda n: (20 * (1 + 2 * n), 20, 24))
    settings = Sampling(patches_per_epoch=800, surface_share=0.5, minimum_valid_share=0.0)
    dataset = PatchDataset(prepared, ("11", "12"), data(sampling=settings), 0)
    assert np.mean([dataset.draw(0, index).case for index in range(800)]) == pytest.approx(0.75, abs=0.05)


def test_scarcely_labelled_patches_are_drawn_again_and_the_best_is_kept(prepared: PreparedDataset) -> None:
    settings = Sampling(patches_per_epoch=50, surface_share=0.0, minimum_valid_share=1.0)
    dataset = PatchDataset(prepared, ("11",), data(sampling=settings), 0)
    samples = [dataset[index] for index in range(50)]
    attempts = [int(sample["meta"]["attempts"]) for sample in samples]
    assert 1 < max(attempts) <= REDRAWS + 1
    whole = np.mean([float(sample["meta"]["valid_share"]) == 1.0 for sample in samples])
    once = PatchDataset(prepared, ("11",), data(sampling=settings.model_copy(update={"minimum_valid_share": 0.0})), 0)
    assert whole > np.mean([float(once[index]["meta"]["valid_share"]) == 1.0 for index in range(50)])
    impossible = PatchDataset(prepared, ("11",), data(patch=(16, 16, 28), sampling=settings), 0)
    assert int(impossible[0]["meta"]["attempts"]) == REDRAWS + 1


def test_a_volume_smaller_than_the_patch_is_padded_ignored_and_stated(prepared: PreparedDataset) -> None:
    dataset = PatchDataset(prepared, ("11",), data(patch=(16, 32, 16)), 0)
    assert dataset.notes == (
        "1 of 1 volumes are smaller than the patch [16, 32, 16] and are padded (image: nearest voxel; label: ignored): "
        f"11 {list(SHAPE)}",
    )
    sample = dataset[0]
    assert sample["image"].shape == (1, 16, 32, 16)
    assert not sample["valid"][:, :4].any()
    assert not sample["valid"][:, 28:].any()
    assert sample["valid"][:, 4:28].any()
    assert torch.equal(sample["image"][0, :, 0], sample["image"][0, :, 4])
    assert PatchDataset(prepared, ("11",), data(), 0).notes == ()


def test_augmented_small_volumes_work_too(prepared: PreparedDataset) -> None:
    """The region of an affine patch reaches beyond the volume on all sides."""
    strong = Augmentation(affine_probability=1.0, affine_degrees=45.0)
    dataset = PatchDataset(prepared, ("11",), data(patch=(32, 32, 32), augmentation=strong), 0)
    for index in range(10):
        sample = dataset[index]
        assert sample["image"].shape == (1, 32, 32, 32)
        assert torch.isfinite(sample["image"]).all()
        assert 0 < float(sample["meta"]["valid_share"]) < 0.6


def test_a_volume_without_surface_is_stated_and_drawn_only_anywhere(tmp_path: Path) -> None:
    from small_datasets import save, write_dataset
    from volumen.data.prepare import prepare

    source = write_dataset(tmp_path / "source", {"11": "a", "12": "a"})
    save(source / "train_labels" / "11.tif", np.zeros(SHAPE, np.uint8))
    prepared = prepare(source, tmp_path / "prepared")
    both = PatchDataset(prepared, ("11", "12"), data(sampling=Sampling(patches_per_epoch=60)), 0)
    assert "volumes without surface are never drawn for surface-centred patches: 11" in both.notes
    draws = [both.draw(0, index) for index in range(60)]
    assert {draw.case for draw in draws if draw.centred} == {1}
    assert {draw.case for draw in draws if not draw.centred} == {0, 1}
    bare = PatchDataset(prepared, ("11",), data(), 0)
    assert not any(bare.draw(0, index).centred for index in range(20))


def test_cases_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    from small_datasets import write_dataset
    from volumen.data.prepare import prepare

    prepared = prepare(write_dataset(tmp_path / "source", {"11": "a"}, tests={"21": "a"}), tmp_path / "prepared")
    with pytest.raises(UserError, match=r"cases \['21'\] have no label"):
        PatchDataset(prepared, ("11", "21"), data(), 0)
    with pytest.raises(UserError, match="there is no case"):
        PatchDataset(prepared, (), data(), 0)
    with pytest.raises(UserError, match="case 99 is not in the data set"):
        PatchDataset(prepared, ("99",), data(), 0)


def test_targets_are_made_from_the_varied_patch(prepared: PreparedDataset) -> None:
    def doubled(target: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return (2.0 * target * valid).astype(np.float32)

    dataset = PatchDataset(prepared, ("11",), data(augmentation=Augmentation()), 0, {"doubled": doubled})
    sample = dataset[5]
    assert torch.equal(sample["doubled"], 2.0 * sample["target"] * sample["valid"])


def test_a_failure_names_case_and_place(prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PatchDataset(prepared, ("11",), data(), 0)

    def broken(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(sampling, "normalise", broken)
    with pytest.raises(SampleError, match=r"case 11, epoch 2, index 7, origin \(.*\): disk gone"):
        dataset[dataset.key(2, 7)]


def test_workers_are_not_sent_the_volumes(prepared: PreparedDataset) -> None:
    dataset = PatchDataset(prepared, ("11", "12"), data(), 0)
    before = dataset[0]
    sent = pickle.dumps(dataset)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent)[0]["image"], before["image"])


def test_a_crop_reaches_beyond_the_volume() -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    np.testing.assert_array_equal(crop(array, (0, 1, 1), (2, 2, 2)), array[:, 1:3, 1:3])
    edged = crop(array, (-1, 0, 2), (4, 3, 4))
    np.testing.assert_array_equal(edged, np.pad(array, ((1, 1), (0, 0), (0, 2)), mode="edge")[:, :, 2:])
    filled = crop(array, (-1, 0, 2), (4, 3, 4), outside=-7)
    assert np.all(filled[0] == -7)
    assert np.all(filled[:, :, 2:] == -7)
    with pytest.raises(ValueError, match="lies outside"):
        crop(array, (5, 0, 0), (2, 2, 2))


def test_the_losses_own_targets_can_be_asked_for_by_name(prepared: PreparedDataset) -> None:
    from volumen.losses.targets import PRECOMPUTE, target_makers

    sample = PatchDataset(prepared, ("11",), data(), 0, target_makers(PRECOMPUTE))[0]
    for name in PRECOMPUTE:
        expected = PRECOMPUTE[name](sample["target"].numpy(), sample["valid"].numpy())
        np.testing.assert_array_equal(sample[name].numpy(), expected)
        assert sample[name].shape == PATCH
    with pytest.raises(UserError, match=r"unknown precomputed targets \['medial'\]"):
        target_makers(("medial",))

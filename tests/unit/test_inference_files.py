"""Predicting files: the right shape and name, nothing lost, nothing mixed, nothing half written."""

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from rich.console import Console
from torch import nn

from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.data.spacing import Spacing
from volumen.data.volumes import load_volume, read_volume
from volumen.errors import UserError
from volumen.inference.files import find_images, predict_files
from volumen.inference.output_folder import Wanted
from volumen.inference.prediction_record import Origin
from volumen.inference.predictor import Predictor, weights_identity
from volumen.inference.recipe import Recipe
from volumen.reporting.run_tables import print_predictions


@dataclass(frozen=True)
class Plain:
    memory_format: torch.memory_format = torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Scale(nn.Module):
    """Logit = scale * normalised grey value: surface where it is brighter than the mean."""

    def __init__(self, scale: float = 3.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.scale * images


def volume(seed: int, shape: tuple[int, int, int] = (9, 12, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, shape, dtype=np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("b.tif", "a.tiff", "c.tif")):
        tifffile.imwrite(folder / name, volume(number), compression="lzw", photometric="minisblack")
    (folder / "notes.txt").write_text("not an image")
    return folder


def predict(source: Path, out: Path, model: nn.Module | None = None, threshold: float = 0.5, **wanted: bool):
    predictor = Predictor(model or Scale(), tile=(8, 8, 8), overlap=0.25, device="cpu", precision=Plain())
    postprocessing = Postprocessing(steps=(Threshold(level=threshold),))
    recipe = Recipe(predictor, "zscore", postprocessing, Origin(run="r", which="best"))
    return predict_files(recipe, find_images(source), out, Wanted(**wanted))


def test_masks_have_the_input_s_shape_and_name_and_hold_0_and_1(images, tmp_path):
    results = predict(images, tmp_path / "out", probabilities=True, view=True)
    assert [one.name for one in results] == ["a.tiff", "b.tif", "c.tif"]
    for one in results:
        image, mask = read_volume(images / one.name), read_volume(tmp_path / "out" / one.name)
        assert mask.dtype == np.uint8
        assert mask.shape == image.shape
        mean = image.mean()
        decided = np.abs(image - mean) > 1  # stitching rounds: leave out what lies on the threshold
        np.testing.assert_array_equal(mask[decided], (image > mean)[decided])
        np.testing.assert_array_equal(read_volume(tmp_path / "out" / "view" / one.name), mask * 255)
        probabilities = read_volume(tmp_path / "out" / "probabilities" / one.name)
        assert ((probabilities > 128) <= (mask == 1)).all()
        assert one.appearance.surface_voxels == mask.sum()
    with tifffile.TiffFile(tmp_path / "out" / "b.tif") as file:
        assert file.pages[0].compression.name in ("ADOBE_DEFLATE", "DEFLATE")
    record = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert record["settings"]["probabilities"] == "uint8, 255 * probability, rounded"
    assert [entry["name"] for entry in record["images"]] == ["a.tiff", "b.tif", "c.tif"]
    assert not list((tmp_path / "out").rglob(".partial-*"))


def test_the_voxel_size_of_an_image_stands_in_all_that_is_made_of_it(cases, tmp_path):
    (one,) = predict(cases / "spacing", tmp_path / "out", probabilities=True, view=True)
    for name in ("", "view", "probabilities"):
        path = tmp_path / "out" / name / "imagej_um.tif"
        assert load_volume(path).spacing == Spacing(20, 7.6, 7.6)
        with tifffile.TiffFile(path) as file:
            assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (20, "um")
            assert file.pages[0].tags["XResolution"].value == (5, 38)
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["images"][0]["spacing"]["z"] == 20
    console = Console(record=True, width=400, file=io.StringIO())
    print_predictions([one], console)
    assert "imagej_um.tif are no cubes (20 x 7.6 x 7.6 um, z x y x x)" in console.export_text()
    shutil.copytree(cases / "nnunet_spacing" / "Dataset009_Aniso" / "imagesTr", tmp_path / "images")
    predict(tmp_path / "images", tmp_path / "other")
    assert load_volume(tmp_path / "other" / "s_0000.tif").spacing == Spacing(80, 7.6, 7.6, "")


def test_a_mask_of_another_image_of_the_same_name_is_not_kept(cases, tmp_path):
    (tmp_path / "images").mkdir()
    for name, out in (("a.tif", "out"), ("b.tif", "out"), ("b.tif", "fresh")):
        shutil.copy(cases / "same_name" / name, tmp_path / "images" / "a.tif")
        predict(tmp_path / "images", tmp_path / out, resume=out == "out")
    found, fresh = (read_volume(tmp_path / out / "a.tif") for out in ("out", "fresh"))
    np.testing.assert_array_equal(found, fresh)


def test_one_file_is_enough_and_a_small_volume_is_padded_and_said_so(tmp_path):
    source = tmp_path / "small.tif"
    tifffile.imwrite(source, volume(0, (5, 12, 6)), photometric="minisblack")
    (one,) = predict(source, tmp_path / "out")
    assert read_volume(tmp_path / "out" / "small.tif").shape == (5, 12, 6)
    assert one.padded_to == (8, 12, 8)


def test_empty_scan_is_background_whatever_the_model_says(tmp_path):
    image = volume(0, (8, 8, 24))
    image[..., :16] = 0
    tifffile.imwrite(tmp_path / "half.tif", image, photometric="minisblack")

    class Everywhere(Scale):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full_like(images, 5.0)

    predict(tmp_path / "half.tif", tmp_path / "out", Everywhere())
    mask = read_volume(tmp_path / "out" / "half.tif")
    assert not mask[..., :12].any()
    assert mask[..., 16:].all()


def test_existing_outputs_are_refused_with_both_ways_out(images, tmp_path):
    predict(images / "b.tif", tmp_path / "out")
    before = (tmp_path / "out" / "b.tif").read_bytes()
    with pytest.raises(UserError, match=r"1 of 3 outputs exist already .*--resume .* --overwrite"):
        predict(images, tmp_path / "out")
    assert not (tmp_path / "out" / "a.tiff").exists()  # found before anything was computed
    assert (tmp_path / "out" / "b.tif").read_bytes() == before
    assert len(predict(images, tmp_path / "out", overwrite=True)) == 3


def test_resume_predicts_what_is_missing_or_torn_and_nothing_else(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    whole = (out / "a.tiff").read_bytes()
    (out / "b.tif").unlink()
    (out / "c.tif").write_bytes((out / "c.tif").read_bytes()[:-40])
    model = Scale()
    results = predict(images, out, model, resume=True)
    assert model.calls == 2 * 8  # two of three volumes, of eight tiles each
    assert len(results) == 3
    assert (out / "a.tiff").read_bytes() == whole
    assert read_volume(out / "c.tif").shape == (9, 12, 10)


@pytest.mark.parametrize(
    ("change", "said"), [({"model": 4.0}, "weights_sha256"), ({"threshold": 0.7}, "postprocessing")]
)
def test_resume_never_mixes_masks_of_different_settings(images, tmp_path, change, said):
    predict(images / "b.tif", tmp_path / "out")
    arguments = {"threshold": change.get("threshold", 0.5), "model": Scale(change.get("model", 3.0))}
    with pytest.raises(UserError, match=f"made with other settings .*{said}"):
        predict(images, tmp_path / "out", resume=True, **arguments)


def test_what_an_overwrite_did_not_reach_is_not_resumed_as_done(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)

    class Dies(Scale):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.calls == 12:  # in the second of three volumes of eight tiles
                raise KeyboardInterrupt
            return super().forward(images)

    with pytest.raises(KeyboardInterrupt):
        predict(images, out, Dies(5.0), overwrite=True)
    model = Scale(5.0)
    predict(images, out, model, resume=True)
    assert model.calls == 16
    record = json.loads((out / "prediction.json").read_text())
    assert record["settings"]["weights_sha256"] == weights_identity(model)
    assert len(record["images"]) == 3


def test_inputs_are_never_replaced(images):
    with pytest.raises(UserError, match="would replace an input image"):
        predict(images, images, overwrite=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "does not exist"), ("images/notes.txt", "no .tif or .tiff file"), ("empty", "holds no .tif")],
)
def test_sources_without_an_image_are_refused(images, tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        find_images(tmp_path / name)


def test_overwrite_and_resume_exclude_each_other(images, tmp_path):
    with pytest.raises(UserError, match="exclude each other"):
        predict(images, tmp_path / "out", overwrite=True, resume=True)


def test_weights_identity_follows_the_weights_alone():
    assert weights_identity(Scale(1.0)) == weights_identity(Scale(1.0)) != weights_identity(Scale(1.5))

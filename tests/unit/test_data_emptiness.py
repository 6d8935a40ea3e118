"""What a scan does not hold: found whatever its value and shape, and no surface is taken for it."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from small_datasets import prepared_dataset, write_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.config.postprocessing import Close, Postprocessing, Threshold
from volumen.config.schema import Inference
from volumen.data.emptiness import FOLDS, NEAR, fill_in, find_emptiness
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.meanings import read_meanings
from volumen.data.normalise import NOTHING, statistics_of
from volumen.data.prepare import prepare
from volumen.data.sampling import PatchDataset, crop
from volumen.data.volumes import load_volume
from volumen.errors import UserError
from volumen.inference.degenerate import degenerate_warnings, emptiness_notes
from volumen.inference.files import find_images, predict_files
from volumen.inference.output_folder import Wanted
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import Recipe
from volumen.postprocess import apply_pipeline

MASKS = ("frame", "half", "cylinder", "sphere", "stairs", "corner", "oblique", "slab")
FILLS = ("zero", "below", "above", "common")
TYPES = ("uint8", "uint16", "int16", "int32")


def sheets(random: np.random.Generator, *, noise: float = 12.0, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """An image of tilted sheets and their mask; as int16 and int32 with negative values."""
    shape = random.integers(24, 56, 3)
    axes = np.indices(shape)[random.permutation(3)]
    thick = int(random.integers(2, 9))
    period = thick + int(random.integers(3, 14))
    tilts = random.uniform(-0.3, 0.3, 2)
    label = (axes[0] + tilts[0] * axes[1] + tilts[1] * axes[2]) % period < thick
    grey = 70 + 80 * label + noise * random.normal(size=shape)
    scale, shift = {"uint8": (1, 0), "uint16": (200, 0), "int16": (10, -120), "int32": (9000, -100)}[dtype]
    limits = (1, 250) if dtype == "uint8" else (1, 300)
    return ((np.clip(grey, *limits) + shift) * scale).astype(dtype), label


def masked(random: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Where a scan of some shape holds something."""
    z, y, x = (axis - (side - 1) / 2 for axis, side in zip(np.indices(shape), shape, strict=True))
    scan = np.zeros(shape, bool)
    if kind == "frame":
        width = int(random.choice([1, 2, 3, 5, 9]))
        scan[width:-width, width:-width, width:-width] = True
    elif kind == "half":
        scan[: int(shape[0] * random.uniform(0.1, 0.9))] = True
    elif kind == "slab":
        scan[:, shape[1] // 4 : -shape[1] // 4] = True
    elif kind == "stairs":
        scan = np.floor(z / 6) + np.floor(y / 6) + np.floor(x / 6) < 0
    elif kind == "corner":
        scan[:] = True
        scan[: shape[0] // 3, : shape[1] // 3, : shape[2] // 3] = False
    elif kind == "oblique":
        scan = z + random.uniform(0.2, 2) * y + random.uniform(0.2, 2) * x < random.uniform(-8, 8)
    else:
        scan = y**2 + x**2 + (z**2 if kind == "sphere" else 0) <= (random.uniform(0.6, 1) * min(shape) / 2) ** 2
    return scan


def fill_of(image: np.ndarray, kind: str) -> int:
    """A fill that no natural scan of these has in many cubes; `common` is a grey value of many voxels."""
    limits = np.iinfo(image.dtype)
    below = max(int(limits.min), int(image.min()) - 700)
    return {"zero": 0, "below": below, "above": int(limits.max), "common": int(np.median(image))}[kind]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(MASKS), st.sampled_from(FILLS), st.sampled_from(TYPES))
def test_a_masked_scan_is_found_whatever_its_shape_and_fill(seed, mask, kind, dtype):
    random = np.random.default_rng(seed)
    image, _ = sheets(random, dtype=dtype)
    scan = masked(random, image.shape, mask)
    fill = fill_of(image, kind)
    image[~scan] = fill
    found = find_emptiness(image)
    assert found.values == (fill,)
    assert found.scan is not None
    assert not (found.scan & ~scan).any()  # nothing outside is taken for scan
    assert (scan & ~found.scan).sum() <= 0.002 * scan.sum()  # noise that has the value of the fill beside it
    assert found.share == pytest.approx(1 - found.scan.mean())


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 1.0, 5.0, 12.0, 40.0]),
    st.sampled_from(TYPES),
    st.sampled_from(["as it is", "saturated", "dark cut off", "two values"]),
)
def test_no_surface_of_a_whole_scan_is_taken_for_empty(seed, noise, dtype, clothes):
    image, label = sheets(np.random.default_rng(seed), noise=noise, dtype=dtype)
    if clothes == "saturated":
        image = np.minimum(image, np.quantile(image, 0.8).astype(dtype))
    elif clothes == "dark cut off":
        image = np.maximum(image, np.quantile(image, 0.2).astype(dtype))
    elif clothes == "two values":
        image = np.where(label, image.max(), image.min() + (1 if dtype == "uint8" else 0)).astype(dtype)
    found = find_emptiness(image)
    assume(image.min() < image.max())
    if found.scan is not None:
        assert not (label & ~found.scan).any()
        assert 0 not in found.values


def test_real_scans_hold_all_of_their_volume(semi: Path) -> None:
    for path in sorted((semi / "train_images").iterdir())[:6]:
        assert find_emptiness(load_volume(path).array).scan is None


@pytest.mark.parametrize("shape", [(40, 40, 40), (2, 3, 4), (1, 1, 1), (3, 64, 64)])
@pytest.mark.parametrize(("value", "dtype"), [(0, "uint8"), (7, "uint8"), (65535, "uint16"), (-1200, "int16")])
def test_a_constant_volume_holds_nothing(shape, value, dtype):
    found = find_emptiness(np.full(shape, value, dtype))
    assert (found.values, found.share) == ((value,), 1.0)
    assert statistics_of(np.full(shape, value, dtype), found.scan) == NOTHING


def test_zeros_inside_and_another_fill_outside_are_both_empty():
    image, _ = sheets(np.random.default_rng(0), dtype="int16")
    image[10:16, 10:17, 10:18] = 0
    padded = np.pad(image, 7, constant_values=-1200)
    found = find_emptiness(padded)
    assert found.values == (-1200, 0)
    assert found.scan is not None
    assert (~found.scan).sum() == padded.size - image.size + 6 * 7 * 8


def test_what_is_declared_is_all_that_counts():
    image, _ = sheets(np.random.default_rng(1))
    image[:6], image[-6:] = 0, 90
    assert find_emptiness(image, declared=()).scan is None
    assert find_emptiness(image, declared=(255,)).scan is None
    found = find_emptiness(image, declared=(90,))
    assert found.values == (90,)
    assert found.share == pytest.approx(6 / len(image), abs=1e-3)
    inside = np.pad(image[6:-6], 8)
    inside[20:26, 20:26, 20:26] = 90  # not at the border: only somebody who knows can say
    assert find_emptiness(inside).values == (0,)
    assert find_emptiness(inside, declared=(0, 90)).values == (0, 90)


@given(st.integers(0, 2**32), st.sampled_from(MASKS), st.sampled_from(FILLS), st.sampled_from(TYPES))
@settings(max_examples=20)
def test_statistics_are_those_of_the_scan_whatever_is_masked(seed, mask, kind, dtype):
    random = np.random.default_rng(seed)
    image, _ = sheets(random, dtype=dtype)
    scan = masked(random, image.shape, mask)
    part = image[scan][None, None]
    image[~scan] = fill_of(image, kind)
    assert statistics_of(image, scan) == statistics_of(part)


@given(st.integers(0, 2**32), st.sampled_from(MASKS))
@settings(max_examples=20)
def test_emptiness_shows_voxels_of_the_scan_alone(seed, mask):
    random = np.random.default_rng(seed)
    image, _ = sheets(random)
    scan = masked(random, image.shape, mask)
    shown = fill_in(image, scan)
    assert np.array_equal(shown[scan], image[scan])
    other = np.where(scan, image, random.integers(0, 255, image.shape).astype(np.uint8))
    assert np.array_equal(fill_in(other, scan), shown)  # of what stands there, nothing is seen


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("depth", [10, 30])
def test_emptiness_shows_the_nearest_plane_and_then_the_mirror_image(axis, depth):
    image = np.random.default_rng(depth).integers(0, 255, (48, 48, 48)).astype(np.uint8)
    lines = np.moveaxis(image, axis, 0)
    scan = np.ones(image.shape, bool)
    np.moveaxis(scan, axis, 0)[depth:] = False
    shown = np.moveaxis(fill_in(image, scan), axis, 0)
    for beyond in range(1, 48 - depth + 1):
        into = max(beyond - NEAR, 0)
        folded = (fold - abs(fold - into % (2 * fold)) for fold in FOLDS)
        source = next(reach for reach in folded if reach < depth)  # the first one that lies in the scan
        assert np.array_equal(shown[depth - 1 + beyond], lines[depth - 1 - source])
        assert into >= depth or source == into


def test_emptiness_and_what_lies_beyond_the_volume_show_the_same_close_to_it():
    image, _ = sheets(np.random.default_rng(2))
    start, side = (-NEAR, 3, 8), (20, 16, 12)
    around = crop(image, start, side)
    scan = crop(np.ones(image.shape, np.uint8), start, side, outside=0) > 0
    assert np.array_equal(fill_in(np.where(scan, around, 0).astype(np.uint8), scan), around)


@pytest.mark.parametrize(
    ("written", "read"),
    [("", None), ("empty: none", ()), ("empty: -1200", (-1200,)), ("empty: [65535, 0]", (0, 65535))],
)
def test_a_data_set_may_declare_what_is_empty(tmp_path: Path, written: str, read: object) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text(f"labels: {{0: background, 1: surface}}\n{written}\n")
    assert read_meanings(file).empty == read


@pytest.mark.parametrize("written", ["some", "1.5", "[0, black]", "{0: 1}", "true", "9" * 19, "[[0]]"])
def test_a_declaration_that_is_no_grey_value_is_refused(tmp_path: Path, written: str) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text(f"labels: {{0: background, 1: surface}}\nempty: {written}\n")
    with pytest.raises(UserError, match=r"dataset\.yaml:2: empty(\.\d)?: expected "):
        read_meanings(file)


def test_a_configuration_says_what_is_empty_too():
    said = {"auto": None, "found": None, "none": (), -1200: (-1200,), (0, 255): (0, 255)}
    assert {written: Inference(empty=written).declared_empty for written in said} == said


PLAIN = Augmentation(flips=False, rotations="none", **dict.fromkeys(
    (f"{name}_probability" for name in ("affine", "intensity", "gamma", "noise", "blur")), 0.0
))  # fmt: skip


@pytest.mark.parametrize(("empty", "fill"), [(12, 0), (12, 200), (17, 7)])
def test_a_training_learns_nothing_where_the_scan_holds_nothing(tmp_path: Path, empty: int, fill: int) -> None:
    prepared = prepared_dataset(tmp_path, {"11": "a"}, lambda _: (20, 24, 28), empty=empty, fill=fill)
    case, held = prepared.case("11"), 20 - empty
    assert case.empty is not None
    assert (case.empty.values, case.scan_voxels) == ((fill,), held * 24 * 28)
    assert case.statistics == statistics_of(np.asarray(prepared.image("11"))[:held])
    label = np.asarray(prepared.label("11"))
    assert (label == SURFACE)[held:].any()  # the label itself is not changed, and neither is a score
    assert case.scanned_surface == np.count_nonzero(label[:held] == SURFACE) == len(prepared.surface_positions("11"))
    assert np.asarray(prepared.surface_positions("11"))[:, 0].max() < held
    assert np.array_equal(np.asarray(prepared.lesson("11"))[:held], label[:held])
    assert (np.asarray(prepared.lesson("11"))[held:] == IGNORE).all()
    sampling = Sampling(patches_per_epoch=40, surface_share=0.3, minimum_valid_share=0.0, jitter_voxels=0)
    config = Data(dataset="prepared", patch=(8, 8, 8), augmentation=PLAIN, sampling=sampling)
    patches = PatchDataset(prepared, ("11",), config, 0)
    for key in range(40):
        sample, place = patches[key], patches.draw(0, key).origin[0]
        assert place < held  # about a voxel that was scanned
        assert not sample["valid"][max(0, held - place) :].any()
        assert float(sample["image"].max()) < 5  # nothing of the fill is seen
        assert torch.equal(sample["image"], patches[key]["image"])


def test_what_is_declared_belongs_to_the_data_sets_identity(tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "source", {"11": "a"}, empty=8, fill=200)
    found = prepare(source, tmp_path / "prepared")
    assert any("taken for empty (grey value 200)" in note for note in found.notes)
    with (source / "dataset.yaml").open("a") as file:
        file.write("empty: none\n")
    declared = prepare(source, tmp_path / "prepared")
    assert declared.identity != found.identity
    assert declared.meanings.empty == ()
    assert declared.case("11").empty is None
    assert declared.scan("11") is None


def test_a_case_whose_labels_lie_in_emptiness_is_refused(tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "source", {"11": "a"}, empty=10)
    label = tifffile.imread(source / "train_labels" / "11.tif")
    label[:10] = IGNORE
    tifffile.imwrite(source / "train_labels" / "11.tif", label)
    with pytest.raises(UserError, match=r"every labelled voxel lies where the scan holds nothing .*grey value 0"):
        prepare(source, tmp_path / "prepared")


def test_no_step_puts_surface_where_the_scan_holds_nothing():
    probabilities = np.zeros((9, 9, 9), np.float32)
    probabilities[3], probabilities[5] = 1, 1
    steps = Postprocessing(steps=(Threshold(), Close(kind="close")))
    assert apply_pipeline(probabilities, steps)[4].all()
    scan = np.ones(probabilities.shape, bool)
    scan[4:] = False
    assert apply_pipeline(probabilities, steps, scan)[:4].sum() == 81
    assert not apply_pipeline(probabilities, steps, scan)[4:].any()


@dataclass(frozen=True)
class Plain:
    memory_format: torch.memory_format = torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Bright(nn.Module):
    """Surface where the blurred image is bright, as its own spread over the tile has it."""

    def __init__(self, above: float = 0.0) -> None:
        super().__init__()
        self.above, self.weight = above, nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blurred = torch.nn.functional.avg_pool3d(images, 3, 1, 1)
        return 9 * self.weight * nn.functional.instance_norm(blurred) - self.above


def predict(images: Path, out: Path, model: nn.Module, tile: int = 48) -> tuple[dict[str, np.ndarray], list]:
    predictor = Predictor(model, tile=(tile,) * 3, overlap=0.25, device="cpu", precision=Plain())
    recipe = Recipe(predictor, "zscore", Postprocessing(steps=(Threshold(),)))
    made = predict_files(recipe, find_images(images), out, Wanted())
    return {one.name: tifffile.imread(out / one.name) for one in made}, [one.appearance for one in made]


@pytest.mark.parametrize("tile", [16, 48])
def test_the_scanned_half_is_predicted_as_it_is_without_the_mask(cases: Path, tmp_path: Path, tile: int) -> None:
    masks, _ = predict(cases / "masked", tmp_path / "out", Bright(), tile)
    whole = masks.pop("whole.tif")[:16]
    assert 0.1 < whole.mean() < 0.9
    for name, mask in masks.items():
        end = int(48 * (1 - int(name[6:8]) / 100))
        dice = 2 * np.count_nonzero(whole & mask[:16]) / (whole.sum() + mask[:16].sum())
        assert dice >= 0.98, name
        assert not mask[end:].any()


def test_what_is_empty_has_no_surface_and_is_named(cases: Path, tmp_path: Path) -> None:
    everywhere = Bright(above=-50.0)
    masks, looks = predict(cases / "emptiness_not_zero", tmp_path / "out", everywhere)
    assert not masks["constant_7.tif"].any()
    for name in ("minus_1200.tif", "full_65535.tif"):
        assert masks[name].sum() == masks[name][24:-24, 24:-24, 24:-24].sum() == 48**3
    notes = "\n".join(emptiness_notes(looks))
    assert "constant_7.tif: the scan holds nothing: every voxel is 7" in notes
    assert "minus_1200.tif: 87.5 % of the volume taken for empty (grey value -1200)" in notes
    assert "full_65535.tif: 87.5 % of the volume taken for empty (grey value 65535)" in notes
    warnings = "\n".join(degenerate_warnings(looks))
    assert "constant_7" not in warnings  # nothing was asked about it
    assert warnings.count("every voxel was predicted to be surface") == 2  # all that was scanned, that is
    record = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert {image["name"]: image["appearance"]["empty_values"] for image in record["images"]} == {
        "constant_7.tif": [7], "full_65535.tif": [65535], "minus_1200.tif": [-1200]
    }  # fmt: skip

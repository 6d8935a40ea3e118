"""Patches: the distance of sheets is found in any direction, and what augmentation leaves falls with its strength."""

from pathlib import Path

import numpy as np
import pytest

from volumen.config.load import load_config
from volumen.data.labels import BACKGROUND, SURFACE
from volumen.data.prepare import prepare
from volumen.doctor.context import Context, open_context
from volumen.doctor.data.patches import check_patches, measure_left, spacing_of
from volumen.doctor.learning_rate import check_quickly, path_of
from volumen.doctor.start.size import check_size
from volumen.phantoms.scrolls import write_phantom_dataset

SMALL = ("data.patch=[32, 32, 32]", "model={filters: 4, depth: 2}", "precision=fp32")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("patches")
    write_phantom_dataset(folder / "raw", shape=(48, 48, 48), volumes=3, scrolls=2, seed=3)
    return prepare(folder / "raw", folder / "prepared", accept_proposal=True).root


def context_of(prepared: Path, *overrides: str) -> Context:
    return open_context(load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]))


def entries(label: np.ndarray) -> list[int]:
    surface = label == SURFACE
    return [int((np.diff(surface.astype(int), axis=axis) == 1).sum()) for axis in range(3)]


@pytest.mark.parametrize("seed", range(8))
def test_the_distance_of_sheets_is_found_in_any_direction(seed) -> None:
    random = np.random.default_rng(seed)
    normal, spacing = random.standard_normal(3), random.uniform(8, 20)
    across = np.tensordot(normal / np.linalg.norm(normal), np.indices((64,) * 3), 1)
    label = np.where(across % spacing < 3, SURFACE, BACKGROUND)
    assert spacing_of(np.array(entries(label)), label.size) == pytest.approx(spacing, rel=0.15)


def test_without_surface_there_is_no_distance() -> None:
    assert spacing_of(np.zeros(3), 100) == np.inf


HARSH = {
    "noise": "data.augmentation={noise_probability: 1.0, noise_std: [9.0, 9.0]}",
    "blur": "data.augmentation={blur_probability: 1.0, blur_sigma_voxels: [12.0, 12.0]}",
    "scale": "data.augmentation={affine_probability: 1.0, affine_scale: [4.0, 4.0]}",
}


@pytest.mark.parametrize("harsh", HARSH.values(), ids=HARSH)
def test_harsh_augmentation_leaves_less(prepared, harsh) -> None:
    usual, left = measure_left(context_of(prepared)), measure_left(context_of(prepared, harsh))
    assert usual is not None
    assert left is not None
    assert usual > 0.9
    assert left < 0.75


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ((), []),
        (("data.augmentation.flips=false", "data.batch=4", "data.sampling.surface_share=0.4"), []),
        (("data.patch=[96, 96, 96]", "data.sampling.jitter_voxels=4"), ["data.patch"]),
        (("data.patch=[8, 8, 8]",), ["data.patch"]),
        (
            ("training.epochs=1", "data.sampling.patches_per_epoch=1", "data.batch=1"),
            ["data.sampling.patches_per_epoch"],
        ),
    ],
)
def test_the_first_fault_of_the_patches_is_named_alone(prepared, overrides, keys) -> None:
    found = [one.where.split(" ")[0] for one in check_patches(context_of(prepared, *overrides))]
    assert found == keys


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ((), []),
        (("model={filters: 4, depth: 5}",), ["data.patch"]),
        (("model.filters=1",), ["model.filters"]),
        (("inference.tile=[8, 8, 8]",), ["inference.tile"]),
    ],
)
def test_network_patch_and_tile_go_together(prepared, overrides, keys) -> None:
    assert [one.where.split(" ")[0] for one in check_size(context_of(prepared, *overrides))] == keys


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_long_path_is_that_of_the_final_velocity(momentum) -> None:
    assert path_of([0.1] * 2000, momentum) == pytest.approx(0.1 * 2000 / (1 - momentum), rel=0.01)


@pytest.mark.parametrize(
    ("overrides", "severities"),
    [
        ((), []),
        (("optimiser.learning_rate=1e-7",), ["stop"]),
        (("optimiser.eps=1.0", "training.epochs=2"), ["stop"]),
        (("optimiser={kind: sgd}", "training.gradient_clip=1e-7"), ["stop"]),
        (("optimiser.weight_decay=100",), ["stop"]),
        (("training.epochs=1", "data.sampling.patches_per_epoch=8", "optimiser.learning_rate=1e-7"), []),
    ],
)
def test_a_run_that_cannot_move_its_network_is_stopped(prepared, overrides, severities) -> None:
    assert [one.severity for one in check_quickly(context_of(prepared, *overrides))] == severities

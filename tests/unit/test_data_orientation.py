"""Surfaces along an axis are told from surfaces in every direction, and augmentation follows."""

import numpy as np
import pytest
from tests.small_datasets import prepared_dataset

from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.orientation import normals_along, rotations_for
from volumen.data.prepare import prepare
from volumen.data.sampling import PatchDataset


def shell(shape: tuple[int, int, int], radius: float, axes: tuple[int, ...]) -> np.ndarray:
    distance = sum((np.indices(shape)[axis] - shape[axis] / 2) ** 2 for axis in axes) ** 0.5
    return (np.abs(distance - radius) < 1.5).astype(np.uint8)


def test_a_sphere_has_no_axis_and_a_cylinder_has_one() -> None:
    sphere = normals_along(shell((64, 64, 64), 20, (0, 1, 2)))
    assert sphere == pytest.approx([1 / 3] * 3, abs=0.02)
    cylinder = normals_along(shell((64, 64, 64), 20, (1, 2)))
    assert cylinder == pytest.approx([0, 0.5, 0.5], abs=0.02)
    across_x = normals_along(shell((64, 64, 64), 20, (0, 1)))
    assert across_x == pytest.approx([0.5, 0.5, 0], abs=0.02)


def test_unlabelled_voxels_and_their_border_make_no_normals() -> None:
    label = shell((64, 64, 64), 20, (1, 2))
    label[40:] = 2
    found = normals_along(label)
    assert found is not None
    assert found[0] < 0.01
    assert normals_along(np.zeros((16, 16, 16), np.uint8)) is None
    assert normals_along(np.full((16, 16, 16), 2, np.uint8)) is None


def test_auto_turns_about_z_where_the_sheets_run_along_it(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    settings = load_config("preset:default", [f"data.dataset={prepared.root}"]).config.data
    patches = PatchDataset(prepared, ["a", "b"], settings, seed=0)
    assert patches.augmentation.rotations == "about_z"
    assert any("rotations: auto is about_z" in note for note in patches.notes)
    told = settings.model_copy(update={"augmentation": settings.augmentation.model_copy(update={"rotations": "all"})})
    chosen = PatchDataset(prepared, ["a"], told, seed=0)
    assert chosen.augmentation.rotations == "all"
    assert not any("rotations" in note for note in chosen.notes)


def test_auto_is_all_on_cells_and_about_z_on_scrolls(semi, ovules, tmp_path) -> None:
    for folder, expected in ((semi, "about_z"), (ovules, "all")):
        prepared: PreparedDataset = prepare(folder, tmp_path / folder.name, accept_proposal=True)
        rotations, reason = rotations_for(prepared, [case.id for case in prepared.labelled])
        assert rotations == expected, reason

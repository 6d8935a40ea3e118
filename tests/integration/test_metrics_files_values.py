"""`volumen score` names what nobody declared: values, numbers that are none, chunks that are missing."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from volumen.cli.main import run as volumen
from volumen.data.labels import undeclared
from volumen.errors import UserError
from volumen.metrics.files import refuse_undeclared, values_of

FILES = ("prediction", "truth")


def score(folder: Path, prediction: str, truth: str, *options: str) -> int:
    return volumen(["score", str(folder / prediction), str(folder / truth), "--quick", *options])


@pytest.mark.parametrize(
    ("prediction", "truth", "named", "options", "score_then"),
    [
        ("prediction_perfect.tif", "truth_255_unlabelled.tif", "255 in 12288 voxels", ["--ignore-label", "255"], 1.0),
        (
            "prediction_without_sheet_2.tif", "truth_instances.tif", "3 in 3072 voxels",
            ["--surface", "any", "--ignore-label", "-1"], 0.63,
        ),
        (
            "prediction_without_sheet_2.tif", "truth_instances.tif", "3 in 3072 voxels",
            ["--surface", "1,2,3", "--ignore-label", "-1"], 0.63,
        ),
    ],
)  # fmt: skip
def test_values_that_nobody_declared_are_named_and_can_be_said(
    cases: Path, capsys, prediction, truth, named, options, score_then
) -> None:
    folder = cases / "scored_values"
    assert score(folder, prediction, truth, "--json") == 2
    told = capsys.readouterr()
    assert '"mean": null' in told.out
    assert named in told.err
    assert "--ignore-label" in told.err
    assert "--surface" in told.err
    assert told.err.count("\n") == 1
    assert score(folder, prediction, truth, *options) == 0
    assert f" {score_then:.4f} " in capsys.readouterr().out


@pytest.mark.parametrize("prediction", ["prediction_float.tif", "prediction_float.npy", "prediction_perfect.tif"])
def test_masks_of_floating_point_numbers_are_masks_in_every_file(cases: Path, capsys, prediction: str) -> None:
    assert score(cases / "scored_values", prediction, "prediction_perfect.tif") == 0
    assert " 1.0000 " in capsys.readouterr().out


def test_missing_chunks_are_named(cases: Path, capsys) -> None:
    folder = cases / "zarr_missing"
    assert score(folder, "prediction.zarr", "truth.zarr") == 2
    error = capsys.readouterr().err
    assert "lacks 4 of its 8 chunks ('c/1/0/0', " in error
    assert "--missing-is-empty" in error
    assert score(folder, "prediction.zarr", "truth.zarr", "--missing-is-empty") == 0
    assert " 0.6801 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--surface", "any"], "say which that is with --ignore-label"),
        (["--surface", "1,2"], "has 2, which is the label of ignored voxels too"),
        (["--surface", "x"], "must be whole numbers above 0"),
        (["--surface", "0,1"], "must be whole numbers above 0"),
        (["--surface", "1" * 40], "must be whole numbers above 0"),
    ],
)
def test_what_is_said_of_values_means_one_thing(cases: Path, capsys, options: list[str], message: str) -> None:
    assert score(cases / "scored_values", "prediction_perfect.tif", "prediction_perfect.tif", *options) == 2
    assert message in capsys.readouterr().err


grey = st.sampled_from([0, 1, 2, 3, 7, 255, 1000])


@given(
    st.lists(grey, min_size=8, max_size=8),
    st.lists(grey, min_size=8, max_size=8),
    st.sampled_from([None, 2, 255, 7, -1]),
    st.sampled_from([None, "1", "3,7", "any"]),
    st.sampled_from([np.uint16, np.int32, np.float32]),
)
def test_nothing_undeclared_is_scored_and_all_that_is_declared_is(predicted, true, ignore, surface, kind) -> None:
    truth = np.array(true).reshape(2, 2, 2).astype(kind)
    prediction = np.array(predicted).reshape(2, 2, 2).astype(kind)
    try:
        values = values_of(surface, ignore)
    except UserError:
        return
    meant = {1} - {values.ignore} if surface is None else {int(part) for part in surface.split(",") if part != "any"}
    counted = {p for p, t in zip(predicted, true, strict=True) if not p == t == values.ignore}
    is_declared = surface == "any" or (
        set(true) <= {0, values.ignore, *meant} and (counted <= {0, 1, *meant} or counted <= {0, 255})
    )
    if is_declared:
        refuse_undeclared(prediction, truth, values, FILES)
    else:
        with pytest.raises(UserError, match=r" holds \d+ in \d voxels"):
            refuse_undeclared(prediction, truth, values, FILES)


def test_values_are_named_rising_with_what_is_no_number_last() -> None:
    array = np.array([[[np.nan, 300, 2], [1, 2, np.nan]], [[np.nan, 0, 0], [0, 0, -1]]])
    assert undeclared(array, (0, 1)) == "-1 in 1 voxels, 2 in 2 voxels, 300 in 1 voxels, nan in 3 voxels"
    assert undeclared(array == 2, (0, 1)) == ""
    with pytest.raises(UserError, match="nan in 1 voxels"):
        refuse_undeclared(np.full((1, 1, 1), np.nan), np.zeros((1, 1, 1)), values_of(None, None), FILES)


def test_voxels_that_are_no_cubes_are_told(cases: Path, capsys) -> None:
    label = cases / "nnunet_spacing" / "Dataset009_Aniso" / "labelsTr" / "s.tif"
    assert volumen(["score", str(label), str(label), "--quick"]) == 0
    assert "note: the voxels of s are no cubes (80 x 7.6 x 7.6" in capsys.readouterr().err
    assert volumen(["score", str(label), str(label), "--quick", "--spacing", "80,7.6,7.6"]) == 0
    assert capsys.readouterr().err == ""


def test_a_mask_for_looking_at_is_a_mask(tmp_path: Path, capsys) -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:6] = 1
    tifffile.imwrite(tmp_path / "truth.tif", mask)
    tifffile.imwrite(tmp_path / "view.tif", 255 * mask)
    assert score(tmp_path, "view.tif", "truth.tif") == 0
    assert " 1.0000 " in capsys.readouterr().out
    assert score(tmp_path, "truth.tif", "view.tif") == 2  # surface, or unlabelled? the truth has to say
    assert "255 in 512 voxels" in capsys.readouterr().err

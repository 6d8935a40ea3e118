"""nnU-Net's folders: what is exported comes back, and what is not clear is refused."""

import json

import numpy as np
import pytest
import tifffile
from tests.small_datasets import command, prepared_dataset, write_dataset

from volumen.data.nnunet import export_nnunet, import_nnunet
from volumen.data.prepare import prepare
from volumen.errors import UserError


def test_a_data_set_survives_the_way_there_and_back(tmp_path) -> None:
    source = write_dataset(tmp_path / "source", {"a": "one", "b": "two"}, tests={"t": "one"})
    prepared = prepare(source, tmp_path / "prepared")
    there = tmp_path / "Dataset501_Sheets"
    assert export_nnunet(prepared, there) == 3
    index = json.loads((there / "dataset.json").read_text())
    assert index["labels"] == {"background": 0, "surface": 1, "ignore": 2}
    assert (index["numTraining"], index["file_ending"]) == (2, ".tif")
    assert sorted(path.name for path in (there / "imagesTr").iterdir()) == [
        "a.json", "a_0000.tif", "b.json", "b_0000.tif",
    ]  # fmt: skip
    assert json.loads((there / "labelsTr" / "a.json").read_text()) == {"spacing": [1.0, 1.0, 1.0]}
    assert import_nnunet(there, tmp_path / "back") == 3
    again = prepare(tmp_path / "back", tmp_path / "prepared-again")
    for case in prepared.cases:
        assert np.array_equal(again.image(case.id), prepared.image(case.id))
        if case.has_label:
            assert np.array_equal(again.label(case.id), prepared.label(case.id))


def test_an_interrupted_export_goes_on(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    there = tmp_path / "Dataset501_Sheets"
    export_nnunet(prepared, there)
    before = (there / "labelsTr" / "a.tif").stat().st_mtime_ns
    (there / "labelsTr" / "b.tif").unlink()
    export_nnunet(prepared, there)
    assert (there / "labelsTr" / "a.tif").stat().st_mtime_ns == before
    assert tifffile.imread(there / "labelsTr" / "b.tif").shape == prepared.case("b").shape


def foreign(tmp_path, labels, channels=None, ending=".tif"):
    folder = tmp_path / "Dataset002_Foreign"
    for part, name in (("imagesTr", "x_0000.tif"), ("labelsTr", "x.tif")):
        (folder / part).mkdir(parents=True)
        tifffile.imwrite(folder / part / name, np.random.default_rng(0).integers(0, 3, (8, 8, 8), np.uint8))
    index = {"channel_names": channels or {"0": "CT"}, "labels": labels, "file_ending": ending, "numTraining": 1}
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def test_one_foreign_label_is_the_surface_and_several_are_asked_about(tmp_path) -> None:
    folder = foreign(tmp_path / "one", {"background": 0, "membrane": 1, "ignore": 2})
    assert import_nnunet(folder, tmp_path / "out") == 1
    assert "1: surface" in (tmp_path / "out" / "dataset.yaml").read_text()
    folder = foreign(tmp_path / "two", {"background": 0, "recto": 1, "verso": 2})
    with pytest.raises(UserError, match="say which are surface"):
        import_nnunet(folder, tmp_path / "other")
    with pytest.raises(UserError, match="call the others background or ignore"):
        import_nnunet(folder, tmp_path / "other", surface=["recto"])
    assert import_nnunet(folder, tmp_path / "both", surface=["recto", "verso"]) == 1
    with pytest.raises(UserError, match="no label fibre"):
        import_nnunet(folder, tmp_path / "other", surface=["fibre"])


def test_what_cannot_be_read_is_refused_with_the_fix(tmp_path) -> None:
    with pytest.raises(UserError, match="no nnU-Net data set"):
        import_nnunet(tmp_path, tmp_path / "out")
    several = foreign(tmp_path / "a", {"background": 0, "s": 1}, channels={"0": "CT", "1": "MR"})
    with pytest.raises(UserError, match="2 channels"):
        import_nnunet(several, tmp_path / "out")
    nifti = foreign(tmp_path / "b", {"background": 0, "s": 1}, ending=".nii.gz")
    with pytest.raises(UserError, match="convert them"):
        import_nnunet(nifti, tmp_path / "out")
    regions = foreign(tmp_path / "c", {"background": 0, "whole": [1, 2]})
    with pytest.raises(UserError, match="regions"):
        import_nnunet(regions, tmp_path / "out")
    with pytest.raises(UserError, match="DatasetNNN_Name"):
        export_nnunet(prepared_dataset(tmp_path, {"a": "one", "b": "two"}), tmp_path / "Dataset1_Small")


def test_the_commands(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    there = tmp_path / "Dataset501_Sheets"
    assert "2 cases" in command("export", prepared.root, there).out
    back = command("import", there, tmp_path / "back")
    assert back.code == 0
    assert "next: volumen prepare" in back.out
    assert command("import", there, tmp_path / "back").code == 2  # it is no longer empty

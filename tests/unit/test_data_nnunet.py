"""nnU-Net's folders: what is exported comes back, and what is not clear is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.small_datasets import command, prepared_dataset, write_dataset

from volumen.data.meanings import read_meanings
from volumen.data.nnunet import export_nnunet, import_nnunet
from volumen.data.prepare import prepare
from volumen.data.spacing import Spacing
from volumen.data.volumes import load_volume
from volumen.errors import UserError
from volumen.system.locks import folder_in_the_making, hold


def test_a_data_set_survives_the_way_there_and_back(tmp_path) -> None:
    source = write_dataset(tmp_path / "source", {"a": "one", "b": "two"}, tests={"t": "one"})
    prepared = prepare(source, tmp_path / "prepared")
    there = tmp_path / "Dataset501_Sheets"
    assert export_nnunet(prepared, there) == 3
    index = json.loads((there / "dataset.json").read_text())
    assert index["labels"] == {"background": 0, "surface": 1, "ignore": 2}
    assert (index["numTraining"], index["file_ending"]) == (2, ".tif")
    assert sorted(path.name for path in (there / "imagesTr").iterdir()) == [
        "a_0000.tif", "b_0000.tif",
    ]  # fmt: skip
    assert import_nnunet(there, tmp_path / "back") == 3
    again = prepare(tmp_path / "back", tmp_path / "prepared-again")
    for case in prepared.cases:
        assert np.array_equal(again.image(case.id), prepared.image(case.id))
        if case.has_label:
            assert np.array_equal(again.label(case.id), prepared.label(case.id))


def test_each_case_keeps_its_voxel_size_there_and_back(cases, tmp_path) -> None:
    folder = tmp_path / "Dataset009_Aniso"
    shutil.copytree(cases / "nnunet_spacing" / "Dataset009_Aniso", folder)
    for part, end in (
        ("imagesTr", "_0000.tif"),
        ("labelsTr", ".tif"),
    ):  # one of another size, and one that says nothing
        for name in "tu":
            shutil.copy(folder / part / f"s{end}", folder / part / f"{name}{end}")
        (folder / part / "t.json").write_text('{"spacing": [1.5, 0.02, 7]}')
    assert import_nnunet(folder, tmp_path / "in") == 3
    prepared = prepare(tmp_path / "in", tmp_path / "prepared")
    assert prepared.spacing("s") == Spacing(80, 7.6, 7.6, "")
    assert any("the voxels are of 2 sizes" in note for note in prepared.notes)
    assert any("voxels of s, t are no cubes (1.5 x 0.02 x 7" in note for note in prepared.notes)
    out = command("export", tmp_path / "prepared", tmp_path / "Dataset010_Back").out
    assert "the voxel size of u is not known, and none was written" in out
    for part in ("imagesTr", "labelsTr"):
        said = {
            path.stem: json.loads(path.read_text()) for path in (tmp_path / "Dataset010_Back" / part).glob("*.json")
        }
        assert said == {"s": {"spacing": [80.0, 7.6, 7.6]}, "t": {"spacing": [1.5, 0.02, 7.0]}}
    assert load_volume(tmp_path / "Dataset010_Back" / "labelsTr" / "s.tif").spacing == Spacing(80, 7.6, 7.6, "")

    (tmp_path / "in" / "train_labels" / "s.json").write_text('{"spacing": [7, 7.6, 7.6]}')
    with pytest.raises(UserError, match=r"s\.tif says that its voxels are 7 x 7.6 x 7.6 .* its image 80 x 7.6 x 7.6"):
        prepare(tmp_path / "in", tmp_path / "afresh")
    (tmp_path / "in" / "train_labels" / "s.json").unlink()

    (tmp_path / "in" / "train_images" / "u.json").write_text('{"spacing": [4, 4, 4], "unit": "mm"}')
    again = prepare(tmp_path / "in", tmp_path / "prepared")  # nothing is packed anew
    assert again.spacing("u") == Spacing(4000, 4000, 4000)
    yaml = (tmp_path / "in" / "dataset.yaml").read_text()
    (tmp_path / "in" / "dataset.yaml").write_text(yaml + "spacing_um: [80, 7.6, 7.6]\n")
    declared = prepare(tmp_path / "in", tmp_path / "prepared")
    assert declared.spacing("t") == Spacing(80, 7.6, 7.6)
    assert any("the files of u say otherwise: 4000 x 4000 x 4000 um" in note for note in declared.notes)
    assert any("voxels of s, t, u are no cubes" in note for note in declared.notes)
    assert declared.identity == prepared.identity


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


def test_names_that_are_none_are_told_all_at_once_and_nothing_is_written(tmp_path) -> None:
    folder = foreign(tmp_path / "a", {"background": 0, "s": 1})
    for name in ("_0000.tif", " x_0000.tif", "a\nb_0000.tif", "y" * 210 + "_0000.tif"):
        (folder / "imagesTr" / name).touch()
    with pytest.raises(UserError) as caught:
        import_nnunet(folder, tmp_path / "out")
    assert str(caught.value).isprintable()
    for problem in ("is empty", "begins or ends with a space", "cannot be printed", "210 bytes long"):
        assert problem in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "the value 1 means a, b"),
        ({"labels": {"background": 0, "s": True}}, "labels.s"),
        ({"labels": {"background": 0, "s": 1.5}}, "labels.s"),
        ({"labels": ["s"]}, "labels"),
        ({"labels": {}}, "no label beside"),
        ({"channel_names": ["CT"]}, "channel_names"),
        ({"channel_names": {}}, "has 0 channels"),
        ({"file_ending": 3}, "file_ending"),
        ({"file_ending": "/../../x.tif"}, "TIFF is read"),
        ({"labels": {f"label {number}": number for number in range(9000)}}, r"\(9000 of them\)"),
    ],
)
def test_an_index_that_says_something_else_is_told_in_one_line(tmp_path, changes, message) -> None:
    folder = foreign(tmp_path, {"background": 0, "s": 1})
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(index | changes))
    with pytest.raises(UserError, match=message) as caught:
        import_nnunet(folder, tmp_path / "out")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_an_index_that_says_two_things_under_one_key_is_refused(tmp_path) -> None:
    folder = foreign(tmp_path, {"background": 0, "s": 1})
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "file_ending": ".tif", "labels": {"background": 0, "s": 1, "s": 2}}'
    )
    with pytest.raises(UserError, match="the key 's' stands there twice"):
        import_nnunet(folder, tmp_path / "out")


def test_a_folders_name_writes_no_lines_into_the_meanings(tmp_path) -> None:
    folder = foreign(tmp_path, {"background": 0, "s": 1})
    odd = folder.rename(tmp_path / "Dataset002_x\nlabels: {0: surface}")
    import_nnunet(odd, tmp_path / "out")
    assert read_meanings(tmp_path / "out" / "dataset.yaml").codes == {0: 0, 1: 1}


def test_an_export_keeps_only_what_is_the_same(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    there = tmp_path / "Dataset501_Sheets"
    export_nnunet(prepared, there)
    export_nnunet(prepared, there)
    label = there / "labelsTr" / "b.tif"
    other = tifffile.imread(label)
    other[0, 0, 0] ^= 1
    label.unlink()
    tifffile.imwrite(label, other, compression="zlib")
    with pytest.raises(UserError, match=r"b\.tif holds other voxels"):
        export_nnunet(prepared, there)
    label.write_bytes(label.read_bytes()[:100])
    with pytest.raises(UserError, match=r"b\.tif is"):
        export_nnunet(prepared, there)
    label.unlink()
    (there / "imagesTr" / "stranger_0000.tif").touch()
    with pytest.raises(UserError, match=r"stranger_0000\.tif is not of the data set"):
        export_nnunet(prepared, there)
    assert not label.exists()


def test_nothing_is_written_through_a_link(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    there, victim = tmp_path / "Dataset501_Sheets", tmp_path / "victim"
    there.mkdir()
    victim.mkdir()
    (there / "labelsTr").symlink_to(victim)
    with pytest.raises(UserError, match="is a link to another place"):
        export_nnunet(prepared, there)
    assert not list(victim.iterdir())


def _make_beside_another(folder: Path) -> None:
    with folder_in_the_making(folder) as making:
        (making / "mine").touch()
        folder.mkdir()
        (folder / "theirs").touch()


def test_one_process_at_a_time_and_only_where_it_can_be_written(tmp_path) -> None:
    prepared = prepared_dataset(tmp_path, {"a": "one", "b": "two"})
    there = tmp_path / "Dataset501_Sheets"
    with hold(there, "export"), pytest.raises(UserError, match="is in use by `volumen export`"):
        export_nnunet(prepared, there)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        export_nnunet(prepared, tmp_path / "file" / "Dataset501_Sheets")
    export_nnunet(prepared, there)
    with pytest.raises(UserError, match="filled it meanwhile"):
        _make_beside_another(tmp_path / "both")
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["theirs"]
    assert import_nnunet(there, tmp_path / "back") == 2
    assert not list((tmp_path / "back").glob(".*"))

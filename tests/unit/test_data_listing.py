"""Which files of a folder are volumes: the same ones for every command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.small_datasets import volume, write_dataset

from volumen.data.arrays import find_arrays
from volumen.data.layout import read_layout
from volumen.data.listing import list_volumes
from volumen.data.nnunet import import_nnunet
from volumen.errors import UserError
from volumen.inference.files import find_images
from volumen.submission.images import find_test_images

COMPANIONS = ["._{}", ".{}", ".DS_Store", "Thumbs.db", "desktop.ini", ".Trashes/", "notes.txt", ".hidden.tif/"]


def everyone(folder: Path, images: Path) -> list[list[str]]:
    """The ids that each reader of a folder of images sees."""
    layout = folder / "layout"
    for part in ("train_images", "train_labels"):
        shutil.copytree(images, layout / part)
    return [
        [path.stem for path in find_images(images)],
        [path.stem for path in find_test_images(images)],
        list(find_arrays(images)),
        [source.id for source in read_layout(layout).sources],
    ]


@given(
    st.sets(st.sampled_from("abc"), min_size=1), st.sets(st.sampled_from(COMPANIONS)), st.sampled_from(["tif", "TIFF"])
)
def test_every_reader_sees_the_same_volumes(tmp_path_factory: pytest.TempPathFactory, ids, companions, suffix) -> None:
    folder = tmp_path_factory.mktemp("listing")
    images = folder / "images"
    images.mkdir()
    for case_id in ids:
        (images / f"{case_id}.{suffix}").touch()
        for companion in companions:
            path = images / companion.format(f"{case_id}.{suffix}")
            path.mkdir(exist_ok=True) if companion.endswith("/") else path.touch()
    for seen in everyone(folder, images):
        assert seen == sorted(ids)
    assert set(list_volumes(images).others) <= {"notes.txt"}


def test_what_a_mac_and_windows_leave_is_not_seen(cases: Path, tmp_path: Path) -> None:
    assert everyone(tmp_path, cases / "companions") == [["a"]] * 4
    nnunet = tmp_path / "Dataset001_A"
    for part, name in (("imagesTr", "a_0000.tif"), ("labelsTr", "a.tif")):
        shutil.copytree(cases / "companions", nnunet / part)
        (nnunet / part / "a.tif").rename(nnunet / part / name)
        (nnunet / part / "._a_0000.tif").touch()
    index = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "s": 1}, "file_ending": ".tif"}
    (nnunet / "dataset.json").write_text(json.dumps(index))
    assert import_nnunet(nnunet, tmp_path / "out") == 1
    (nnunet / "imagesTr" / "a_0001.tif").touch()
    with pytest.raises(UserError, match=r"'a_0001\.tif' does not end in _0000\.tif"):
        import_nnunet(nnunet, tmp_path / "other")
    (nnunet / "imagesTr" / "a_0001.tif").rename(nnunet / "imagesTr" / "b_0000.tiff")
    with pytest.raises(UserError, match=r"'b_0000\.tiff' is no \.tif file"):
        import_nnunet(nnunet, tmp_path / "other")


def test_an_id_is_the_same_for_every_reader(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {"a": "s"})
    for part in ("train_images", "train_labels"):
        (data / part / "a.tif").rename(data / part / "a.ome.tif")
    assert [source.id for source in read_layout(data).sources] == ["a"] == list(find_arrays(data / "train_images"))
    tifffile.imwrite(data / "train_images" / "a.tiff", np.zeros((3, 3, 3), np.uint8))
    for read in (find_images, find_arrays):
        with pytest.raises(UserError, match="are both of case a"):
            read(data / "train_images")
    assert "are both of case a" in read_layout(data).problems[0]
    assert volume(0)[0].ndim == 3

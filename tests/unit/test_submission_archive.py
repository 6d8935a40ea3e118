"""A zip of masks is read back: whatever is wrong with it is named, and nothing that is wrong is kept."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from volumen.files import sha256_of
from volumen.inference.files import write_mask
from volumen.submission.archive import ArchiveError, problems_of, write_archive

SHAPES = {"a.tif": (4, 5, 6), "b.tif": (3, 3, 3)}


def hashes(masks: dict[str, Path]) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in masks.items()}


@pytest.fixture
def masks(tmp_path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        write_mask(tmp_path / name, random.integers(0, 2, shape, dtype=np.uint8))
    return {name: tmp_path / name for name in SHAPES}


def test_a_sound_zip_has_no_problems_and_is_the_same_every_time(masks, tmp_path) -> None:
    for name in ("one.zip", "other.zip"):
        write_archive(tmp_path / name, masks, SHAPES, hashes(masks))
        assert problems_of(tmp_path / name, SHAPES, hashes(masks)) == ()
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((4, 5, 7), np.uint8), "a.tif has shape [4, 5, 7], its image [4, 5, 6]"),
        (np.full((4, 5, 6), 255, np.uint8), "a.tif holds 255 in 120 voxels, expected 0 and 1 only"),
        (np.ones((4, 5, 6), np.uint16), "a.tif holds uint16, expected uint8"),
    ],
    ids=["shape", "values", "type"],
)
def test_a_wrong_mask_is_named_and_no_zip_is_left(masks, tmp_path, mask, said) -> None:
    write_mask(masks["a.tif"], mask)
    archive = tmp_path / "submission.zip"
    archive.write_text("the one before")
    with pytest.raises(ArchiveError) as caught:
        write_archive(archive, masks, SHAPES, hashes(masks))
    assert said in str(caught.value)
    assert archive.read_text() == "the one before"
    assert not list(tmp_path.glob(".partial*"))


def test_names_are_complete_and_none_is_extra(masks, tmp_path) -> None:
    write_archive(tmp_path / "x.zip", {"a.tif": masks["a.tif"]}, {"a.tif": SHAPES["a.tif"]}, hashes(masks))
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as file:
        file.writestr("notes.txt", "hello")
    assert problems_of(tmp_path / "x.zip", SHAPES, hashes(masks)) == (
        "b.tif is missing",
        "'notes.txt' is not one of the images",
    )


@pytest.mark.parametrize("place", [0.1, 0.25, 0.5, 0.6])
def test_a_flipped_bit_is_found(masks, tmp_path, place) -> None:
    archive = tmp_path / "x.zip"
    write_archive(archive, masks, SHAPES, hashes(masks))
    content = bytearray(archive.read_bytes())
    content[int(place * len(content))] ^= 8
    archive.write_bytes(content)
    assert problems_of(archive, SHAPES, hashes(masks))


def test_what_is_no_zip_is_said(tmp_path) -> None:
    (tmp_path / "x.zip").write_text("hello")
    assert "it is no zip" in problems_of(tmp_path / "x.zip", SHAPES, {})[0]

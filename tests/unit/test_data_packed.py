"""Packed arrays: pieces equal those of the array, and no number of a damaged file ever counts."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from small_datasets import command, prepared_dataset
from volumen.data import packed as packed_module
from volumen.data.dataset import PARTS, PreparedDataset
from volumen.data.packed import DamagedDataError, Packed, PackedArray, Verification
from volumen.errors import UserError
from volumen.files import sha256_of

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 40))
SPAN = st.slices(40) | st.integers(-1, 0)


def packed(path: Path, array: np.ndarray, **options: bool) -> PackedArray:
    np.save(path, array)
    return PackedArray(
        path, Packed(path.stat().st_size, sha256_of(path)), array.shape, array.dtype.name, **options
    )  # fmt: skip


@given(arrays.arrays(st.sampled_from(["u1", "<u2", "<i4"]), SHAPES), st.data())
def test_a_piece_is_the_arrays_piece(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, data: st.DataObject
) -> None:
    stored = packed(tmp_path_factory.mktemp("packed") / "a.npy", array)
    index = tuple(data.draw(SPAN) for _ in range(data.draw(st.integers(0, 3))))
    np.testing.assert_array_equal(stored[index], array[index])
    np.testing.assert_array_equal(np.asarray(stored), array)
    np.testing.assert_array_equal(stored[array > 3], array[array > 3])


@pytest.mark.parametrize("shape", [(0, 3), (5, 3)])
def test_a_table_is_read_by_rows(tmp_path: Path, shape: tuple[int, int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    stored = packed(tmp_path / "a.npy", array)
    assert len(stored) == shape[0]
    np.testing.assert_array_equal(np.asarray(stored), array)
    for row in range(shape[0]):
        np.testing.assert_array_equal(stored[row], array[row])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_dataset(tmp_path_factory.mktemp("whole"), {"11": "a", "12": "b"}, empty=8)


@pytest.fixture
def dataset(whole: PreparedDataset, tmp_path: Path) -> PreparedDataset:
    shutil.copytree(whole.root, tmp_path / "prepared")
    return PreparedDataset.open(tmp_path / "prepared")


def damages(path: Path, seed: int) -> None:
    """Flip a bit anywhere, or exchange two bytes; the times are put back, as rot would leave them."""
    random, status = np.random.default_rng(seed), path.stat()
    content = bytearray(path.read_bytes())
    place = int(random.integers(len(content)))
    other = int(random.integers(len(content)))
    if seed % 2 and content[place] != content[other]:
        content[place], content[other] = content[other], content[place]
    else:
        content[place] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


READINGS: dict[str, Callable[[PackedArray], object]] = {
    "all": np.asarray,
    "a piece": lambda array: array[1:2],
    "verify": PackedArray.verify,
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", range(8))
def test_no_damage_is_read(dataset: PreparedDataset, part: str, reading: str, seed: int) -> None:
    path = dataset.path("11", part)
    READINGS[reading](next(file for file in dataset.files(["11"]) if file.path == path))  # believed so far
    damages(path, seed)
    with pytest.raises(DamagedDataError, match=f"{part}/11.npy .*run `volumen prepare` again"):
        READINGS[reading](next(file for file in dataset.files(["11"]) if file.path == path))


def test_a_file_is_hashed_once(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    label = dataset.label("11")
    assert isinstance(label, PackedArray)
    label[0:1]

    def refuse(*_: object) -> None:
        pytest.fail("hashed again")

    monkeypatch.setattr(packed_module.hashlib, "sha256", refuse)
    label[3:5], np.asarray(label), dataset.label("11")[2]


@pytest.mark.parametrize("cut", ["truncated", "removed", "emptied"])
def test_a_file_cut_short_under_a_reader_is_an_error_and_no_signal(dataset: PreparedDataset, cut: str) -> None:
    image = dataset.trusting().image("11")
    image[0:1]
    path = dataset.path("11", "images")
    if cut == "removed":
        path.unlink()
    else:
        os.truncate(path, 200 if cut == "truncated" else 0)
    with pytest.raises(DamagedDataError, match=r"images/11\.npy"):
        image[5:20]


def test_verification_beside_a_training_finds_it(dataset: PreparedDataset) -> None:
    sound = Verification(list(dataset.files(["11", "12"])))
    sound.start()
    sound.confirm()
    assert sound.is_done
    damages(dataset.path("12", "labels"), 0)
    with pytest.raises(DamagedDataError, match=r"labels/12\.npy"):  # changed since it was verified
        sound.confirm()
    again = Verification(list(dataset.files(["11", "12"])))
    again.start()
    with pytest.raises(DamagedDataError, match=r"labels/12\.npy"):
        again.confirm()
    assert not again.is_done


def test_prepare_packs_again_what_was_damaged_and_says_so(tmp_path: Path) -> None:
    dataset = prepared_dataset(tmp_path, {"11": "a", "12": "b"})
    before = {path: path.read_bytes() for path in sorted(dataset.root.rglob("*.npy"))}
    for seed, path in enumerate(before):
        damages(path, seed)
    checked = command("prepare", tmp_path / "source", "--out", dataset.root, "--check")
    assert checked.code == 2
    assert checked.error.count("is not what prepare wrote") == len(before)
    again = command("prepare", tmp_path / "source", "--out", dataset.root)
    assert "packed again, since a packed file was not what had been written: 11, 12" in again.out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_manifest_is_told_or_says_the_same(dataset: PreparedDataset, seed: int) -> None:
    path = dataset.root / "manifest.json"
    random = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    if seed % 5 == 0:
        content = content[: int(random.integers(len(content)))]
    else:
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    try:
        again = PreparedDataset.open(dataset.root)
    except UserError as error:
        assert "manifest.json" in str(error)  # noqa: PT017
        assert "volumen prepare" in str(error)  # noqa: PT017
    else:
        assert (again.cases, again.identity, again.meanings) == (dataset.cases, dataset.identity, dataset.meanings)


def test_statistics_belong_to_the_identity(dataset: PreparedDataset) -> None:
    from dataclasses import replace

    from volumen.data.dataset import identity_of

    other = tuple(replace(case, statistics=replace(case.statistics, mean=5.0)) for case in dataset.cases)
    assert identity_of(dataset.meanings, other) != dataset.identity


HOSTILE = ["../../evil", "/etc/passwd", "a/b", "..", ".hidden", "", "a\0b", "a\nb", "x" * 300, "C:\\x", "nul", " a"]


SOURCES = [name for name in HOSTILE if name != "a/b"]  # which is a file in a folder of the data set


@pytest.mark.parametrize(
    ("field", "name"),
    [("id", name) for name in HOSTILE] + [(key, name) for key in ("image_source", "label_source") for name in SOURCES],
)
def test_names_in_a_manifest_are_no_paths(dataset: PreparedDataset, name: str, field: str) -> None:
    from volumen.system.records import open_record, write_record

    path = dataset.root / "manifest.json"
    record = open_record(path.read_bytes(), path, "")
    record["cases"][0][field] = name if field == "id" else f"train_images/{name}"
    write_record(path, record)  # an attacker can write a check
    with pytest.raises(UserError, match=r"case id|source of case|identity"):
        PreparedDataset.open(dataset.root)

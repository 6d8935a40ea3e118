"""Volumes after any mishap, and made to do harm: read, or refused in one line that says what the file holds; nothing
that a file declares is allocated, decoded or followed before it is compared with what is there.
"""

import json
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.hostile_volumes import WRITERS, array, damage

from volumen.data import npy_files, tiff, volumes, zarr_stores
from volumen.data.arrays import find_arrays, read_array
from volumen.data.volumes import VolumeError, read_volume
from volumen.errors import UserError
from volumen.system import memory

MUST_SHOW = {"stored.npz", "deflate.npz", "lzw.tif", "deflate.tif"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_refused_in_one_line_or_leaves_a_volume(tmp_path: Path, name: str) -> None:
    whole, path = tmp_path / f"whole-{name}", tmp_path / name
    WRITERS[name](whole)
    draw, refused = random.Random(name), 0
    for _ in range(50):
        if whole.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path)
        else:
            shutil.copyfile(whole, path)
        damage(path, draw)
        try:
            assert read_array(path).size > 0
        except VolumeError as error:
            refused += 1
            told = str(error)
        else:
            told = ""
        assert told.isprintable()
        assert len(told) < 900
    assert refused > 10


@pytest.mark.parametrize("name", ["stored.npz", "deflate.npz"])
def test_a_flipped_bit_in_an_archive_is_always_found(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    draw, wrong = random.Random(3), 0
    for _ in range(200):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        content[place] ^= bit
        (tmp_path / name).write_bytes(content)
        content[place] ^= bit
        try:
            found = read_array(tmp_path / name)
        except VolumeError:
            continue
        wrong += not np.array_equal(found, array())
    assert wrong == 0


def npy(shape: str, content: bytes = b"", dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            npy("(1000000, 1000000, 1000000)"),
            r"declares uint8 \[1000000, 1000000, 1000000\], 10{18} bytes, and holds 0",
        ),
        (npy("(2, 3, 4)", b"x" * 23), r"declares uint8 \[2, 3, 4\], 24 bytes, and holds 23"),
        (npy("(2, 3, 4)", b"x" * 25), "and holds 25"),
        (npy("(-2, -3, 4)", b"x" * 24), "expected numbers"),
        (npy("(0, 3, 4)"), "expected numbers"),
        (npy("()", b"x"), "expected numbers"),
        (npy("(" + "1, " * 40 + ")", b"x"), "expected numbers"),
        (npy("(2, 3)", b"x" * 96, "<c16"), "holds complex128"),
        (npy("(2, 3)", b"x" * 96, "<M8[s]"), "holds datetime64"),
        (npy("(2, 3)", b"x" * 96, "|O"), "holds object"),
        (npy("(" * 200), "is damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is damaged"),
        (b"\x93NUMPY\x09\x00", "named fields"),
        (b"", "is damaged"),
    ],
)
def test_what_an_npy_file_declares_is_compared_with_its_size(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(VolumeError, match=message):
        read_array(tmp_path / "x.npy")


def test_what_does_not_fit_into_memory_is_not_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (npy_files, tiff, volumes, zarr_stores):
        monkeypatch.setattr(
            module, "does_not_fit", lambda size: "3.24 kB, 3 kB of memory are free" if size > 3000 else ""
        )
    for name, writer in WRITERS.items():
        writer(tmp_path / name)
        with pytest.raises(VolumeError, match="3 kB of memory are free"):
            read_array(tmp_path / name)


def test_free_memory_is_known_and_told_in_units() -> None:
    assert 2**20 < memory.available_bytes() <= 2**63
    assert memory.does_not_fit(2**20) == ""
    assert memory.does_not_fit(2**64).startswith("18.4 EB, ")
    assert [memory.amount(size) for size in (0, 999, 1000, 2_500_000)] == ["0 bytes", "999 bytes", "1 kB", "2.5 MB"]


def test_free_memory_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.Path, "read_text", lambda self: "nothing of use")
    assert memory.available_bytes() > 2**20
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_bytes() == 2**63


def lying(path: Path, field: int, form: str, value: int) -> None:
    """Change a field of the only member's entry in a zip's directory and, where it has it, before the member."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into(form, content, entry + field, value)
    struct.pack_into(form, content, content.index(b"PK\x03\x04") + field - 2, value)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("field", "form", "value", "message"),
    [
        (8, "<H", 1, "is encrypted"),
        (10, "<H", 14, "compressed in a way that NumPy does not write"),
        (20, "<I", 2**31, "is damaged: 2.15 GB in a file of"),
        (24, "<I", 2**31, "are said to hold 2.15 GB"),
    ],
)
def test_what_an_archive_says_of_its_member_is_compared(tmp_path, field, form, value, message) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=array())
    lying(tmp_path / "x.npz", field, form, value)
    with pytest.raises(VolumeError, match=message):
        read_array(tmp_path / "x.npz")


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy("(1000000, 1000000, 1000)", bytes(2**22)))
    with pytest.raises(VolumeError, match=r"\['a'\] is damaged: it declares uint8 .*, 10{15} bytes, and holds 4194304"):
        read_array(tmp_path / "x.npz")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy("(2,)", b"ab"))
        archive.writestr("a", npy("(2,)", b"cd"))
    with pytest.raises(VolumeError, match="two arrays of one name"):
        read_array(tmp_path / "x.npz")


def store(path: Path, **changes: object) -> Path:
    """A Zarr array of version 2 whose metadata were changed."""
    zarr.create_array(str(path), data=array(), chunks=(9, 20, 18), zarr_format=2, compressors=None)
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [10**6, 10**6, 10**6]}, r"declares uint8 \[1000000, 1000000, 1000000\], 1e\+03 PB|1 EB"),
        ({"shape": [10**3, 10**3, 10**3], "chunks": [1, 1, 1]}, "in 1000000000 parts, at most 1000000"),
        ({"chunks": [10**6, 10**6, 10**6]}, r"in parts of \[1000000, 1000000, 1000000\]"),
        ({"chunks": [9, 20]}, "damaged"),
        ({"chunks": [0, 20, 18]}, "damaged"),
        ({"shape": [-9, 20, 18]}, "damaged|expected numbers"),
        ({"shape": "many"}, "damaged"),
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "damaged|expected numbers"),
        ({"dtype": "<U7"}, "expected numbers|damaged"),
        ({"zarr_format": 9}, "damaged"),
        ({"fill_value": [{}]}, "damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_a_store_declares_is_compared(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_array(store(tmp_path / "x.zarr", **changes))


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> object:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("role", ["filters", "compressor"])
def test_a_store_never_runs_code(tmp_path: Path, role: str) -> None:
    codec = {"id": "pickle", "protocol": 5}
    path = store(tmp_path / "x.zarr", **{role: [codec] if role == "filters" else codec})
    (path / "0.0.0").write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(VolumeError, match="pickle"):
        read_array(path)
    assert not (tmp_path / "harmed").exists()


def test_a_store_that_needs_another_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="is stored with 'base64', which is not read"):
        read_array(store(tmp_path / "x.zarr", filters=[{"id": "base64"}]))


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": 3},
        {"multiscales": []},
        {"multiscales": [3]},
        {"multiscales": {"datasets": []}},
        {"multiscales": [{"datasets": 3}]},
        {"multiscales": [{"datasets": [3]}]},
        {"multiscales": [{"datasets": [{"path": 3}]}]},
        {"ome": 3},
        {"ome": {"multiscales": None}},
    ],
)
def test_odd_scales_are_none(tmp_path: Path, attributes: dict[str, object]) -> None:
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.create_array("0", data=array())
    group.attrs.update(attributes)
    np.testing.assert_array_equal(read_array(tmp_path / "x.zarr"), array())


@pytest.mark.parametrize("name", ["../victim.zarr", "../victim.zarr/0", "0/../../victim.zarr/0", "/etc", "a\nb", ""])
def test_a_store_names_nothing_outside_of_itself(tmp_path: Path, name: str) -> None:
    victim = zarr.open_group(str(tmp_path / "victim.zarr"), mode="w")
    victim.create_array("0", data=array())
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.attrs.update({"multiscales": [{"datasets": [{"path": name}]}]})
    with pytest.raises(VolumeError, match="no name inside it"):
        read_array(tmp_path / "x.zarr")
    with pytest.raises(VolumeError, match="no array"):
        read_array(tmp_path / "x.zarr", name)


def test_metadata_are_of_a_size_to_be_read(tmp_path: Path) -> None:
    path = store(tmp_path / "x.zarr")
    with (path / ".zattrs").open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(VolumeError, match=r"1\.07 GB, at most 16\.8 MB are read"):
        read_array(path)
    (tmp_path / "y.zarr").write_bytes(b"PK")
    with pytest.raises(VolumeError, match="a Zarr store is a folder"):
        read_array(tmp_path / "y.zarr")


def with_tag(path: Path, tag: int, value: int, page: int = 0) -> None:
    """Set a tag of one number in a page of a TIFF file."""
    with tifffile.TiffFile(path) as file:
        place = file.pages[page].aspage().tags[tag].offset
    content = bytearray(path.read_bytes())
    kind = struct.unpack_from("<H", content, place + 2)[0]
    struct.pack_into("<H" if kind == 3 else "<I", content, place + 8, value)
    path.write_bytes(content)


@pytest.mark.parametrize("options", [{"metadata": None}, {"compression": "lzw"}, {"compression": "zlib"}])
def test_pages_that_declare_more_than_the_file_can_hold(tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, np.zeros((3, 70000, 9), np.uint8), contiguous=False, photometric="minisblack", **options
    )  # sides of four bytes
    for page in range(3):
        with_tag(path, 257, 2**31 - 1, page)
        with_tag(path, 256, 2**15, page)
    with pytest.raises(VolumeError, match=r"declares uint8 \[3, 2147483647, 32768\], more than its \d+ bytes can hold"):
        read_volume(path)


def test_pages_without_a_bound_are_compared_with_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((3, 70000, 9), np.uint8), photometric="minisblack", compression="zstd")
    for page in range(3):
        with_tag(path, 257, 2**31 - 1, page)
        with_tag(path, 256, 2**15, page)
    with pytest.raises(VolumeError, match=r"declares uint8 \[3, 2147483647, 32768\], 211 TB, .* of memory are free"):
        read_volume(path)


def test_tiles_far_beyond_their_page(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, array(), compression="zstd", tile=(16, 16))
    for page in range(len(array())):
        with_tag(path, 322, 2**15, page)
        with_tag(path, 323, 2**15, page)
    with pytest.raises(VolumeError, match=r"in parts of \[32768, 32768\]"):
        read_volume(path)


def test_chains_longer_than_any_volume(tmp_path: Path) -> None:
    pages = 2**17 + 1
    content = b"II*\0" + struct.pack("<I", 8)
    content += b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(pages)) + bytes(16)
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(VolumeError, match="more than 131072 pages"):
        read_volume(tmp_path / "x.tif")
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 60000) + bytes(12 * 60000 + 4))
    with pytest.raises(VolumeError, match="60000 tags"):
        read_volume(tmp_path / "x.tif")


def test_every_file_name_that_is_no_case_id_is_told_at_once(tmp_path: Path) -> None:
    for name in ("a\nb.npy", "x.npy", " .npy", "c" * 210 + ".npy", "x.tif"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as caught:
        find_arrays(tmp_path)
    told = str(caught.value)
    assert told.isprintable()
    for part in ("cannot be printed", "is empty", "210 bytes long", "are both of case x"):
        assert part in told

"""No crash, kill or full disk leaves half a file or half a line behind."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volumen import files
from volumen.errors import DamagedError, UserError
from volumen.files import (
    atomic_path,
    is_regular_file,
    refuse_existing,
    sha256_of,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", ["", "häß\r\n\n", b"\x00\xff", b"x" * 300_000])
def test_writes_the_exact_bytes_and_leaves_nothing_else(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "before")
    write_atomically(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["file.txt"]


def test_the_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_block_changes_nothing(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["model.pt"]


def test_the_temporary_file_has_the_same_ending_and_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "array.npy") as temporary:
        assert temporary.parent == tmp_path
        np.save(temporary, np.arange(3))  # np.save appends .npy to names that lack it
    assert np.load(tmp_path / "array.npy").tolist() == [0, 1, 2]
    assert names(tmp_path) == ["array.npy"]


def test_the_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_data_is_on_the_disk_before_the_name_points_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync: Callable[[int], None] = os.fsync
    replace = os.replace

    def record_sync(descriptor: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_atomically(tmp_path / "file", "x")
    assert calls == ["sync file", "rename", "sync folder"]


def test_a_symbolic_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_disk_that_fills_up_at_the_sync_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", "x")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_what_exists_is_never_overwritten(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "run", "the run folder", "choose another --out")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"the run folder .*run already exists .*: choose another --out"):
        refuse_existing(tmp_path / "run", "the run folder", "choose another --out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError):
        refuse_existing(tmp_path / "link", "the link", "remove it")


def test_a_file_that_another_writer_makes_between_two_looks_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    looked = os.stat
    looks: list[bool] = []

    def look(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        try:
            return looked(path, *arguments, **options)
        finally:
            looks.append(True)
            log.touch()  # the other writer, just after the first look

    monkeypatch.setattr(os, "stat", look)
    assert not is_regular_file(log)
    assert looks == [True]
    assert is_regular_file(log)


def test_a_link_that_leads_nowhere_is_said_and_not_taken_for_an_absent_file(tmp_path: Path) -> None:
    link, circle = tmp_path / "status.json", tmp_path / "circle"
    link.symlink_to("nowhere-at-all")
    circle.symlink_to("circle")
    for path in (link, circle):
        with pytest.raises(DamagedError, match="leads nowhere"):
            is_regular_file(path)

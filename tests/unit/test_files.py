"""No crash, kill or full disk leaves half a file or half a line behind."""

import errno
import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volumen import files
from volumen.errors import UserError
from volumen.files import (
    append_json_line,
    atomic_path,
    read_json_lines,
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


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from volumen.files import append_json_line, write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path(sys.argv[1])
try:
    write_atomically(folder / "file", b"n" * 5000)
except OSError:
    print("file refused")
records = 0
try:
    while True:
        append_json_line(folder / "log", {"record": records, "text": "x" * 90})
        records += 1
except OSError:
    print(records)
"""


def test_a_really_full_disk_leaves_the_old_file_and_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    refused, written = done.stdout.splitlines()
    assert refused == "file refused"
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "log"]
    assert [record["record"] for record in read_json_lines(tmp_path / "log")] == list(range(int(written)))
    assert (tmp_path / "log").read_bytes().endswith(b"\n")
    assert int(written) > 10


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", "x")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_lines_come_back_as_written_and_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    records = [{"step": step, "ü": "a\nb", "nested": {"x": [1, 2.5, None, True]}} for step in range(5)]
    for record in records:
        append_json_line(log, record)
    assert read_json_lines(log) == records
    assert len(log.read_text().splitlines()) == 5


def test_non_finite_values_become_null_and_are_named(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_json_line(log, {"loss": math.nan, "terms": {"focal": math.inf, "dice": 0.5}, "list": [1.0, -math.inf]})

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    record = json.loads(log.read_text(), parse_constant=refuse)
    assert record == {
        "loss": None,
        "terms": {"focal": None, "dice": 0.5},
        "list": [1.0, None],
        "non_finite": ["loss", "terms.focal", "list.1"],
    }


def test_a_finite_record_has_no_extra_key(tmp_path: Path) -> None:
    append_json_line(tmp_path / "log", {"loss": 1.0, "nothing": None})
    assert read_json_lines(tmp_path / "log") == [{"loss": 1.0, "nothing": None}]


def test_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    append_json_line(tmp_path / "log", {"a": np.float32(0.5), "b": np.int64(3), "c": np.float64("nan"), "d": (1, 2)})
    assert read_json_lines(tmp_path / "log") == [{"a": 0.5, "b": 3, "c": None, "d": [1, 2], "non_finite": ["c"]}]


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, Path("x")])
def test_other_values_are_refused_by_name_and_write_nothing(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"outer\.inner"):
        append_json_line(tmp_path / "log", {"outer": {"inner": value}})
    assert not (tmp_path / "log").exists()


def test_the_key_non_finite_is_reserved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reserved"):
        append_json_line(tmp_path / "log", {"non_finite": []})


@pytest.mark.parametrize("torn", [b'{"step": 1, "lo', b'{"step": "\xc3', b"{", b'"text"', b"12"])
def test_a_torn_last_line_is_left_out_and_the_next_append_removes_it(tmp_path: Path, torn: bytes) -> None:
    log = tmp_path / "log.jsonl"
    append_json_line(log, {"step": 0})
    with log.open("ab") as stream:
        stream.write(torn)
    assert read_json_lines(log) == [{"step": 0}]
    append_json_line(log, {"step": 1})
    assert read_json_lines(log) == [{"step": 0}, {"step": 1}]
    assert log.read_bytes().count(b"\n") == 2


def test_a_long_torn_line_is_found_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 0}\n{"text": "' + b"x" * 200_000)
    append_json_line(log, {"step": 1})
    assert read_json_lines(log) == [{"step": 0}, {"step": 1}]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 0}')
    assert read_json_lines(log) == [{"step": 0}]
    append_json_line(log, {"step": 1})
    assert read_json_lines(log) == [{"step": 0}, {"step": 1}]


def test_a_file_of_nothing_but_a_torn_line_is_empty(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"ste')
    assert read_json_lines(tmp_path / "log") == []
    append_json_line(tmp_path / "log", {"step": 0})
    assert read_json_lines(tmp_path / "log") == [{"step": 0}]


@pytest.mark.parametrize("broken", ['{"step": 1', "[1]", "", "null"])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(f'{{"step": 0}}\n{broken}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match=r"log\.jsonl:2: expected one JSON object"):
        read_json_lines(log)


def test_no_file_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json_lines(tmp_path / "log")
    (tmp_path / "log").touch()
    assert read_json_lines(tmp_path / "log") == []


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_json_line(path, {"writer": writer, "number": number, "text": "x" * (number * 40)})


def test_several_processes_lose_no_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(str(log), writer)) for writer in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(timeout=120)
        assert process.exitcode == 0
    records = read_json_lines(log)
    for writer in range(3):
        assert [r["number"] for r in records if r["writer"] == writer] == list(range(50))


def test_a_writer_waits_for_the_one_before(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_json_line(log, {"step": 0})
    second = threading.Thread(target=append_json_line, args=(log, {"step": 2}))
    with log.open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second.start()
        first.write(b'{"step"')  # half a line: a writer that did not wait would cut it off
        first.flush()
        second.join(timeout=0.3)
        assert second.is_alive()
        first.write(b": 1}\n")
    second.join(timeout=60)
    assert read_json_lines(log) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_several_threads_lose_no_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    threads = [threading.Thread(target=_append_many, args=(str(log), writer)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(read_json_lines(log)) == 150


def test_what_exists_is_never_overwritten(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "run", "the run folder", "choose another --out")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"the run folder .*run already exists .*: choose another --out"):
        refuse_existing(tmp_path / "run", "the run folder", "choose another --out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError):
        refuse_existing(tmp_path / "link", "the link", "remove it")

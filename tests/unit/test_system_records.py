"""Records: what was damaged, cut off or exchanged is told, and never becomes a value."""

import fcntl
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.data.tables import read_scrolls
from volumen.errors import DamagedError, UserError
from volumen.files import sha256_of
from volumen.system.records import (
    append_record,
    open_record,
    parse_json,
    read_log,
    read_log_from,
    read_record,
    sealed,
    write_record,
)

FIX = "write it again"
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.text().filter(lambda key: key not in ("check", "line", "non_finite")), PLAIN, max_size=5)


@dataclass(frozen=True)
class Entry:
    file: str
    step: int
    share: float | None = None


def text_of(record: dict[str, Any]) -> bytes:
    return (json.dumps(sealed(record), indent=1) + "\n").encode()


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: dict[str, Any]) -> None:
    assert open_record(text_of(record), "file", FIX) == record


@settings(max_examples=300)
@given(RECORDS, st.data())
def test_a_flipped_bit_or_a_cut_is_told_or_changes_nothing(record: dict[str, Any], data: st.DataObject) -> None:
    content = bytearray(text_of(record))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) * 8 - 1))
        content[place // 8] ^= 1 << (place % 8)
    try:
        assert open_record(bytes(content), "file", FIX) == record
    except DamagedError as error:
        assert str(error).startswith("file ")  # noqa: PT017
        assert str(error).endswith(FIX)  # noqa: PT017


def test_a_record_of_another_owner_is_damaged(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", {"a": 1}, owner="one run")
    assert read_record(tmp_path / "r.json", dict[str, int], FIX, owner="one run") == {"a": 1}
    with pytest.raises(DamagedError, match="of another run"):
        read_record(tmp_path / "r.json", dict[str, int], FIX, owner="another run")


@pytest.mark.parametrize(
    "values", [{"file": 1, "step": 1}, {"file": "a", "step": "1"}, {"file": "a"}, {"file": "a", "step": 1.5}]
)
def test_a_record_of_another_type_is_named_by_its_field(tmp_path: Path, values: dict[str, Any]) -> None:
    write_record(tmp_path / "r.json", values)
    with pytest.raises(DamagedError, match=r"r\.json is damaged \((file|step): "):
        read_record(tmp_path / "r.json", Entry, FIX)


@pytest.mark.parametrize(
    "text",
    ["[" * 2000 + "]" * 2000, "[" * 100_000, '{"a":' * 70 + "1" + "}" * 70, "9" * 5000, "-" + "1" * 21, "1e999",
     "NaN", "-Infinity", "", "{", '{"a": 1} x', b"\xff\xfe", "\x00"],
)  # fmt: skip
def test_hostile_json_is_one_line(text: str | bytes) -> None:
    with pytest.raises(DamagedError, match=r"^file is damaged \(.*\): write it again$") as caught:
        parse_json(text, "file", FIX)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for step in range(6):
        append_record(tmp_path / "log.jsonl", {"step": step, "loss": step / 7}, owner="run")
    return tmp_path / "log.jsonl"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_no_damage_of_a_log_becomes_a_value(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    for step in range(4):
        append_record(path, {"step": step, "loss": step / 7})
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    found = read_log(path)
    assert all(record == {"step": record["step"], "loss": record["step"] / 7} for record in found.records)
    assert len(found.records) == 4 or found.faults("log", 4)


def test_lines_that_are_gone_twice_or_exchanged_are_counted(log: Path) -> None:
    whole = lines_of(log)
    for lines, kept, faults in (
        (whole[:2] + whole[3:], [0, 1, 3, 4, 5], ("1 line is missing",)),
        (whole[:3], [0, 1, 2], ("3 lines are missing",)),
        (whole[:2] + whole[1:], [0, 1, 2, 3, 4, 5], ("1 line is damaged and left out",)),
        ([whole[1], whole[0], *whole[2:]], [1, 2, 3, 4, 5], ("1 line is damaged and left out", "1 line is missing")),
        ([*whole[:5], whole[5][:-5]], [0, 1, 2, 3, 4], ("1 line is damaged and left out",)),
    ):
        log.write_bytes(b"".join(lines))
        found = read_log(log, owner="run")
        assert [record["step"] for record in found.records] == kept
        assert found.faults("log", 6) == tuple(f"log: {fault}" for fault in faults)


def test_a_log_of_another_run_is_not_believed(log: Path) -> None:
    found = read_log(log, owner="another run")
    assert (found.records, found.damaged) == ((), 6)


def test_appending_goes_on_with_the_numbers_after_damage(log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[5] ^= 1
    log.write_bytes(content)
    append_record(log, {"step": 6, "loss": 0.0}, owner="run")
    found = read_log(log, owner="run")
    assert [record["step"] for record in found.records] == [1, 2, 3, 4, 5, 6]
    assert (found.damaged, found.missing, found.last) == (1, 0, 7)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from volumen.files import write_atomically
from volumen.system.records import append_record
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
        append_record(folder / "log", {"record": records, "text": "x" * 90})
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "log"]
    assert [record["record"] for record in read_log(tmp_path / "log").records] == list(range(int(written)))
    assert read_log(tmp_path / "log").last == int(written)
    assert (tmp_path / "log").read_bytes().endswith(b"\n")
    assert int(written) > 10


def test_lines_come_back_as_written_and_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    records = [{"step": step, "ü": "a\nb", "nested": {"x": [1, 2.5, None, True]}} for step in range(5)]
    for record in records:
        append_record(log, record)
    assert list(read_log(log).records) == records
    assert len(log.read_text().splitlines()) == 5


def test_non_finite_values_become_null_and_are_named(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_record(log, {"loss": math.nan, "terms": {"focal": math.inf, "dice": 0.5}, "list": [1.0, -math.inf]})
    assert read_log(log).records == (
        {
            "loss": None,
            "terms": {"focal": None, "dice": 0.5},
            "list": [1.0, None],
            "non_finite": ["loss", "terms.focal", "list.1"],
        },
    )


def test_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    append_record(tmp_path / "log", {"a": np.float32(0.5), "b": np.int64(3), "d": (1, 2)})
    assert read_log(tmp_path / "log").records == ({"a": 0.5, "b": 3, "d": [1, 2]},)


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, Path("x")])
def test_other_values_are_refused_by_name_and_write_nothing(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"outer\.inner"):
        append_record(tmp_path / "log", {"outer": {"inner": value}})
    assert not (tmp_path / "log").exists()


def test_the_key_non_finite_is_reserved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reserved"):
        append_record(tmp_path / "log", {"non_finite": []})


@pytest.mark.parametrize("torn", [b'{"step": 1, "lo', b'{"step": "\xc3', b"{", b'"text"', b"12", b"x" * 200_000])
def test_a_torn_last_line_is_left_out_and_the_next_append_removes_it(tmp_path: Path, torn: bytes) -> None:
    log = tmp_path / "log.jsonl"
    append_record(log, {"step": 0})
    with log.open("ab") as stream:
        stream.write(torn)
    assert read_log(log).records == ({"step": 0},)
    append_record(log, {"step": 1})
    assert read_log(log).records == ({"step": 0}, {"step": 1})
    assert log.read_bytes().count(b"\n") == 2


def test_a_whole_last_line_without_its_end_stays(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_record(log, {"step": 0})
    log.write_bytes(log.read_bytes()[:-1])
    assert read_log(log).records == ({"step": 0},)
    append_record(log, {"step": 1})
    found = read_log(log)
    assert (found.records, found.damaged, found.missing) == (({"step": 0}, {"step": 1}), 0, 0)


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_record(Path(path), {"writer": writer, "number": number, "text": "x" * (number * 40)})


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_several_writers_lose_no_line(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log.jsonl"
    make: Any = multiprocessing.get_context("spawn").Process if kind == "processes" else threading.Thread
    writers = [make(target=_append_many, args=(str(log), writer)) for writer in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(timeout=120)
    found = read_log(log)
    assert (found.damaged, found.missing, found.last) == (0, 0, 150)
    for writer in range(3):
        assert [r["number"] for r in found.records if r["writer"] == writer] == list(range(50))


def test_a_writer_waits_for_the_one_before(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_record(log, {"step": 0})
    line = log.read_bytes()
    second = threading.Thread(target=append_record, args=(log, {"step": 2}))
    with log.open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second.start()
        first.write(line[:5])  # half a line: a writer that did not wait would cut it off
        first.flush()
        second.join(timeout=0.3)
        assert second.is_alive()
        first.write(line[5:])
    second.join(timeout=60)
    assert read_log(log).last == 2
    assert read_log(log).records[-1] == {"step": 2}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize(
    "read",
    [
        sha256_of,
        read_log,
        lambda path: read_log_from(path, 0),
        lambda path: append_record(path, {"a": 1}),
        lambda path: read_record(path, dict[str, Any], "write it again"),
        read_scrolls,
    ],
    ids=["hash", "log", "log from", "append", "record", "table"],
)
def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path, kind: str, read: Any) -> None:
    path = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(UserError, match="expected a file"):
        read(path)

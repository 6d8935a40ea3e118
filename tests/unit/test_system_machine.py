"""What a machine lacks is known before the work, done without, or refused in a line."""

import os
import subprocess
import sys
import tempfile
import threading
from multiprocessing import process
from pathlib import Path

import pytest

from volumen.cli.main import run
from volumen.errors import UserError
from volumen.system import memory
from volumen.system.processes import make_sockets_fit

KERNEL = """
from volumen.system.compiled import compiled
@compiled
def twice(number):
    return 2 * number
print(twice(21))
"""


@pytest.fixture
def no_place_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose sockets have no folder yet, as at its start."""
    monkeypatch.setattr(process.current_process(), "_config", {})


@pytest.mark.parametrize("length", [40, 60, 61, 91, 117, 200])
def test_sockets_fit_behind_any_temporary_folder_and_leave_nothing(length: int) -> None:
    code = """
from multiprocessing import connection, process
from volumen.system.processes import make_sockets_fit
make_sockets_fit()
connection.Listener(family="AF_UNIX").close()  # as the fork server makes its own
print(process.current_process()._config["tempdir"])
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        place = Path(short) / ("t" * (length - len(short) - 1))
        place.mkdir()
        environment = {**os.environ, "TMPDIR": str(place)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        used = Path(done.stdout.strip())
        assert (used.parent == place) == (length <= 60)
        assert not used.exists()
        assert not list(place.iterdir())


def test_no_temporary_folder_is_an_error_that_says_what_to_do(no_place_yet, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "t" * 100)
    monkeypatch.setattr("volumen.system.processes._SHORT_PLACES", ("/nowhere",))
    with pytest.raises(UserError, match=r"at most 60 characters.*101 characters.*TMPDIR.*data\.workers"):
        make_sockets_fit()


def compile_in(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "kernel.py").write_text(KERNEL)
    return subprocess.run(
        [sys.executable, "kernel.py"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_damaged_cache_of_kernels_costs_time_only(tmp_path: Path) -> None:
    assert compile_in(tmp_path).stdout == "42\n"
    kept = sorted((tmp_path / "__pycache__").glob("*.nb*"))
    assert kept
    for damage in (b"", b"garbage", kept[0].read_bytes()[:-7]):
        for file in kept:
            file.write_bytes(damage)
        again = compile_in(tmp_path)
        assert (again.returncode, again.stdout) == (0, "42\n"), again.stderr


def test_without_a_place_for_kernels_they_are_compiled_and_it_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = compile_in(tmp_path, HOME="/dev/null", XDG_CACHE_HOME="/dev/null", TMPDIR=str(temporary))
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert done.stderr.count("note: ") == len(done.stderr.splitlines()) == 1
    assert not list(temporary.iterdir())
    nowhere = compile_in(tmp_path, HOME="/dev/null", XDG_CACHE_HOME="/dev/null", NUMBA_CACHE_DIR="/dev/null/x")
    assert (nowhere.returncode, nowhere.stdout) == (0, "42\n")


def test_memory_is_told_in_bytes_or_not_at_all(monkeypatch) -> None:
    assert 2**24 < memory.peak_bytes() < 2**40
    monkeypatch.setattr(memory, "resource", None)
    assert memory.peak_bytes() == 0
    memory.limit_growth(1)  # which nobody holds it to


def test_what_the_machine_cannot_do_is_refused_before_the_audit(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("volumen.doctor.preflight.open_context", lambda *_, **__: pytest.fail("it audits"))
    for options, said in (
        (["--accept", "S1"], "there is no check S1"),
        (["-o", "precision=fp16", "-o", "device=cpu"], "precision fp16 works on CUDA only"),
        (["-o", "data.patch=[1024, 1024, 1024]", "-o", "data.workers=64"], "shared memory"),
    ):
        assert run(["train", "preset:default", "--out", str(tmp_path / "run"), *options]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_command_runs_in_a_thread(capsys) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(["config", "check", "preset:default"])))
    thread.start()
    thread.join()
    assert codes == [0]

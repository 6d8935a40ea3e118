"""Predicting in several processes ends at any signal, in seconds, without a traceback and without a process left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.inference.bundle import Member, write_bundle
from volumen.models import build_model

SECONDS = 10.0
COMMAND = """
import sys
from volumen.cli.main import run
from volumen.system.stopping import InterruptedBySignal, interruptible
if __name__ == "__main__":
    try:
        with interruptible():
            code = run(sys.argv[1:])
    except InterruptedBySignal as end:
        print(f"interrupted by {end.name}", file=sys.stderr)
        code = 75
    sys.exit(code)
"""
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, images that take a minute each, and one that takes no time."""
    folder = tmp_path_factory.mktemp("place")
    config = load_config(
        "preset:default",
        ["model.filters=2", "model.depth=1", "data.patch=[8, 8, 8]", "precision=fp32", "inference.engine=torch"],
    ).config
    member = Member("run", config, build_model(config.model).state_dict(), 1.0)
    write_bundle(folder / "model.volumen", [member], mean="logit", config=config, labels={})
    (folder / "images").mkdir()
    (folder / "quick").mkdir()
    for number in range(6):
        image = np.random.default_rng(number).integers(1, 255, (64, 64, 64), dtype=np.uint8)
        tifffile.imwrite(folder / "images" / f"{number}.tif", image, photometric="minisblack")
        tifffile.imwrite(folder / "quick" / f"{number}.tif", image[:16, :16, :16], photometric="minisblack")
    torch.set_num_threads(1)
    (folder / "command.py").write_text(COMMAND)
    return folder


def children(process: int) -> list[int]:
    """All processes below one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found += [int(status.parent.name), *children(int(status.parent.name))]
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return holds()


@pytest.fixture
def start(place: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(images: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(place / "command.py"), "predict", str(place / "model.volumen")]
        command += [str(place / images), str(tmp_path / "out"), *options]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        for one in [process.pid, *children(process.pid)]:
            if is_running(one):
                os.kill(one, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def workers_of(process: subprocess.Popen[str], seconds: float = 2.0) -> list[int]:
    """Both processes that predict, once they have computed for some time; the first seconds of it load libraries."""

    def busy() -> list[int]:
        found = []
        for one in children(process.pid):
            ticks = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11]
            command = Path(f"/proc/{one}/cmdline").read_bytes()
            if int(ticks) > seconds * os.sysconf("SC_CLK_TCK") and b"spawn_main" in command:
                found.append(one)
        return found

    assert wait_until(lambda: process.poll() is not None or len(busy()) >= 2, 180)
    assert process.poll() is None, told(process)
    return busy()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_all_processes_and_leaves_nothing(start, tmp_path: Path, name: str) -> None:
    process = start("images", "--parallel", "2", "--overlap", "0.8", "--mirror")
    everyone = [process.pid, *workers_of(process), *children(process.pid)]
    number = getattr(signal, name)
    if name == "SIGTERM":
        os.kill(process.pid, number)  # a scheduler asks one process
    else:
        os.killpg(process.pid, number)  # a terminal asks all of them
    assert wait_until(lambda: process.poll() is not None, SECONDS)
    assert process.returncode != 0
    said = told(process)
    assert "Traceback" not in said, said
    assert len(said.splitlines()) <= 1, said
    assert wait_until(lambda: not any(is_running(one) for one in everyone), SECONDS)
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_killed_process_takes_its_workers_along_and_its_folder_is_free(start, place: Path, tmp_path: Path) -> None:
    process = start("images", "--parallel", "2", "--overlap", "0.8", "--mirror")
    everyone = [process.pid, *workers_of(process), *children(process.pid)]
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: process.poll() is not None, SECONDS)
    assert wait_until(lambda: not any(is_running(one) for one in everyone), SECONDS)
    command = ["predict", str(place / "model.volumen"), str(place / "quick"), str(tmp_path / "out"), "--overwrite"]
    assert volumen(command) == 0
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_killed_worker_is_named_and_nothing_is_left_after_a_good_end(start, tmp_path: Path) -> None:
    process = start("images", "--parallel", "2", "--overlap", "0.8", "--mirror")
    victim, *_ = workers_of(process, 8.0)
    everyone = [process.pid, *children(process.pid)]
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: process.poll() is not None, 2 * SECONDS)
    said = told(process)
    assert process.returncode == 2, said
    assert "tif was killed by SIGKILL" in said
    assert len(said.splitlines()) == 1
    assert wait_until(lambda: not any(is_running(one) for one in everyone), SECONDS)

    quick = start("quick", "--parallel", "2", "--overwrite")
    seen: set[int] = set()
    assert wait_until(lambda: seen.update(children(quick.pid)) or quick.poll() is not None, 90)
    assert quick.returncode == 0
    assert len(seen) >= 2
    assert wait_until(lambda: not any(is_running(one) for one in seen), SECONDS)
    assert not list((tmp_path / "out").rglob(".*"))


def test_one_process_ends_between_tiles(start, tmp_path: Path) -> None:
    process = start("images", "--overlap", "0.8", "--mirror")
    assert wait_until(lambda: (tmp_path / "out" / "prediction.json").exists(), 90)
    second = start("images", "--resume", "--overlap", "0.8", "--mirror")  # the folder has one process at a time
    assert second.wait(90) == 2
    assert "is in use by" in told(second)
    os.kill(process.pid, signal.SIGTERM)
    assert wait_until(lambda: process.poll() is not None, SECONDS)
    assert "Traceback" not in told(process)
    assert not list((tmp_path / "out").rglob(".*"))

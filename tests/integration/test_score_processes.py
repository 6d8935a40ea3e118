"""`volumen score` and its worker processes: however it ends, it leaves none behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from pebble import ProcessExpired

from volumen.system.processes import pool_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found under /proc")
CODE = "from volumen.cli.main import main; main()"


def alive(mark: str) -> list[str]:
    """The command lines of all processes that have the mark in their environment, but for ended ones."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # somebody else's, or gone in the meantime
            continue
    return found


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def started(mark: str, *arguments: object) -> "subprocess.Popen[str]":
    """The command in a group of its own, as a shell starts it."""
    environment = {**os.environ, "VOLUMEN_MARK": mark, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, "score", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def folders(place: Path, cases: int, side: int) -> tuple[Path, Path]:
    draw = np.random.default_rng(0)
    for part in ("predicted", "true"):
        (place / part).mkdir()
        for number in range(cases):
            np.save(place / part / f"{number}.npy", (draw.random((side,) * 3) < 0.3).astype(np.uint8))
    return place / "predicted", place / "true"


def test_nothing_is_left_after_a_good_end(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = started(mark, *folders(tmp_path, 5, 8), "--workers", 16)
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "mean" in out
    assert wait_for(lambda: not alive(mark), 10), alive(mark)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_bad_one(tmp_path: Path, number: int) -> None:
    mark = uuid.uuid4().hex
    process = started(mark, *folders(tmp_path, 4, 200), "--workers", 2)
    try:
        assert wait_for(lambda: sum("spawn_main" in line for line in alive(mark)) >= 2, 120)
        if number == signal.SIGINT:  # a terminal's Ctrl-C reaches the whole group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode != 0
        if number == signal.SIGINT:  # Python itself tells of a worker whose parent dies before it has begun
            assert "Traceback" not in error
        assert wait_for(lambda: not alive(mark), 10), alive(mark)
    finally:
        if process.poll() is None:
            process.kill()


def blocked() -> set[signal.Signals]:
    """The signals that the thread which does a worker's tasks does not hear."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_worker_hears_ctrl_c_not_even_one_that_takes_the_place_of_a_dead_one() -> None:
    with pool_of(2) as pool:
        for _ in range(2):
            for heard in [pool.schedule(blocked) for _ in range(6)]:
                assert {signal.SIGINT, signal.SIGHUP} <= heard.result()
            with pytest.raises(ProcessExpired):
                pool.schedule(dies).result()
    assert signal.SIGINT not in blocked()

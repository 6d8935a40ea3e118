"""Worker processes do not hear what a terminal sends to a whole group of processes, from their first instruction on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volumen.system.processes import pool_of


def blocked() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


@pytest.mark.skipif(sys.platform == "win32", reason="signals can be blocked on POSIX only")
def test_workers_are_started_deaf_and_the_one_in_charge_hears() -> None:
    before = blocked()
    with pool_of(2) as pool:
        masks = [pool.schedule(blocked).result() for _ in range(4)]
    assert all({signal.SIGINT, signal.SIGHUP} <= mask for mask in masks)
    assert not any(signal.SIGTERM in mask for mask in masks)  # by which the one in charge ends them
    assert blocked() == before


SLOW_TO_IMPORT = """
import time
from pathlib import Path
Path("importing").touch()
time.sleep(60)
def begin(): pass
"""
PARENT = """
import sys
sys.path.insert(0, ".")
from volumen.system.processes import pool_of

class Begin:
    def __reduce__(self):
        return __import__, ("slow_to_import",)

if __name__ == "__main__":
    with pool_of(1, Begin()) as pool:
        pool.schedule(print).result()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found under /proc")
def test_a_worker_that_still_imports_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT)
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, start_new_session=True)
    wait_until(lambda: (tmp_path / "importing").exists())
    assert others_of(parent.pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not others_of(parent.pid))


def others_of(session: int) -> list[int]:
    """Living processes of a session, but for its first."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ours = os.getsid(int(place.name)) == session and int(place.name) != session
            if ours and "\nState:\tZ" not in (place / "status").read_text():
                found.append(int(place.name))
        except OSError:  # gone meanwhile
            continue
    return found


def wait_until(condition) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)

"""Worker processes do not hear what a terminal sends to a whole group of processes, from their first instruction on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volumen.system.processes import end_by_force, pool_of


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


DEAF_WORKERS = """
import ctypes, os, signal, sys, time
from concurrent.futures import wait
from pathlib import Path
from pebble.common import CONSTS
sys.path.insert(0, ".")
from volumen.system.processes import pool_of
from volumen.system.stopping import InterruptedBySignal, interruptible

def long_call(number):
    "No line of Python runs in it, and hence no handler: as in a compiler, or a convolution of seconds."
    mutex = ctypes.create_string_buffer(64)
    Path(f"called{number}").touch()
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

def with_the_lock(number):
    "As a worker that a signal befell while it took a task: it holds what the others wait for."
    from pebble.pool import process
    channel = sys._getframe(3).f_locals["channel"]
    channel.mutex.acquire()
    Path(f"called{number}").touch()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    CONSTS.term_timeout = 1000  # whoever waits for one worker after the other waits for ever
    try:
        with interruptible(), pool_of(4) as pool:
            wait([pool.schedule(globals()[sys.argv[1]], args=(number,)) for number in range(8)])
    except InterruptedBySignal:
        print("interrupted")
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found under /proc")
@pytest.mark.parametrize("work", ["long_call", "with_the_lock"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pool_ends_with_the_group_whatever_its_workers_do(tmp_path: Path, work: str, number: int) -> None:
    """Four that hear nothing end together, in a second and not in three each; so do those that wait for a dead one."""
    (tmp_path / "workers.py").write_text(DEAF_WORKERS)
    parent = subprocess.Popen(
        [sys.executable, "workers.py", work], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    called = 4 if work == "long_call" else 1
    wait_until(lambda: len(list(tmp_path.glob("called*"))) >= called)
    os.killpg(parent.pid, number)
    assert parent.communicate(timeout=40)[0] == "interrupted\n"
    wait_until(lambda: not others_of(parent.pid))


def test_processes_are_waited_for_together_and_those_that_work_on_are_killed() -> None:
    context = multiprocessing.get_context("spawn")
    ended, working = context.Process(target=int), context.Process(target=time.sleep, args=(600,))
    for process in (ended, working):
        process.start()
    ended.join()
    end_by_force((ended, working), 0.1)
    working.join(40)
    assert ended.exitcode == 0
    assert working.exitcode not in (0, None)


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

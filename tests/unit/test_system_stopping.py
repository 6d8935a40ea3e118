"""Requests to stop, and the end of the time, reach whoever asked to hear of them, whatever stands between."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from volumen.system.stopping import SIGNALS, InterruptedBySignal, OutOfTime, interruptible, within


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interruption_leaves_as_itself_whatever_error_a_library_makes_of_it(number: int, swallowed: bool) -> None:
    script = f"""
import os
from volumen.cli.main import app, run
@app.command()
def library() -> None:
    try:
        os.kill(os.getpid(), {int(number)})
    except BaseException as error:
        if {swallowed}:
            raise RuntimeError("Failed in nopython mode pipeline\\n" * 40) from error
        raise
print(run(["library"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "75"
    assert done.stderr.splitlines() == [
        f"interrupted by {signal.Signals(number).name}: what is whole is kept, nothing half-written is left"
    ]


def test_an_error_that_nobody_interrupted_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="mine"), interruptible():
        raise RuntimeError("mine")
    with pytest.raises(InterruptedBySignal), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarms")
def test_a_block_is_left_when_its_time_is_over() -> None:
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(OutOfTime), within(0.1):
        time.sleep(10)
    assert time.monotonic() - began < 5
    assert signal.getsignal(signal.SIGALRM) is before
    with within(0.2):
        pass
    time.sleep(0.3)  # nothing rings


def test_no_time_at_all_begins_nothing() -> None:
    with pytest.raises(OutOfTime), within(0.0):
        pytest.fail("it began")


def test_another_thread_takes_the_time_it_needs() -> None:
    done: list[bool] = []

    def work() -> None:
        with within(0.05):
            time.sleep(0.15)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]

"""Requests to stop, and the end of the time, reach whoever asked to hear of them, whatever stands between."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from volumen.system import stopping
from volumen.system.stopping import (
    SIGNALS,
    InterruptedBySignal,
    OutOfTime,
    StopRequest,
    heard,
    held_back,
    interruptible,
    within,
)


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


class Swallowed:
    """Where Python drops what a signal's handler raises."""

    @staticmethod
    def destructor() -> None:
        class Held:
            def __del__(self) -> None:
                os.kill(os.getpid(), signal.SIGTERM)

        del (held := [Held()])[0]
        assert held == []

    @staticmethod
    def callback_from_c() -> None:
        callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))
        callback()

    @staticmethod
    def weak_reference() -> None:
        class Held: ...

        held = Held()
        reference = weakref.ref(held, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del held
        assert reference() is None

    @staticmethod
    def bare_except() -> None:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals to a thread")
@pytest.mark.parametrize("way", ["destructor", "callback_from_c", "weak_reference", "bare_except"])
def test_an_interruption_that_came_to_nothing_is_raised_again(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    worked_on: list[bool] = []

    def work() -> None:
        getattr(Swallowed, way)()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
        worked_on.append(True)
        raise InterruptedBySignal("SIGTERM")

    with pytest.raises(InterruptedBySignal, match="SIGTERM"), interruptible():
        work()
    assert worked_on == []
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals to a thread")
@pytest.mark.parametrize("number", SIGNALS)
def test_nothing_is_interrupted_on_the_way_out(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "REMINDS_SECONDS", 0.01)
    done: list[str] = []

    def give_back(what: str) -> None:
        for _ in range(20):
            os.kill(os.getpid(), number)
            time.sleep(0.005)
        done.append(what)

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        try:
            yield
        finally:
            give_back("context")

    def work() -> None:
        try:
            with held():
                try:
                    os.kill(os.getpid(), number)
                    pytest.fail("it went on")
                except BaseException as error:
                    give_back("except")
                    raise RuntimeError("a library's own word for it") from error
        finally:
            give_back("finally")

    with pytest.raises(InterruptedBySignal), interruptible():
        work()
    assert done == ["except", "context", "finally"]


def test_what_is_started_is_known_before_a_signal_is_answered() -> None:
    started: list[int] = []

    def start() -> None:
        with held_back():
            for number in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
                started.append(number)
        pytest.fail("it went on")

    with pytest.raises(InterruptedBySignal, match="SIGTERM"), interruptible():
        start()
    assert started == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="nohup is of POSIX")
@pytest.mark.parametrize("context", [interruptible, StopRequest, held_back])
@pytest.mark.parametrize("number", [each for each in SIGNALS if each != signal.SIGTERM])
def test_what_nohup_wants_ignored_is_ignored(
    number: int, context: Callable[[], AbstractContextManager[object]]
) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with context() as asked:
            assert number not in heard()
            os.kill(os.getpid(), number)
            assert not getattr(asked, "requested", False)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(sys.platform == "win32", reason="nohup is of POSIX")
def test_a_command_ignores_to_its_last_instant_what_it_was_started_to_ignore() -> None:
    """From the end of the work until the process is gone seconds may pass."""
    script = """
import atexit, os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from volumen.cli import main
@main.app.command()
def work() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGHUP), print("whole")))
sys.argv = ["volumen", "work"]
main.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "whole", "")


def test_an_interrupted_command_does_at_its_end_what_is_to_be_done_and_no_more() -> None:
    script = """
import atexit, os, signal, sys
from volumen.cli import main
class Library:
    def __del__(self) -> None:
        os.write(1, b"taken down")
kept = Library()
@main.app.command()
def work() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
atexit.register(print, "given back")
sys.argv = ["volumen", "work"]
main.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (75, "given back")
    assert done.stderr.startswith("interrupted by SIGTERM")

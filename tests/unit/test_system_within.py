"""Work that has only so much time is left when that is over, and nothing rings afterwards."""

import signal
import threading
import time

import pytest

from volumen.system.stopping import OutOfTime, within


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

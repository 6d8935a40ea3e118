"""A process that still imports ends with its parent, and can be forked all the same."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from volumen.system.orphans import orphans_end

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarms")

SCRIPT = """
import os, sys, time
from volumen.system.orphans import orphans_end
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    with orphans_end():
        os.write(writer, b"1")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            sum(range(1000))
    os.write(1, b"it went on")
    os._exit(0)
os.read(reader, 1)
os._exit(0)
"""


def test_an_orphan_ends_in_the_midst_of_its_imports() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)  # until all end
    assert done.stdout == ""
    assert time.monotonic() - began < 50


def test_nothing_of_it_stays() -> None:
    before, threads = signal.getsignal(signal.SIGALRM), threading.active_count()
    with orphans_end():
        assert threading.active_count() == threads
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                os._exit(int(signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0)))
            assert os.waitpid(child, 0)[1] == 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before

"""What the benchmarks of bad days measure does not depend on how they were started."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import signal, subprocess, sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))
from bad_days.running import let_children_hear
let_children_hear()
look = "import signal as s; print(s.getsignal(s.SIGHUP) is s.SIG_DFL, s.getsignal(s.SIGINT) is s.default_int_handler, "
look += "s.pthread_sigmask(s.SIG_BLOCK, ()))"
subprocess.run([sys.executable, "-c", look])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nohup is of POSIX")
def test_a_benchmark_in_the_background_kills_commands_that_hear() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "set()"]

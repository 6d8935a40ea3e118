"""Requests to stop reach whoever asked to hear of them, whatever stands between."""

import os
import signal
import subprocess
import sys

import pytest

from volumen.system.stopping import SIGNALS, InterruptedBySignal, interruptible


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

"""A process that a supervisor started: `python -m volumen.system.supervised MODULE ARGUMENTS`.

It runs the module as `python -m MODULE` would, and ends with its supervisor however that ends: standard input is a pipe
that nobody else holds, and whose end says that the supervisor is gone.
"""

import os
import runpy
import signal
import sys
import threading
import time

SAVES_SECONDS = 8.0
"""From the end of its supervisor until a process that still saves is ended, with its group."""


def end_with_supervisor() -> None:
    """Watch the pipe that is standard input, which is empty from now on."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="end with supervisor", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves
    time.sleep(SAVES_SECONDS)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Watch, and run the module."""
    end_with_supervisor()
    for name in ("SIGUSR1", "SIGUSR2"):  # a scheduler sends them to every process; the supervisor answers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from the supervisor alone, be it a job in the background
    module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

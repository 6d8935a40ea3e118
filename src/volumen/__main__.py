"""The console script `volumen`, and `python -m volumen`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; until there is somebody who answers it better, Ctrl-C ends the process by a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background does not hear it
        signal.signal(signal.SIGINT, _leave)
    from volumen.cli.main import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted by SIGINT: nothing was begun\n")
    os._exit(75)


if __name__ == "__main__":
    main()

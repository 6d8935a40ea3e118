"""The console script `volumen`, and `python -m volumen`."""

import signal


def main() -> None:
    """Run the command line; until there is somebody who answers it, Ctrl-C ends the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from volumen.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

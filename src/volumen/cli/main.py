"""The command `volumen`: it parses, and calls the rooms below; nothing is computed here.

Commands import what they need when they run, so that `volumen --help` answers at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from volumen import __version__
from volumen.cli import audit, bundles, config, data, predict, results, score, submission, train, tune
from volumen.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from volumen.system.stopping import InterruptedBySignal, interruptible

app = typer.Typer(
    name="volumen",
    help="Find papyrus surfaces in CT volumes, and know why a training run is stuck.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
data.register(app)
app.add_typer(config.app, name="config")
audit.register(app)
train.register(app)
results.register(app)
predict.register(app)
bundles.register(app)
submission.register(app)
score.register(app)
tune.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"volumen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Find papyrus surfaces in CT volumes, and know why a training run is stuck."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code: 0, 1 (failure), 2 (the user's mistake) or 75 (stopped, resumable)."""
    try:
        with interruptible():
            result = app(list(arguments), standalone_mode=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except InterruptedBySignal as signal:
        print(f"interrupted by {signal.name}: what is whole is kept, nothing half-written is left", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted at once: what was saved before stands", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _failure(error)
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"failed: the disk is full{place}: nothing half-written is left; make room and start again (predict: "
            "--resume, train: --resume, tune and submit: the same command)",
            file=sys.stderr,
        )
        return EXIT_FAILURE
    except Exception as error:
        return _failure(error)
    return result if isinstance(result, int) else 0


def _failure(error: Exception) -> int:
    """A failure in one line, with a traceback where VOLUMEN_TRACEBACK=1; usage errors print click's own help."""
    show = getattr(error, "show", None)
    if callable(show):  # click's usage errors know how to print themselves
        show()
        return int(getattr(error, "exit_code", EXIT_USER_ERROR))
    if os.environ.get("VOLUMEN_TRACEBACK") == "1":
        raise error
    print(f"failed: {type(error).__name__}: {error} (VOLUMEN_TRACEBACK=1 shows where)", file=sys.stderr)
    return EXIT_FAILURE


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))

"""The command `volumen`: it parses, and calls the rooms below; nothing is computed here.

Commands import what they need when they run, so that `volumen --help` answers at once.
"""

import atexit
import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from volumen import __version__
from volumen.cli import (
    ablate,
    audit,
    bundles,
    compare,
    config,
    data,
    diagnose,
    doctor_bench,
    experiment,
    folds,
    intervene,
    plan,
    predict,
    results,
    score,
    submission,
    sweep,
    train,
    tune,
    wheels,
)
from volumen.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from volumen.system.names import one_line
from volumen.system.output import open_output, say
from volumen.system.stopping import InterruptedBySignal, heard, interruptible

FIXES = {
    errno.EISDIR: "a folder stands where a file belongs: move it away",
    errno.ENOTDIR: "a file stands where a folder belongs: move it away",
    errno.EEXIST: "something stands there already: move it away, or choose another place",
    errno.ENOTEMPTY: "a folder stands there that is not empty: move it away, or choose another place",
    errno.ENOENT: "it was removed or moved meanwhile: put it back and start again",
    errno.EACCES: "make it readable and writable for you, or choose another place",
    errno.EPERM: "make it readable and writable for you, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links run in a circle: remove one",
    errno.EIO: "the disk reports a fault: copy what is on it, and go on elsewhere",
    errno.ESTALE: "the network file system lost it: mount it again and start again",
}
"""What to do about faults of files and folders that no room has words of its own for."""

app = typer.Typer(
    name="volumen",
    help="Find papyrus surfaces in CT volumes, and know why a training run is stuck.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(experiment.app, name="experiment")
for group in (
    data, folds, train, intervene, diagnose, results, compare, predict, bundles, submission, score, tune, sweep,
    plan, ablate, wheels, doctor_bench,
):  # fmt: skip
    group.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"volumen {__version__}")
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
            _check_letters(arguments)
            result = app(list(arguments), standalone_mode=False)
    except UserError as error:
        return _say(f"error: {error}", EXIT_USER_ERROR)
    except InterruptedBySignal as ended:
        return _say(
            f"interrupted by {ended.name}: what is whole is kept, nothing half-written is left", EXIT_INTERRUPTED
        )
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted at once: what was saved before stands", EXIT_INTERRUPTED)
    except OSError as error:
        return _of_the_machine(error)
    except Exception as error:
        return _failure(error)
    return result if isinstance(result, int) else 0


def _check_letters(arguments: Sequence[str]) -> None:
    """Refuse names that no record can hold, before work is done under them."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(
                f"{argument} is not text in this system's encoding of file names, {sys.getfilesystemencoding()}: "
                "rename it, or set LC_ALL=C.UTF-8"
            )


def _say(text: str, code: int) -> int:
    say(text, aside=True)
    return code


def _of_the_machine(error: OSError) -> int:
    """A fault of disk, folder or permission, with what to do about it."""
    place = error.filename2 or error.filename
    where = f" ({place})" if place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _say(
            f"failed: the disk is full{where}: nothing half-written is left; make room and start again (predict: "
            "--resume, train: --resume, tune and submit: the same command)",
            EXIT_FAILURE,
        )
    fix = FIXES.get(error.errno or 0)
    if fix is None or not place or os.environ.get("VOLUMEN_TRACEBACK") == "1":
        return _failure(error)
    return _say(f"error: {place}: {error.strerror}: {fix}", EXIT_USER_ERROR)


def _failure(error: Exception) -> int:
    """A failure in one line, with a traceback where VOLUMEN_TRACEBACK=1; usage errors print click's own help."""
    show = getattr(error, "show", None)
    if callable(show):  # click's usage errors know how to print themselves
        show()
        return int(getattr(error, "exit_code", EXIT_USER_ERROR))
    if os.environ.get("VOLUMEN_TRACEBACK") == "1":
        raise error
    what = one_line(f"{type(error).__name__}: {error}", 600)
    return _say(f"failed: {what} (VOLUMEN_TRACEBACK=1 shows where)", EXIT_FAILURE)


def main() -> None:
    """Run this process's command line and end it; a signal from then on ends it without a word."""
    open_output()
    code = run(sys.argv[1:])
    for number in heard():
        signal.signal(number, signal.SIG_DFL)
    _leave_hanging_trackers(code)
    if code == EXIT_INTERRUPTED:
        _leave_at_once(code)
    sys.exit(code)


def _leave_at_once(code: int) -> None:
    """What is to be done at the end is done; nobody waits until all libraries are taken down one by one."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_hanging_trackers(code: int) -> None:
    """End at once where a tracker still hangs, since its library may wait for its server on the way out."""
    background = sys.modules.get("volumen.trackers.background")
    if background is not None and background.GIVEN_UP:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

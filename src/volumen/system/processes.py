"""Worker processes that end with the process they work for, however that ends, and whenever it wants them to."""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing import process, resource_tracker, util
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, cast

from pebble import ProcessPool

from volumen.errors import UserError
from volumen.system.stopping import SIGNALS, held_back

_LONGEST_PLACE = 60  # bytes; a socket's path may have 104 (macOS) or 108, and two names of ours are added
_SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
_QUIET = "ignore:resource_tracker"  # of warnings; the tracker takes them over when it starts


ENDING_SECONDS = 1.0
"""From the request until a process of a pool that is not to finish is killed."""


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool_of(
    count: int, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPool]:
    """A pool of processes, made anew and not forked: libraries of this process may hold locks or threads.

    Where the block ends well, its work is done before the pool goes; where it raises, the processes are ended at once.
    Each process calls `begin` before its first task.
    """
    # A context of its own: pebble starts processes from threads, and the default context's state is shared.
    context: BaseContext = multiprocessing.get_context("spawn")
    first = pickle.dumps((begin, arguments))  # what reading it imports may take seconds
    pool = ProcessPool(count, initializer=_begin, initargs=(first,), context=context)
    try:
        with held_back(), deaf_children():
            pool.schedule(_nothing)  # starts the pool's threads, which start the processes
        yield pool
        pool.close()  # type: ignore[no-untyped-call]
        pool.join()
    except BaseException:
        _end_at_once(pool)
        raise


def _end_at_once(pool: ProcessPool) -> None:
    """Ask all processes of a pool together to end, and end by force what works on: pebble waits for one by one."""
    pool.stop()  # type: ignore[no-untyped-call]
    if pool._pool_manager_loop is not None:
        pool._pool_manager_loop.join()  # it replaces those that end
    workers = tuple(pool._pool_manager.worker_manager.workers.values())
    for worker in workers:
        worker.terminate()
    end_by_force(workers, ENDING_SECONDS)
    pool.join()


def end_by_force(workers: Collection[BaseProcess], seconds: float) -> None:
    """Wait for processes, and after some seconds kill those that have not ended, also in the midst of a long call."""
    left = {worker.sentinel: worker for worker in workers}
    until = time.monotonic() + seconds
    while left and (ended := wait(list(left), max(0.0, until - time.monotonic()))):
        for sentinel in ended:
            left.pop(cast(int, sentinel), None)
    for worker in left.values():
        worker.kill()


def _nothing() -> None:
    pass


def _begin(first: bytes) -> None:
    """Watch the parent, and only then import what the first work needs."""
    end_with_parent()
    begin, arguments = pickle.loads(first)
    if begin is not None:
        begin(*arguments)


@contextmanager
def deaf_children(*also: int) -> Iterator[None]:
    """Threads and processes started in this context do not hear a terminal's Ctrl-C or hang-up, nor what is in `also`.

    They reach a whole group of processes. The one in charge answers them and ends its workers itself.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    unheard = [number for number in SIGNALS if number != signal.SIGTERM or number in also]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, unheard)
    try:
        _start_tracker()  # whichever thread starts it, and the children of that, hear signals again
        signal.pthread_sigmask(signal.SIG_BLOCK, unheard)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start Python's process that gives back the semaphores of processes that were killed, and let it do so quietly."""
    sys.warnoptions.append(_QUIET)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(_QUIET)


def make_sockets_fit() -> None:
    """Let worker processes meet where the path of a socket fits: a scheduler's temporary folder may be too long.

    Raises:
        UserError: There is no folder for it that can be written to.
    """
    settings = process.current_process()._config  # type: ignore[attr-defined]
    if sys.platform == "win32" or settings.get("tempdir"):
        return
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:
        place = ""
    if place and len(os.fsencode(place)) <= _LONGEST_PLACE:
        return
    for short in _SHORT_PLACES:
        try:
            made = tempfile.mkdtemp(prefix="volumen-", dir=short)
        except OSError:
            continue
        util.Finalize(None, shutil.rmtree, (made, True), exitpriority=-100)
        settings["tempdir"] = made
        return
    said = f"the temporary folder {place} has a path of {len(place)} characters" if place else "there is none"
    raise UserError(
        f"worker processes need a temporary folder with a path of at most {_LONGEST_PLACE} characters that can be "
        f"written to; {said}: set TMPDIR to one, or data.workers to 0"
    )


def end_with_parent() -> None:
    """Called in a worker process: a thread ends it as soon as the process that asked for it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()

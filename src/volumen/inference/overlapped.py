"""Predict volume after volume with a device that never waits: the next one is read, and the last ones are written.

One thread reads ahead; processes do what follows a prediction, for it takes many cores and would keep this one from
telling the device what is next.
"""

import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import torch
from pebble import ProcessExpired

from volumen.errors import UserError
from volumen.runtime import physical_cores, tune_allocator
from volumen.system.processes import pool_of

Read = TypeVar("Read")
Predicted = TypeVar("Predicted")
Written = TypeVar("Written")
_MOST_PROCESSES = 4


class Overlapped(Generic[Read, Predicted, Written]):
    """The three things that are done to a volume, each while the others are done to other volumes.

    Args:
        read: In a thread, one volume ahead.
        predict: In the caller's thread.
        write: In another process; it and what it is given have to be picklable.
        is_large: Whether a prediction is too large to be handed to another process; it is written here.
        processes: How many write; None: by the cores.
    """

    def __init__(
        self,
        read: Callable[[Path], Read],
        predict: Callable[[Read], Predicted],
        write: Callable[[Predicted], Written],
        is_large: Callable[[Predicted], bool],
        processes: int | None = None,
    ) -> None:
        self._read, self._predict, self._write, self._is_large = read, predict, write, is_large
        self._count = processes or max(1, min(_MOST_PROCESSES, physical_cores() // 2))

    def run(self, paths: Sequence[Path], keep: Callable[[Written], None]) -> None:
        """Give `keep` each volume as soon as it is written, in the order of `paths`.

        What is predicted is written even where a later volume fails; Ctrl-C ends everything. No process stays.

        Raises:
            UserError: A process was killed, whose volume is named; and what the three raise.
        """
        count = min(self._count, len(paths))
        under_way: deque[tuple[Path, Future[Written]]] = deque()

        def take() -> None:
            path, future = under_way.popleft()
            keep(result_of(future, f"that wrote {path.name}", ""))

        with ThreadPoolExecutor(1) as reader, pool_of(count, _begin, (max(1, physical_cores() // count),)) as pool:
            coming = reader.submit(self._read, paths[0])
            try:
                for number, path in enumerate(paths):
                    read = coming.result()
                    if number + 1 < len(paths):
                        coming = reader.submit(self._read, paths[number + 1])
                    predicted = self._predict(read)
                    del read
                    large = self._is_large(predicted)
                    while under_way and (large or len(under_way) >= count or under_way[0][1].done()):
                        take()
                    if large:
                        keep(self._write(predicted))
                    else:
                        under_way.append((path, pool.schedule(self._write, args=(predicted,))))
                    del predicted
            except Exception:
                with suppress(Exception):  # the first error is the one that is told
                    while under_way:
                        take()
                raise
            while under_way:
                take()


def result_of(future: Future[Written], which: str, fix: str) -> Written:
    """What a process gave, or an error that names what it worked on (`which`) and a way out besides resuming (`fix`).

    Raises:
        UserError: The process was killed; and what the work raises.
    """
    try:
        return future.result()
    except ProcessExpired as death:
        raise UserError(_told(which, death.exitcode, fix)) from death
    except BrokenProcessPool as death:  # one that had not begun yet
        raise UserError(_told(which, None, fix)) from death


def _told(which: str, exit_code: int | None, fix: str) -> str:
    how = "ended" if exit_code is None else f"ended with exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            how = f"was killed by {signal.Signals(-exit_code).name}"
    return (
        f"the process {which} {how}, most likely for want of memory: {fix}with --resume it goes on behind the volumes "
        "that are done"
    )


def _begin(threads: int) -> None:
    tune_allocator()
    torch.set_num_threads(threads)

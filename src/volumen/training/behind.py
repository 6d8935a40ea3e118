"""Work that goes on behind the caller's back, its results in the order in which it was handed in."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from typing import Generic, TypeVar

import torch

from volumen.system.processes import processors
from volumen.system.stopping import raise_if_wanted

Result = TypeVar("Result")
MOST_THREADS = 4
"""Each task holds a volume's logits, and computes over threads of its own."""
_ASK_SECONDS = 0.2


def threads_beside(device: torch.device) -> int:
    """How many tasks to do behind a device's back; 0 on a CPU, where they would take the cores that predict."""
    return 0 if device.type == "cpu" else min(MOST_THREADS, processors())


class Behind(Generic[Result]):
    """Does tasks over threads (the compiled metrics release the interpreter lock), or with 0 threads at once.

    At most one task more than there are threads is waiting or worked on: memory stays bounded, whoever is slower.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "behind") if threads else None
        self._waiting: deque[Future[Result]] = deque()
        self._done: list[Result] = []

    def add(self, task: Callable[[], Result]) -> None:
        """Hand in a task; waits where too many are under way.

        Raises:
            StopWanted: Somebody asked to stop meanwhile.
        """
        if self._pool is None:
            self._done.append(task())
            return
        while len(self._waiting) > self._threads:
            self._collect()
        self._waiting.append(self._pool.submit(task))

    def results(self) -> list[Result]:
        """All results so far, in the order of their tasks; the first error of a task is raised.

        Raises:
            StopWanted: Somebody asked to stop meanwhile.
        """
        while self._waiting:
            self._collect()
        return self._done

    def __enter__(self) -> "Behind[Result]":
        return self

    def __exit__(self, *exception: object) -> None:
        """Forget what was not begun; what is worked on ends by itself, and nobody waits for it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self) -> None:
        """Wait for the oldest task."""
        while not self._waiting[0].done():
            raise_if_wanted()
            with suppress(TimeoutError):
                self._waiting[0].exception(_ASK_SECONDS)
        self._done.append(self._waiting.popleft().result())

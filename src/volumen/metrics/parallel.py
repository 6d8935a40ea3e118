"""Independent tasks over threads; the compiled kernels release the interpreter lock, so threads are enough."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from volumen.errors import UserError
from volumen.system.processes import processors

Result = TypeVar("Result")


def run_all(tasks: Iterable[Callable[[], Result]], threads: int | None) -> list[Result]:
    """Run every task and return the results in the order of the tasks, whatever the number of threads.

    Raises:
        UserError: fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise UserError(f"threads must be 1 or more, got {threads}: leave it out to use every processor")
    if threads is None:
        threads = processors()
    if threads == 1:
        return [task() for task in tasks]
    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]

"""Batches of training patches, made by worker processes that live as long as the run.

The loader holds no random state: batch b of an epoch consists of the keys `epoch * patches_per_epoch + b * batch ...`,
and a sample is a function of its key. Hence 0, 1 or 8 workers give bit-identical batches, and a run resumes in the
middle of an epoch from two integers.

Workers start from a fork server: plain fork copies a process whose OpenMP and autograd threads do not come along (it
can hang, and Python 3.12 warns about it), and spawn imports torch anew, about two seconds, for each worker. The server
imports once and forks each worker from a process without threads. Systems without fork have spawn alone.

A worker that dies - the system kills one where memory runs out - costs nothing but time, since its samples can be made
again: the workers are replaced once, and where they die again the run goes on without them.
"""

import math
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader

from volumen.data.sampling import PatchDataset, Sample, SampleError
from volumen.errors import UserError
from volumen.system.processes import deaf_children, end_with_parent, make_sockets_fit

warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: they were asked for

PREFETCH = 2
SHARED_MEMORY = "/dev/shm"
DYING_SECONDS = 2.0


class _EpochKeys:
    """Batches of keys of the epoch that is set."""

    def __init__(self, dataset: PatchDataset, batch: int, part: tuple[int, int]) -> None:
        self.dataset, self.batch, self.part = dataset, batch, part
        self.epoch, self.start_batch = 0, 0

    @property
    def batches_per_epoch(self) -> int:
        return len(self.dataset) // self.batch

    def __len__(self) -> int:
        return self.batches_per_epoch - self.start_batch

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start_batch, self.batches_per_epoch):
            rank, ranks = self.part
            each = self.batch // ranks
            first = self.dataset.key(self.epoch, number * self.batch + rank * each)
            yield list(range(first, first + each))


class PatchLoader:
    """Iterates over epochs of batches; the workers stay alive until `close()`, or the end of the context.

    Args:
        dataset: patches by key.
        batch: patches per batch; the last incomplete batch of an epoch is dropped.
        workers: processes that make patches; 0 makes them in this one.
        part: (0, 1) makes whole batches; (r, n) the r-th of n equal parts of each, for one of n ranks.
        pin_memory: page-locked batches, for copying to a GPU.
        died: told, in a sentence, when a worker died and what is done about it.

    Raises:
        UserError: an epoch is smaller than a batch, or there is too little shared memory for the workers.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        batch: int,
        workers: int,
        *,
        part: tuple[int, int] = (0, 1),
        pin_memory: bool = False,
        died: Callable[[str], None] = lambda text: None,
    ) -> None:
        if batch < 1 or batch > len(dataset):
            raise UserError(
                f"batch must lie between 1 and patches_per_epoch ({len(dataset)}), got {batch}: an epoch would be empty"
            )
        self.dataset, self.workers, self._died = dataset, workers, died
        self._keys, self._pin_memory, self._deaths = _EpochKeys(dataset, batch, part), pin_memory, 0
        check_workers(workers, dataset.patch, batch // part[1], len(dataset.makers))
        self._loader: DataLoader[Sample] | None = self._make()

    def _make(self) -> "DataLoader[Sample]":
        options: dict[str, Any] = {}
        if self.workers:
            options = {"persistent_workers": True, "prefetch_factor": PREFETCH, "worker_init_fn": _start_worker}
            options["multiprocessing_context"] = _context()
        return DataLoader(
            self.dataset,
            batch_sampler=self._keys,
            num_workers=self.workers,
            generator=torch.Generator(),  # its own: a loader must not advance the process's random state
            pin_memory=self._pin_memory,
            **options,
        )

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self._keys.batches_per_epoch

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of an epoch in order, from `start_batch` on: samples with a leading batch axis.

        An epoch may be left before its end; the next call starts afresh.

        Raises:
            UserError: `start_batch` lies beyond the epoch's end.
            SampleError: a sample could not be made; it names the case.
        """
        if self._loader is None:
            raise RuntimeError("the loader is closed")
        if not 0 <= start_batch <= self.batches_per_epoch:
            raise UserError(f"start_batch must lie in [0, {self.batches_per_epoch}], got {start_batch}")
        return self._batches(epoch, start_batch)

    def _batches(self, epoch: int, start_batch: int) -> Iterator[dict[str, Any]]:
        batch = start_batch
        while self._loader is not None:
            self._keys.epoch, self._keys.start_batch = epoch, batch
            try:
                with deaf_children():  # which starts them, where they are not there yet
                    batches = iter(self._loader)
                for made in batches:
                    batch += 1
                    yield made
                return
            except (UserError, SampleError) as error:
                raise _plain(error) from error
            except (RuntimeError, OSError, EOFError) as error:
                cause = self._cause_of_death(error)
                if cause is None:
                    raise
            self._replace_workers(cause)

    def _cause_of_death(self, error: Exception) -> str | None:
        """What befell the workers; None where the error is not that one died."""
        iterator = None if self._loader is None else self._loader._iterator
        workers = getattr(iterator, "_workers", ())
        is_connection = isinstance(error, OSError | EOFError)
        for worker in workers if is_connection else ():
            worker.join(DYING_SECONDS)  # its connection breaks before it is known to be dead
        codes = [worker.exitcode for worker in workers if not worker.is_alive()]
        if not self.workers or not (codes or is_connection):
            return None
        if not codes:
            return "cut off from this one"
        killed = any(code in (-9, 255) for code in codes)  # by SIGKILL, which Windows has no name for
        return "killed, most likely by the system for want of memory" if killed else f"ended with exit code {codes[0]}"

    def _replace_workers(self, cause: str) -> None:
        self._deaths += 1
        again = self._deaths < 2
        self._died(
            f"a worker process that makes patches was {cause}; "
            + ("it is replaced, and its patches are made again" if again else "it is the second: on without workers")
            + "; fewer data.workers, a smaller data.batch or patch need less memory"
        )
        self.close()
        self.workers = self.workers if again else 0
        self._loader = self._make()

    def close(self) -> None:
        """Stop the workers and wait for them."""
        iterator = None if self._loader is None else self._loader._iterator
        self._loader = None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            with suppress(OSError, EOFError, RuntimeError):  # some of them may be dead already
                iterator._shutdown_workers()

    def __enter__(self) -> "PatchLoader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _plain(error: Exception) -> Exception:
    """An error of a worker without the traceback that came along as its text."""
    kind, name = type(error), type(error).__name__
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if len(lines) > 1 else str(error)
    return kind(text.partition(f"{name}: ")[2] or text)


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["volumen.data.sampling"])
    return context


def _start_worker(worker: int) -> None:
    end_with_parent()
    torch.set_num_threads(1)  # one core per worker: the network's threads must not be fought over
    # Ctrl-C, and a scheduler's SIGTERM, reach the whole group. The training process answers by saving and then stops
    # its workers itself; were they gone at once, it would fail in the middle of a step. A second SIGTERM is obeyed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _let_the_next_one_through)


def _let_the_next_one_through(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_workers(workers: int, patch: tuple[int, int, int], batch: int, targets: int = 0) -> None:
    """Whether worker processes can do their work on this machine; asked before anybody waits for it.

    The fork server, which imports for seconds, begins here. Batches (of patches with so many targets) travel through
    shared memory; a container's default of 64 MB ends in a bus error in mid-run.

    Raises:
        UserError: There is too little shared memory, or no folder for their sockets.
    """
    if workers:
        make_sockets_fit()
        if _context().get_start_method() == "forkserver":
            with deaf_children():
                forkserver.ensure_running()
    if not workers or not os.path.isdir(SHARED_MEMORY):
        return
    if not os.access(SHARED_MEMORY, os.W_OK):
        raise UserError(
            f"{workers} workers need shared memory, and {SHARED_MEMORY} cannot be written to: set data.workers to 0"
        )
    needed = workers * PREFETCH * batch * math.prod(patch) * (6 + 4 * targets)
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise UserError(
            f"{workers} workers need up to {needed / 1e6:.0f} MB of shared memory, {SHARED_MEMORY} has "
            f"{free / 1e6:.0f} MB free: set data.workers to 0, or give the container more (docker run --shm-size=2g)"
        )

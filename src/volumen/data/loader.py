"""Batches of training patches, made by worker processes that live as long as the run.

The loader holds no random state: batch b of an epoch consists of the keys `epoch * patches_per_epoch + b * batch ...`,
and a sample is a function of its key. Hence 0, 1 or 8 workers give bit-identical batches, and a run resumes in the
middle of an epoch from two integers.

Workers start from a fork server: plain fork copies a process whose OpenMP and autograd threads do not come along (it
can hang, and Python 3.12 warns about it), and spawn imports torch anew, about two seconds, for each worker. The server
imports once and forks each worker from a process without threads.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from volumen.data.sampling import PatchDataset, Sample
from volumen.errors import UserError

PREFETCH = 2
SHARED_MEMORY = "/dev/shm"


class _EpochKeys:
    """Batches of keys of the epoch that is set; lives in the training process, workers only see keys."""

    def __init__(self, dataset: PatchDataset, batch: int) -> None:
        self.dataset, self.batch = dataset, batch
        self.epoch, self.start_batch = 0, 0

    @property
    def batches_per_epoch(self) -> int:
        return len(self.dataset) // self.batch

    def __len__(self) -> int:
        return self.batches_per_epoch - self.start_batch

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start_batch, self.batches_per_epoch):
            first = self.dataset.key(self.epoch, number * self.batch)
            yield list(range(first, first + self.batch))


class PatchLoader:
    """Iterates over epochs of batches; the workers stay alive in between.

    Use as a context manager, or call `close()`; both stop the workers.

    Args:
        dataset: patches by key.
        batch: patches per batch; the last incomplete batch of an epoch is dropped.
        workers: processes that make patches; 0 makes them in this one.
        pin_memory: page-locked batches, for copying to a GPU.

    Raises:
        UserError: an epoch is smaller than a batch, or there is too little shared memory for the workers.
    """

    def __init__(self, dataset: PatchDataset, batch: int, workers: int, *, pin_memory: bool = False) -> None:
        if batch < 1 or batch > len(dataset):
            raise UserError(
                f"batch must lie between 1 and patches_per_epoch ({len(dataset)}), got {batch}: an epoch would be empty"
            )
        self.dataset, self.workers = dataset, workers
        self._keys = _EpochKeys(dataset, batch)
        if workers:
            _check_shared_memory(dataset, batch, workers)
        self._loader: DataLoader[Sample] | None = DataLoader(
            dataset,
            batch_sampler=self._keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_start_worker if workers else None,
            generator=torch.Generator(),  # its own: a loader must not advance the process's random state
            pin_memory=pin_memory,
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
        self._keys.epoch, self._keys.start_batch = epoch, start_batch
        return iter(self._loader)

    def close(self) -> None:
        """Stop the workers and wait for them."""
        if self._loader is None:
            return
        iterator = self._loader._iterator
        self._loader = None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()

    def __enter__(self) -> "PatchLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def epoch_loader(
    dataset: PatchDataset, epoch: int, batch: int, workers: int, start_batch: int = 0
) -> Iterator[dict[str, Any]]:
    """The batches of a single epoch; the workers end with it. For many epochs use `PatchLoader`."""
    with PatchLoader(dataset, batch, workers) as loader:
        yield from loader.epoch(epoch, start_batch)


def _context() -> BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["volumen.data.sampling"])
    return context


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)  # one core per worker: the network's threads must not be fought over
    # Ctrl-C, and a scheduler's SIGTERM, reach the whole group. The training process answers by saving and then stops
    # its workers itself; were they gone at once, it would fail in the middle of a step. A second SIGTERM is obeyed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _let_the_next_one_through)


def _let_the_next_one_through(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _check_shared_memory(dataset: PatchDataset, batch: int, workers: int) -> None:
    """Batches travel through shared memory; a container's default of 64 MB ends in a bus error in mid-run."""
    if not os.path.isdir(SHARED_MEMORY):
        return
    voxels = dataset.patch[0] * dataset.patch[1] * dataset.patch[2]
    needed = workers * PREFETCH * batch * voxels * (6 + 4 * len(dataset.precompute))
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise UserError(
            f"{workers} workers need up to {needed / 1e6:.0f} MB of shared memory, {SHARED_MEMORY} has "
            f"{free / 1e6:.0f} MB free: set data.workers to 0, or give the container more (docker run --shm-size=2g)"
        )

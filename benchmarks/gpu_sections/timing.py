"""How long things take on a device: by its own clock on a card, by the host's elsewhere."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch


def milliseconds(job: Callable[[], object], device: torch.device, rounds: int, warm_up: int) -> float:
    """Median time of a call.

    On a card it is what lies between marks in its queue: a job that makes the card wait for the host shows it, and no
    mark makes it wait.
    """
    for _ in range(warm_up):
        job()
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(rounds):
            job()
            marks.append(time.perf_counter())
        return statistics.median(1000 * (later - earlier) for earlier, later in pairwise(marks))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    torch.cuda.synchronize(device)
    events[0].record()
    for event in events[1:]:
        job()
        event.record()
    torch.cuda.synchronize(device)
    return statistics.median(earlier.elapsed_time(later) for earlier, later in pairwise(events))


def free_memory(device: torch.device) -> None:
    """Drop what earlier parts left, and begin to measure the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """The most that tensors occupied since `free_memory`; NaN off the card."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")


@contextmanager
def tried_out(wanted: bool) -> Iterator[None]:
    """Whether cuDNN tries its algorithms on each new shape, and takes the quickest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

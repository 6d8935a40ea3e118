"""Memory of a training step, and the largest batch that fits, without ever running out of it here.

Every trial is a real step in a child process (`memory_trial`) that may grow by no more than what is available.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.runtime import choose_device
from volumen.system import memory
from volumen.system.memory import is_out_of_memory

RESERVE = 0.05  # of what is available: allocation is not quite a straight line
TRIALS = 3  # of a predicted largest batch, each a tenth smaller than the one before
TRIAL_SECONDS = 40.0
SEARCH_SECONDS = 120.0
"""On a card, for all trials together: memory there is no straight line, since kernels are chosen by what is free."""


@dataclass(frozen=True)
class MemoryTrial:
    """A step that was tried."""

    batch: int
    fits: bool
    peak_bytes: int = 0
    seconds: float = 0.0
    timed_out: bool = False
    """It was stopped before its end: nothing is known of whether it fits."""


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits, and how well that is known."""

    batch: int
    verified: bool
    """A real step of this batch fitted; otherwise it is what two measured batches predict."""
    capped: bool
    """It is `data.sampling.patches_per_epoch`, beyond which an epoch would be empty, and not the memory's limit."""
    available_bytes: int
    fixed_bytes: float
    """Memory = fixed + per_patch * batch, from two measured batches."""
    per_patch_bytes: float


def largest_batch(fits: Callable[[int], bool], start: int, limit: int) -> int:
    """The largest batch from 1 to `limit` that fits; 0 if none does.

    Doubles from `start` until one does not fit, then bisects. What fits at some batch fits at every smaller one.
    """
    good, bad = 0, limit + 1
    guess = min(max(start, 1), limit)
    while bad - good > 1:
        if fits(guess):
            good = guess
            guess = min(2 * good, bad - 1) if bad > limit else (good + bad) // 2
        else:
            bad = guess
            guess = (good + bad) // 2
    return good


def try_batch(
    config: Config, batch: int, share: float, room_bytes: int | None, *, seconds: float = TRIAL_SECONDS
) -> MemoryTrial:
    """Do two steps of a batch in a child process.

    Args:
        config: The run; its parts are the package's own.
        batch: Patches a step.
        share: Surface share, at which the network's logits start.
        room_bytes: What the child may occupy in all; None sets no limit. On CUDA the device sets it.
        seconds: Until the child is stopped.

    Raises:
        UserError: The step failed for another reason than memory.
    """
    request = {"config": config.model_dump_json(), "batch": batch, "surface_share": share}
    command = [sys.executable, "-m", "volumen.doctor.cost.memory_trial"]
    text = json.dumps({**request, "room_bytes": room_bytes})
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return MemoryTrial(batch, fits=False, timed_out=True)
    if done.returncode == 0:
        return MemoryTrial(batch, **json.loads(done.stdout))
    if done.returncode < 0 or is_out_of_memory(done.stderr):  # killed by the system, or gone before it could answer
        return MemoryTrial(batch, fits=False)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise UserError(f"a training step of batch {batch} fails: {last}: `volumen train` would fail the same way")


def find_largest(
    config: Config, share: float, smaller: MemoryTrial, larger: MemoryTrial, available: int
) -> LargestBatch:
    """Predict the largest batch from two trials that fitted, and try it.

    Args:
        config: The run.
        share: As in `try_batch`.
        smaller: MemoryTrial of the smaller batch.
        larger: MemoryTrial of the larger batch.
        available: Bytes.
    """
    slope = max((larger.peak_bytes - smaller.peak_bytes) / (larger.batch - smaller.batch), 1.0)
    fixed = larger.peak_bytes - slope * larger.batch
    most = config.data.sampling.patches_per_epoch
    room = available * (1 - RESERVE)
    predicted = largest_batch(lambda batch: fixed + slope * batch <= room, larger.batch, most)
    if choose_device(config.device).type == "cuda":
        predicted, verified = by_trial(
            lambda batch, left: try_batch(config, batch, share, None, seconds=left), predicted, most, SEARCH_SECONDS
        )
        return LargestBatch(predicted, verified, predicted == most, available, fixed, slope)
    verified, began = False, time.perf_counter()
    per_patch_seconds = larger.seconds / larger.batch
    for _ in range(TRIALS):
        left = TRIAL_SECONDS - (time.perf_counter() - began)
        if predicted < 1 or 2.5 * predicted * per_patch_seconds > left:
            break
        trial = try_batch(config, predicted, share, available, seconds=left)
        verified = trial.fits
        if trial.fits or trial.timed_out:
            break
        predicted = int(predicted * 0.9)
    return LargestBatch(predicted, verified, predicted == most, available, fixed, slope)


def by_trial(trial: Callable[[int, float], MemoryTrial], start: int, limit: int, seconds: float) -> tuple[int, bool]:
    """The largest batch whose steps were done, and whether that is known.

    Args:
        trial: Tries a batch within so many seconds.
        start: What was predicted; the first one tried.
        limit: No larger one is tried.
        seconds: For all of them: what fitted last counts where they end first, or the prediction where none did.
    """
    began, good = time.perf_counter(), 0

    def fits(batch: int) -> bool:
        nonlocal good
        done = trial(batch, max(seconds - (time.perf_counter() - began), 0.0))
        if done.timed_out:
            raise TimeoutError
        good = max(good, batch if done.fits else 0)
        return done.fits

    try:
        return largest_batch(fits, start, limit), True
    except TimeoutError:
        return (good, True) if good else (start, False)


def available_bytes(config: Config) -> int:
    """Memory that a run could have now: of the device, or of the machine and the group of processes it is put into."""
    if choose_device(config.device).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory.available_bytes()

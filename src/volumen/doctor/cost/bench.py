"""A run's own parts on one batch of real patches, and how long they take.

Parts are timed in turn, round after round, so that whatever else the machine does falls on all of them alike, and the
least of each is taken. Wall time says how long an epoch is. Shares are told by processor time on the CPU, on which
other programs have little influence.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any

import torch
from torch import Tensor

from volumen.config.schema import Config
from volumen.data.device.choice import loader_for
from volumen.data.sampling import PatchDataset
from volumen.doctor.context import Context
from volumen.losses.targets import target_makers
from volumen.runtime import Precision, choose_device, choose_precision
from volumen.training.objective import precomputed_targets
from volumen.training.state import TrainingState

ROUNDS = 3
SMALL_SIDE = 32  # voxels: a patch is made no smaller than this in order to be quick


@dataclass(frozen=True)
class Spent:
    """What one part of a step takes."""

    seconds: float
    cpu_seconds: float
    """Of all threads; on an accelerator the same as `seconds`."""

    def scaled(self, factor: float) -> "Spent":
        """The same on more voxels."""
        return Spent(self.seconds * factor, self.cpu_seconds * factor)


@dataclass(frozen=True)
class Bench:
    """A run's parts on one batch, ready to be timed."""

    config: Config
    state: TrainingState
    precision: Precision
    device: torch.device
    batch: Mapping[str, Any]
    loader_seconds: float

    @property
    def image(self) -> Tensor:
        """Images on the device [B, 1, Z, Y, X]."""
        image: Tensor = self.batch["image"]
        return image.to(self.device, memory_format=self.precision.memory_format)


def make_bench(context: Context, config: Config, timed_batches: int = 0) -> Bench:
    """State and a batch of real patches, of the size that `config` says.

    Args:
        context: Data set, fold and parts.
        config: Its configuration, maybe with another batch and patch.
        timed_batches: How many batches to time the loader on, on one thread, as a worker works; 0 does not time it.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    makers = target_makers(precomputed_targets(config.loss))
    patches = PatchDataset(context.dataset, context.training, config.data, config.seed, makers)
    with loader_for(patches, device, workers=0) as loader, _threads(1 if timed_batches else None):
        batch = next(loader.epoch(0))
        began = time.perf_counter()
        count = sum(1 for _ in islice(loader.epoch(0, 1 % loader.batches_per_epoch), timed_batches))
        seconds = (time.perf_counter() - began) / count if count else float("nan")
        state = context.state(config, device, precision, loader.batches_per_epoch)
    state.model.train()
    return Bench(config, state, precision, device, batch, seconds)


def affordable(
    context: Context,
    config: Config,
    limit_seconds: float,
    most_voxels: int | None = None,
    timed_batches: int = 0,
) -> tuple[Config, Bench]:
    """The configuration with so few voxels that the network takes at most `limit_seconds`, and its bench.

    A pilot on the smallest patch tells the time of a voxel; then the batch is halved first, and the patch after it.

    Args:
        context: The run.
        config: Its configuration, maybe with another batch and patch.
        limit_seconds: For the network, forward and backward.
        most_voxels: What memory is known to hold; None sets no limit.
        timed_batches: As in `make_bench`.
    """
    smallest = with_size(config, 1, shrunk(config.data.patch, config.divisor, SMALL_SIDE))
    bench = make_bench(context, smallest)
    pilot = least_of({"network": network_job(bench)}, bench.device, rounds=1)["network"].seconds
    most = voxels(smallest) * limit_seconds / pilot
    if most_voxels is not None:
        most = min(most, most_voxels)
    while voxels(config) > max(most, voxels(smallest)):
        side = max(config.data.patch)
        if config.data.batch > 1:
            config = with_size(config, config.data.batch // 2, config.data.patch)
        else:
            config = with_size(config, 1, shrunk(config.data.patch, config.divisor, max(SMALL_SIDE, side // 2)))
    return config, make_bench(context, config, timed_batches)


def shrunk(patch: tuple[int, int, int], divisor: int, side: int) -> tuple[int, int, int]:
    """A patch whose sides are at most `side` or the next multiple of `divisor` above it."""
    most = -(-side // divisor) * divisor
    z, y, x = (min(length, most) for length in patch)
    return z, y, x


def with_size(config: Config, batch: int, patch: tuple[int, int, int]) -> Config:
    """The configuration with another batch and patch."""
    return config.model_copy(update={"data": config.data.model_copy(update={"batch": batch, "patch": patch})})


def voxels(config: Config) -> int:
    """Voxels of a batch."""
    return config.data.batch * prod(config.data.patch)


def least_of(jobs: Mapping[str, Callable[[], object]], device: torch.device, rounds: int = ROUNDS) -> dict[str, Spent]:
    """The least wall and processor time of each job over some rounds, after one to warm up."""
    least = dict.fromkeys(jobs, Spent(float("inf"), float("inf")))
    for number in range(rounds + 1):
        for name, job in jobs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - wall
            spent = time.process_time() - cpu if device.type == "cpu" else seconds
            if number:
                known = least[name]
                least[name] = Spent(min(known.seconds, seconds), min(known.cpu_seconds, spent))
    return least


def network_job(bench: Bench) -> Callable[[], object]:
    """Forward, and backward from a gradient of 1e-3 at every logit."""
    image, model = bench.image, bench.state.model

    def job() -> None:
        model.zero_grad(set_to_none=True)
        with bench.precision.autocast():
            levels = levels_of(model(image))
        torch.autograd.backward(levels, [torch.full_like(level, 1e-3) for level in levels])

    return job


def levels_of(logits: Tensor | list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    """What a network gives, as a list: one resolution, or several under deep supervision."""
    return [logits] if isinstance(logits, Tensor) else list(logits)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

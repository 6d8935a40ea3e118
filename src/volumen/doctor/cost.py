"""What a training step costs, part by part, with the run's own network, patches and objective.

The parts are timed in turn, round after round, so that whatever else the machine does falls on all of them alike, and
the least of each is taken. Wall time says how long an epoch is. Shares are told by processor time on the CPU, on which
other programs have little influence.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from volumen.config.schema import Config
from volumen.data import PatchDataset, PatchLoader
from volumen.losses import CompositeLoss
from volumen.runtime import Precision, choose_device, choose_precision
from volumen.training.loop import surface_share
from volumen.training.objective import precomputed_targets
from volumen.training.state import TrainingState

if TYPE_CHECKING:  # the audit's checks call this module
    from volumen.doctor.audit.context import Context

NETWORK, OPTIMISER = "network", "optimiser"
ROUNDS = 3
LOADED_BATCHES = 4
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
class StepProfile:
    """The parts of a step."""

    batch: int
    network: Spent
    """Forward and backward."""
    terms: Mapping[str, Spent]
    """Each loss term alone, forward and backward down to the logits."""
    optimiser: Spent
    """Clipping, update and moving average."""
    loader_seconds: float
    """One worker, one batch; NaN where it was not measured."""
    workers: int
    on_cpu: bool
    scale: float
    """How many times as many voxels a step of the run has as the one that was measured; 1 means nothing was scaled."""
    measured: tuple[int, ...]
    """Batch and patch that were measured."""

    @property
    def step_seconds(self) -> float:
        """A step that never waits for its batch."""
        return sum(part.seconds for part in self.parts.values())

    @property
    def parts(self) -> dict[str, Spent]:
        """Everything but the loader, by name."""
        return {NETWORK: self.network, **self.terms, OPTIMISER: self.optimiser}

    @property
    def paced_seconds(self) -> float:
        """A step with what its loader adds: batches that come too slowly, and on a CPU the cores that workers take."""
        if self.workers == 0:
            return self.step_seconds + self.loader_seconds
        paced = max(self.step_seconds, self.loader_seconds / self.workers)
        if not self.on_cpu:
            return paced
        work = sum(part.cpu_seconds for part in self.parts.values()) + self.loader_seconds
        return max(paced, work / available_cores())

    @property
    def waiting_seconds(self) -> float:
        """What the loader needs beyond what its workers do during a step."""
        if self.workers == 0:
            return self.loader_seconds
        return max(0.0, self.loader_seconds / self.workers - self.step_seconds)

    def share_of(self, term: str, among: tuple[str, ...]) -> float:
        """Share of processor time that a term takes of the network and the terms `among`."""
        total = self.network.cpu_seconds + sum(self.terms[name].cpu_seconds for name in among)
        return self.terms[term].cpu_seconds / total


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


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def profile_step(
    context: "Context", *, batch: int | None = None, limit_seconds: float = 20.0, with_loader: bool = True
) -> StepProfile:
    """Measure a step of a run.

    Args:
        context: The run; its state and objectives are made by its own parts.
        batch: Patches a step, instead of the configured ones.
        limit_seconds: A step that would take longer is measured on fewer voxels and scaled.
        with_loader: Also time the loader.
    """
    wanted = context.config.data.batch if batch is None else batch
    config = _with_size(context.config, wanted, context.config.data.patch)
    measured, bench = affordable(context, config, limit_seconds)
    if with_loader:
        bench = make_bench(context, measured, timed_batches=LOADED_BATCHES)
    scale = voxels(config) / voxels(measured)
    terms = {name: term for loss in context.objectives.values() for name, (_, term) in loss.terms.items()}
    jobs: dict[str, Callable[[], object]] = {NETWORK: _network_job(bench)}
    jobs |= {name: _term_job(bench, CompositeLoss({name: (1.0, term)})) for name, term in terms.items()}
    jobs[OPTIMISER] = _optimiser_job(bench)
    spent = least_of(jobs, bench.device)
    return StepProfile(
        batch=wanted,
        network=spent[NETWORK].scaled(scale),
        terms={name: spent[name].scaled(scale) for name in terms},
        optimiser=spent[OPTIMISER],
        loader_seconds=bench.loader_seconds * scale,
        workers=config.data.workers,
        on_cpu=bench.device.type == "cpu",
        scale=scale,
        measured=(measured.data.batch, *measured.data.patch),
    )


def affordable(context: "Context", config: Config, limit_seconds: float) -> tuple[Config, Bench]:
    """The configuration with so few voxels that network and optimiser take at most `limit_seconds`, and its bench.

    A pilot on the smallest patch tells the time of a voxel; then the batch is halved first, and the patch after it.
    """
    smallest = _with_size(config, 1, shrunk(config.data.patch, config.divisor, SMALL_SIDE))
    bench = make_bench(context, smallest)
    pilot = least_of({NETWORK: _network_job(bench)}, bench.device, rounds=1)[NETWORK].seconds
    most = voxels(smallest) * limit_seconds / pilot
    while voxels(config) > max(most, voxels(smallest)):
        side = max(config.data.patch)
        if config.data.batch > 1:
            config = _with_size(config, config.data.batch // 2, config.data.patch)
        else:
            config = _with_size(config, 1, shrunk(config.data.patch, config.divisor, max(SMALL_SIDE, side // 2)))
    return config, make_bench(context, config)


def shrunk(patch: tuple[int, int, int], divisor: int, side: int) -> tuple[int, int, int]:
    """A patch whose sides are at most `side` or the next multiple of `divisor` above it."""
    most = -(-side // divisor) * divisor
    z, y, x = (min(length, most) for length in patch)
    return z, y, x


def voxels(config: Config) -> int:
    """Voxels of a batch."""
    return config.data.batch * prod(config.data.patch)


def make_bench(context: "Context", config: Config, timed_batches: int = 0) -> Bench:
    """State and a batch of real patches, of the size that `config` says.

    Args:
        context: Data set, fold and parts.
        config: Its configuration, maybe with another batch and patch.
        timed_batches: How many batches to time the loader on, on one thread, as a worker works; 0 does not time it.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    patches = PatchDataset(
        context.dataset, context.training, config.data, config.seed, precomputed_targets(config.loss)
    )
    with PatchLoader(patches, config.data.batch, workers=0) as loader, _threads(1 if timed_batches else None):
        batch = next(loader.epoch(0))
        began = time.perf_counter()
        count = sum(1 for _ in islice(loader.epoch(0, 1 % loader.batches_per_epoch), timed_batches))
        seconds = (time.perf_counter() - began) / count if count else float("nan")
        state = context.parts.state(
            config,
            device,
            precision,
            steps_per_epoch=loader.batches_per_epoch,
            prior=surface_share(context.dataset, context.training),
        )
    state.model.train()
    return Bench(config, state, precision, device, batch, seconds)


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


def _network_job(bench: Bench) -> Callable[[], object]:
    """Forward, and backward from a gradient of 1e-3 at every logit."""
    image, model = bench.image, bench.state.model

    def job() -> None:
        model.zero_grad(set_to_none=True)
        with bench.precision.autocast():
            levels = _levels(model(image))
        torch.autograd.backward(levels, [torch.full_like(level, 1e-3) for level in levels])

    return job


def _term_job(bench: Bench, objective: CompositeLoss) -> Callable[[], object]:
    """Forward and backward of an objective down to the logits that the fresh network gives."""
    with torch.no_grad(), bench.precision.autocast():
        levels = _levels(bench.state.model(bench.image))
    leaves = [level.detach().float().requires_grad_() for level in levels]
    target, valid = bench.batch["target"].to(bench.device), bench.batch["valid"].to(bench.device)
    given = {name: bench.batch[name].to(bench.device) for name in objective.requires if name in bench.batch}

    def job() -> None:
        for leaf in leaves:
            leaf.grad = None
        logits = leaves[0] if len(leaves) == 1 else leaves
        torch.autograd.backward(objective(logits, target, valid, precomputed=given).total)

    return job


def _optimiser_job(bench: Bench) -> Callable[[], object]:
    state, limit = bench.state, bench.config.training.gradient_clip

    def job() -> None:
        nn.utils.clip_grad_norm_(state.model.parameters(), float("inf") if limit is None else limit)
        state.optimiser.step()
        if state.average is not None:
            state.average.update(state.model)

    return job


def _levels(logits: Tensor | list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    return [logits] if isinstance(logits, Tensor) else list(logits)


def _with_size(config: Config, batch: int, patch: tuple[int, int, int]) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"batch": batch, "patch": patch})})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

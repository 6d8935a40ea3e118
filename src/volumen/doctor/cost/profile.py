"""What a training step costs, part by part, with the run's own network, patches and objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from volumen.doctor.context import Context
from volumen.doctor.cost.bench import (
    Bench,
    Spent,
    affordable,
    least_of,
    levels_of,
    make_bench,
    network_job,
    voxels,
    with_size,
)
from volumen.losses import CompositeLoss
from volumen.system.processes import processors

NETWORK, OPTIMISER = "network", "optimiser"
LOADED_BATCHES = 4


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
        return max(paced, work / processors())

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


def profile_step(
    context: Context,
    *,
    batch: int | None = None,
    limit_seconds: float = 20.0,
    most_voxels: int | None = None,
    with_loader: bool = True,
) -> StepProfile:
    """Measure a step of a run.

    Args:
        context: The run; its state and objectives are made by its own parts.
        batch: Patches a step, instead of the configured ones.
        limit_seconds: A step that would take longer is measured on fewer voxels and scaled.
        most_voxels: What memory is known to hold: a larger step is measured on fewer voxels and scaled.
        with_loader: Also time the loader.
    """
    wanted = context.config.data.batch if batch is None else batch
    config = with_size(context.config, wanted, context.config.data.patch)
    measured, bench = affordable(context, config, limit_seconds, most_voxels)
    if with_loader:
        bench = make_bench(context, measured, timed_batches=LOADED_BATCHES)
    scale = voxels(config) / voxels(measured)
    terms = {name: term for loss in context.objectives.values() for name, (_, term) in loss.terms.items()}
    jobs: dict[str, Callable[[], object]] = {NETWORK: network_job(bench)}
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


def _term_job(bench: Bench, objective: CompositeLoss) -> Callable[[], object]:
    """Forward and backward of an objective down to the logits that the fresh network gives."""
    with torch.no_grad(), bench.precision.autocast():
        levels = levels_of(bench.state.model(bench.image))
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

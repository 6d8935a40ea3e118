"""Can the run learn two patches by heart, and from their images?

A network with its optimiser, rate and objective that cannot learn two small patches will not learn a data set. One that
learns them as well from empty or exchanged images has learnt their positions, not what they show.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from volumen.doctor.autopsy import TOTAL, Probe, autopsy
from volumen.doctor.stages import CPU, STRONGEST_OF, precision_of
from volumen.training.loop import surface_share
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError, training_step

if TYPE_CHECKING:  # the audit's checks call this module
    from volumen.doctor.audit.context import Context

PATCHES = 2
SIDE_VOXELS = 32
STEPS = 400
LOOK_EVERY = 10
SECONDS = 90.0
LEARNT = 0.05
"""Progress at which the patches count as learnt by heart."""


@dataclass(frozen=True)
class Overfit:
    """What became of the patches. Progress r: 1 for the best constant, 0 for the best attainable on these labels."""

    progress: tuple[float, ...]
    """In evaluation mode, before the first step and then every ten steps."""
    steps: int
    seconds: float
    patch: tuple[int, int, int]
    rate: float
    """The highest rate of the run, held."""
    training_mode: float
    """Progress at the end in training mode."""
    zeroed: float
    """Progress at the end where the images are replaced by zeros."""
    exchanged: float
    """Progress at the end where every image is the other patch's."""
    decided: bool
    """Whether it was learnt, or had all of its steps."""
    failure: str | None
    """The error that ended it."""

    @property
    def reached(self) -> float:
        """The least progress."""
        return min(self.progress)


def overfit(context: "Context", *, steps: int = STEPS, seconds: float = SECONDS) -> Overfit:
    """Learn two patches by heart with the run's own network, optimiser, highest rate and first objective.

    Args:
        context: The run.
        steps: At most so many.
        seconds: No further step is begun after this time.
    """
    config, began = context.config, time.perf_counter()
    side = max(SIDE_VOXELS, 2 * config.divisor)  # an instance norm needs more than one voxel at the bottom
    images, labels = context.normalised_patches(PATCHES, side)
    objective = next(iter(context.objectives.values()))
    found, probe = autopsy(objective, labels), Probe(objective, labels)
    state = context.parts.state(
        config, CPU, precision_of(config), steps_per_epoch=1, prior=surface_share(context.dataset, context.training)
    )
    bench = _Bench(state, probe, torch.from_numpy(images))
    epochs = config.training.epochs
    peak = highest_rate_epoch(state)
    progress, done, failure = [found.total.progress(bench.loss())], 0, None
    while done < steps and time.perf_counter() - began < seconds and progress[-1] >= LEARNT:
        try:
            for _ in range(LOOK_EVERY):
                state.rate.apply(peak, epochs)
                bench.step()
                done += 1
        except NonFiniteError as error:
            failure = str(error)
            break
        progress.append(found.total.progress(bench.loss()))
    return Overfit(
        progress=tuple(progress),
        steps=done,
        seconds=time.perf_counter() - began,
        patch=(side,) * 3,
        rate=state.rate.value,
        training_mode=found.total.progress(bench.loss(training=True)),
        zeroed=found.total.progress(bench.loss(torch.zeros_like(bench.images))),
        exchanged=found.total.progress(bench.loss(bench.images.roll(1, 0))),
        decided=done >= steps or min(progress) < LEARNT,
        failure=failure,
    )


def highest_rate_epoch(state: TrainingState) -> float:
    """An epoch at which the run's rate is highest, or nearly."""
    epochs = state.config.training.epochs
    tried = (epochs * step / STRONGEST_OF for step in range(STRONGEST_OF))
    return max(tried, key=lambda epoch: state.rate.rate_at(epoch, epochs))


@dataclass(frozen=True)
class _Bench:
    """A state and the patches that it learns."""

    state: TrainingState
    probe: Probe
    images: Tensor
    """[N, 1, Z, Y, X]"""

    @property
    def batch(self) -> Mapping[str, Any]:
        return {"image": self.images, "target": self.probe.target, "valid": self.probe.valid, **self.probe.precomputed}

    def step(self) -> None:
        state = self.state
        state.model.train()
        training_step(
            state.model, self.probe.objective, state.optimiser, self.batch, precision=precision_of(state.config),
            device=CPU, gradient_clip=state.config.training.gradient_clip, scaler=state.scaler,
        )  # fmt: skip

    def loss(self, images: Tensor | None = None, *, training: bool = False) -> float:
        """The total on these images, or on others; deep supervision takes no part in evaluation mode."""
        precision = precision_of(self.state.config)
        shown = (self.images if images is None else images).to(memory_format=precision.memory_format)
        self.state.model.train(training)
        with torch.no_grad(), precision.autocast():
            logits = self.state.model(shown)
        finest = logits[0] if isinstance(logits, list | tuple) else logits
        return self.probe.at(finest.float())[TOTAL]

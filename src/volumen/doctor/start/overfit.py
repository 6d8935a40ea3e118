"""Can the run learn two patches by heart, and from their images?

A network with its optimiser, rate and objective that cannot learn two small patches will not learn a data set. One that
learns them as well from empty or exchanged images has learnt their positions, not what they show.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from volumen.doctor.context import Context
from volumen.doctor.objective.autopsy import autopsy
from volumen.doctor.start.first_steps import board_of, cpu_precision, fresh
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError

PATCHES = 2
STRONGEST_OF = 16
"""Places in a run among which its highest rate is looked for."""
STEPS = 400
LOOK_EVERY = 10
SECONDS = 75.0
LEARNT = 0.05
"""Progress at which the patches count as learnt by heart."""
STILL_STEPS, STILL = 100, 1e-3
"""Steps after which progress that has moved by less than this ends it: a healthy run moves by 0.05 in ten."""


@dataclass(frozen=True)
class Overfit:
    """What became of the patches. Progress r: 1 for the best constant, 0 for the best attainable on these labels."""

    progress: tuple[float, ...]
    """In evaluation mode, before the first step and then every ten steps."""
    steps: int
    seconds: float
    side_voxels: int
    """Of a patch."""
    rate: float
    """The highest rate of the run, held."""
    training_mode: float
    """Progress at the end in training mode."""
    zeroed: float
    """Progress at the end where the images are replaced by zeros."""
    exchanged: float
    """Progress at the end where every image is the other patch's."""
    decided: bool
    """Whether it was learnt, had all of its steps, or stood still."""
    failure: str | None
    """The error that ended it."""

    @property
    def reached(self) -> float:
        """The least progress."""
        return min(self.progress)


def overfit(context: Context, *, steps: int = STEPS, seconds: float = SECONDS) -> Overfit:
    """Learn two patches by heart with the run's own network, optimiser, highest rate and first objective.

    Args:
        context: The run.
        steps: At most so many.
        seconds: Of processor time a thread, after which no further step is begun: what else the machine does decides
            nothing.
    """
    config, began, used = context.config, time.perf_counter(), time.process_time()
    limit = seconds * torch.get_num_threads()
    precision, board = cpu_precision(config), board_of(context, PATCHES)
    total = autopsy(board.probe.objective, board.labels).total
    state = fresh(context, precision)
    peak, epochs = highest_rate_epoch(state), config.training.epochs

    def progress_now(images: Tensor | None = None, *, training: bool = False) -> float:
        return total.progress(board.loss(state.model, precision, images, training=training))

    progress, done, failure = [progress_now()], 0, None
    still = False
    while done < steps and not still and time.process_time() - used < limit and progress[-1] >= LEARNT:
        try:
            for _ in range(LOOK_EVERY):
                state.rate.apply(peak, epochs)
                board.step(state, precision)
                done += 1
        except NonFiniteError as error:
            failure = str(error)
            break
        progress.append(progress_now())
        still = done >= STILL_STEPS and max(progress) - min(progress) < STILL
    return Overfit(
        progress=tuple(progress),
        steps=done,
        seconds=time.perf_counter() - began,
        side_voxels=board.images.shape[-1],
        rate=state.rate.value,
        training_mode=progress_now(training=True),
        zeroed=progress_now(torch.zeros_like(board.images)),
        exchanged=progress_now(board.images.roll(1, 0)),
        decided=done >= steps or still or min(progress) < LEARNT,
        failure=failure,
    )


def highest_rate_epoch(state: TrainingState) -> float:
    """An epoch at which the run's rate is highest, or nearly."""
    epochs = state.config.training.epochs
    tried = (epochs * step / STRONGEST_OF for step in range(STRONGEST_OF))
    return max(tried, key=lambda epoch: state.rate.rate_at(epoch, epochs))

"""What a run will cost in all: an epoch, the whole run, its memory; and the same for another batch size."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from volumen.config.optimisation import AdamW, Sgd
from volumen.config.schema import Config
from volumen.doctor.context import Context
from volumen.doctor.cost.bench import voxels, with_size
from volumen.doctor.cost.memory import LargestBatch, MemoryTrial, available_bytes, find_largest, try_batch
from volumen.doctor.cost.profile import StepProfile, profile_step
from volumen.doctor.cost.validation import ValidationCost, measure_validation
from volumen.errors import UserError

LINEAR = "linear for SGD (Goyal et al. 2017)"
ROOT = "square root for AdamW (Krizhevsky 2014; Malladi et al. 2022)"


@dataclass(frozen=True)
class BatchCost:
    """A run with one batch size."""

    batch: int
    steps_per_epoch: int
    fits: bool | None
    """None where the trial took too long to tell."""
    peak_bytes: int | None
    """Of the training process (on CUDA: what its allocator took), measured; None where no step was finished."""
    memory_share: float | None
    """Of what is available."""
    learning_rate: float
    step_seconds: float
    epoch_seconds: float
    """Steps, and the epoch's share of the validations."""
    total_seconds: float
    """All configured epochs; early stopping not counted on."""


@dataclass(frozen=True)
class Cost:
    """Everything that was measured."""

    profile: StepProfile
    validation: ValidationCost
    epochs: int
    validations: int
    before: BatchCost
    after: BatchCost | None
    largest: LargestBatch | None
    """None where not even the small trials fitted or ended in time."""
    available_bytes: int
    rate_rule: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        derived = {"step_seconds": self.profile.step_seconds, "waiting_seconds": self.profile.waiting_seconds}
        validation = {**asdict(self.validation), "seconds": self.validation.seconds}
        return {**asdict(self), "profile": {**asdict(self.profile), **derived}, "validation": validation}


def scaled_rate(optimiser: Sgd | AdamW, factor: float) -> tuple[float, str]:
    """The learning rate for a batch `factor` times as large, and the rule's name and sources.

    SGD: the expected sum of `factor` steps is one step at `factor` times the rate. AdamW divides by the gradient's
    scale, of which noise is the most, so the rate grows with the root.
    """
    if isinstance(optimiser, Sgd):
        return optimiser.learning_rate * factor, LINEAR
    return optimiser.learning_rate * math.sqrt(factor), ROOT


def measure_cost(
    context: Context,
    *,
    batch: int | None = None,
    compare: bool = True,
    limit_seconds: float = 20.0,
) -> Cost:
    """Measure a run, and the same run with another batch size.

    Args:
        context: The run.
        batch: The other size; the double of the configured one by default, at most the patches of an epoch.
        compare: False leaves the other size out.
        limit_seconds: A step that would take longer is measured on fewer voxels and scaled.

    Raises:
        UserError: A batch that an epoch does not hold, or a step that fails for another reason than memory.
    """
    config, available = context.config, available_bytes(context.config)
    other = _other_batch(config, batch) if compare else config.data.batch
    trials = _try_batches(config, other, context.prior, available)
    largest = _largest(config, context.prior, trials, available)
    fitting = max((trial.batch for trial in trials.values() if trial.fits), default=0)
    room = voxels(with_size(config, fitting, config.data.patch))
    profile = profile_step(context, most_voxels=room, limit_seconds=limit_seconds)
    validation = measure_validation(context)
    before = _batch_cost(config, profile, validation, trials, available)
    after = None
    if other != config.data.batch:
        changed = profile_step(context, batch=other, most_voxels=room, limit_seconds=limit_seconds)
        after = _batch_cost(config, changed, validation, trials, available)
    rule = scaled_rate(config.optimiser, 1.0)[1]
    epochs, validations = config.training.epochs, _validations(config)
    return Cost(profile, validation, epochs, validations, before, after, largest, available, rule)


def _other_batch(config: Config, batch: int | None) -> int:
    most = config.data.sampling.patches_per_epoch
    if batch is None:
        return min(2 * config.data.batch, most)
    if not 1 <= batch <= most:
        raise UserError(
            f"batch {batch} must lie between 1 and data.sampling.patches_per_epoch ({most}): an epoch would be empty"
        )
    return batch


def _try_batches(config: Config, other: int, share: float, available: int) -> dict[int, MemoryTrial]:
    """Batches 1 and 2, from which the largest is predicted, the run's own and the other one."""
    sizes = dict.fromkeys((1, 2, config.data.batch, other))
    return {size: try_batch(config, size, share, available) for size in sizes}


def _largest(config: Config, share: float, trials: Mapping[int, MemoryTrial], available: int) -> LargestBatch | None:
    fitting = [trial for trial in trials.values() if trial.fits]
    small, large = fitting[:1], [trial for trial in fitting if trial.batch >= 2][:1]
    if not (small and large and small[0].batch < large[0].batch):
        return None
    return find_largest(config, share, small[0], large[0], available)


def _batch_cost(
    config: Config, profile: StepProfile, validation: ValidationCost, trials: Mapping[int, MemoryTrial], available: int
) -> BatchCost:
    """A run of the profile's batch size."""
    trial, epochs = trials[profile.batch], config.training.epochs
    steps = config.data.sampling.patches_per_epoch // profile.batch
    total = epochs * steps * profile.paced_seconds + _validations(config) * validation.seconds
    return BatchCost(
        batch=profile.batch,
        steps_per_epoch=steps,
        fits=None if trial.timed_out else trial.fits,
        peak_bytes=trial.peak_bytes or None,
        memory_share=trial.peak_bytes / available if trial.peak_bytes else None,
        learning_rate=scaled_rate(config.optimiser, profile.batch / config.data.batch)[0],
        step_seconds=profile.paced_seconds,
        epoch_seconds=total / epochs,
        total_seconds=total,
    )


def _validations(config: Config) -> int:
    return -(-config.training.epochs // config.training.validate_every_epochs)  # the last epoch is always validated

"""What a run will cost in all: an epoch, the whole run, its memory; and the same for another batch size."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from volumen.config.optimisation import AdamW, Sgd
from volumen.config.schema import Config
from volumen.data.labels import SURFACE
from volumen.doctor.cost import SMALL_SIDE, Bench, StepProfile, affordable, least_of, profile_step
from volumen.doctor.cost_memory import LargestBatch, Trial, available_bytes, find_largest, try_batch
from volumen.errors import UserError
from volumen.inference.predictor import MIRRORS, probabilities_from_logits
from volumen.postprocess import apply_pipeline
from volumen.training.loop import surface_share
from volumen.training.regions import validation_regions
from volumen.training.validate import loss_on_blocks, mask_metrics

if TYPE_CHECKING:  # the audit's checks call this module
    from volumen.doctor.audit.context import Context

SCORED_SIDE = 96  # voxels of the block on which scoring is measured
TILE_SECONDS = 5.0
LINEAR = "linear for SGD (Goyal et al. 2017)"
ROOT = "square root for AdamW (Krizhevsky 2014; Malladi et al. 2022)"


@dataclass(frozen=True)
class ValidationCost:
    """One validation of all held-out volumes, estimated."""

    tiles: int
    tile_seconds: float
    scoring_seconds: float
    """Loss, post-processing and metrics, measured on a block and scaled to the voxels that are validated."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.tiles * self.tile_seconds + self.scoring_seconds


@dataclass(frozen=True)
class Plan:
    """A run with one batch size."""

    batch: int
    steps_per_epoch: int
    fits: bool | None
    """None where the trial took too long to tell."""
    peak_bytes: int | None
    """Of the training process (on CUDA: of its tensors), measured; None where no step was finished."""
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
    before: Plan
    after: Plan | None
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
    context: "Context", *, batch: int | None = None, tell: Callable[[str, int, int], None] = lambda name, done, of: None
) -> Cost:
    """Measure a run, and the same run with another batch size.

    Args:
        context: The run.
        batch: The other size; the double of the configured one by default, at most the patches of an epoch.
        tell: Told what is measured next.

    Raises:
        UserError: A batch that an epoch does not hold, or a step that fails for another reason than memory.
    """
    config, available = context.config, available_bytes(context.config)
    if batch is not None and not 1 <= batch <= config.data.sampling.patches_per_epoch:
        raise UserError(
            f"batch {batch} must lie between 1 and data.sampling.patches_per_epoch "
            f"({config.data.sampling.patches_per_epoch}): an epoch would be empty"
        )
    share = surface_share(context.dataset, context.training)
    patches = config.data.sampling.patches_per_epoch
    other = min(2 * config.data.batch, patches) if batch is None else batch
    tried: dict[int, Trial] = {}
    for number, size in enumerate(dict.fromkeys((1, 2, config.data.batch, other))):
        tell(f"memory of batch {size}", number, 7)
        tried[size] = try_batch(config, size, share, available)
    tell("largest batch", 4, 7)
    fitting = [trial for trial in tried.values() if trial.fits]
    small, large = fitting[:1], [trial for trial in fitting if trial.batch >= 2][:1]
    largest = (
        find_largest(config, share, small[0], large[0], available)
        if small and large and small[0].batch < large[0].batch
        else None
    )
    tell("step", 5, 7)
    profile = profile_step(context)
    validation = measure_validation(context)
    tell(f"step of batch {other}", 6, 7)
    changed = profile if other == config.data.batch else profile_step(context, batch=other)
    epochs, every = config.training.epochs, config.training.validate_every_epochs
    validations = -(-epochs // every)  # the last epoch is always validated

    def plan(profile: StepProfile) -> Plan:
        trial, steps = tried[profile.batch], patches // profile.batch
        total = epochs * steps * profile.paced_seconds + validations * validation.seconds
        return Plan(
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

    rule = scaled_rate(config.optimiser, 1.0)[1]
    after = plan(changed) if other != config.data.batch else None
    return Cost(profile, validation, epochs, validations, plan(profile), after, largest, available, rule)


def measure_validation(context: "Context") -> ValidationCost:
    """Time a tile, count the tiles, time scoring on a block and scale it."""
    config, tiles, voxels = context.config, 0, 0
    for number, case_id in enumerate(context.validation):
        for region in validation_regions(config, context.dataset.label(case_id), number, 0):
            z, y, x = context.dataset.label(case_id)[region].shape
            tiles += len(context.parts.tiles((z, y, x), config.tile, config.inference.overlap))
            voxels += z * y * x
    data = config.data.model_copy(update={"batch": 1, "patch": config.tile})
    small, bench = affordable(context, config.model_copy(update={"data": data}), TILE_SECONDS)
    scale = math.prod(config.tile) / math.prod(small.data.patch) * (len(MIRRORS) if config.inference.mirror else 1)
    seconds = least_of({"tile": _tile_job(bench)}, bench.device, rounds=2)["tile"].seconds
    return ValidationCost(tiles, seconds * scale, _scoring_seconds_per_voxel(context, config) * voxels)


def _tile_job(bench: Bench) -> Callable[[], object]:
    def job() -> None:
        bench.state.model.eval()
        with torch.inference_mode(), bench.precision.autocast():
            bench.state.model(bench.image)

    return job


def _scoring_seconds_per_voxel(context: "Context", config: Config) -> float:
    """On a block in the middle of a held-out volume; the prediction is the truth, moved by two voxels."""
    label = context.dataset.label(context.validation[0])
    starts = [max(0, (side - SCORED_SIDE) // 2) for side in label.shape]
    block = np.asarray(label[tuple(slice(start, start + SCORED_SIDE) for start in starts)])
    logits = np.where(np.roll(block, 2, axis=0) == SURFACE, 2.0, -2.0).astype(np.float32)
    exact = config.training.selection_metric in ("leaderboard", "topo")
    objective = list(context.objectives.values())[-1]
    corner = (slice(0, SMALL_SIDE),) * 3
    mask_metrics((logits[corner] > 0).astype(np.uint8), block[corner], full=exact)  # compiles what is compiled once
    began = time.perf_counter()
    loss_on_blocks(objective, logits, block)
    mask_metrics(apply_pipeline(probabilities_from_logits(logits), config.postprocessing), block, full=exact)
    return (time.perf_counter() - began) / block.size

"""What a validation of all held-out volumes takes: a tile is timed, scoring is timed on a block, both are scaled."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from volumen.config.schema import Config
from volumen.data.labels import SURFACE
from volumen.doctor.context import Context
from volumen.doctor.cost.bench import SMALL_SIDE, Bench, affordable, least_of
from volumen.inference.views import views
from volumen.postprocess import apply_pipeline, probabilities_from_logits
from volumen.training.regions import validation_regions
from volumen.training.validate import loss_on_blocks, mask_metrics

SCORED_SIDE = 96  # voxels of the block on which scoring is measured
TILE_SECONDS = 5.0


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


def measure_validation(context: Context) -> ValidationCost:
    """Time a tile, count the tiles, time scoring on a block and scale it."""
    config, tiles, voxels = context.config, 0, 0
    for number, case_id in enumerate(context.validation):
        for region in validation_regions(config, context.dataset.lesson(case_id), number, 0):
            z, y, x = context.dataset.lesson(case_id)[region].shape
            tiles += len(context.parts.tiles((z, y, x), config.tile, config.inference.overlap))
            voxels += z * y * x
    data = config.data.model_copy(update={"batch": 1, "patch": config.tile})
    small, bench = affordable(context, config.model_copy(update={"data": data}), TILE_SECONDS)
    scale = (
        math.prod(config.tile)
        / math.prod(small.data.patch)
        * len(views(mirror=config.inference.mirror, rotate=config.inference.rotate))
    )
    seconds = least_of({"tile": _tile_job(bench)}, bench.device, rounds=2)["tile"].seconds
    return ValidationCost(tiles, seconds * scale, _scoring_seconds_per_voxel(context, config) * voxels)


def _tile_job(bench: Bench) -> Callable[[], object]:
    def job() -> None:
        bench.state.model.eval()
        with torch.inference_mode(), bench.precision.autocast():
            bench.state.model(bench.image)

    return job


def _scoring_seconds_per_voxel(context: Context, config: Config) -> float:
    """On a block in the middle of a held-out volume; the prediction is the truth, moved by two voxels."""
    label = context.dataset.lesson(context.validation[0])
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

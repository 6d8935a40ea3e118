"""Measure the scale of progress of a run: floor and best constant of its objective on its own labels.

The floor is the autopsy's. The baseline depends on how much surface the labels hold, so it is taken twice: on patches
as the run draws them, and on held-out volumes as it validates them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.data.labels import IGNORE
from volumen.doctor.context import Context
from volumen.doctor.objective.autopsy import TOTAL, Autopsy, Probe, logit
from volumen.doctor.objective.check import autopsies
from volumen.losses import CompositeLoss
from volumen.runs.scales import TRAIN, VALIDATION, ProgressScales, Scale
from volumen.training.regions import validation_regions
from volumen.training.validate import loss_on_blocks

PATCH_VOXELS = 2**21  # of all drawn patches together
MOST_PATCHES = 8
LARGEST_LOGIT = 8.0
VOLUMES = 2
LEAST_ROOM = 1e-3  # between floor and baseline; a term that a constant minimises has no scale

Losses = Callable[[float], dict[str, float]]
"""The total and every term at a constant logit."""


def measure_scales(context: Context) -> ProgressScales:
    """The scales of every phase of a run that has not started."""
    patches = _drawn_labels(context)
    scales = {}
    for phase, found in autopsies(context).items():
        objective = context.objectives[phase]
        scales[phase] = {
            TRAIN: _scales(found, partial(_on_patches, objective, patches)),
            VALIDATION: _scales(found, partial(_held_out, context, objective)),
        }
    return ProgressScales(scales)


def _scales(found: Autopsy, losses: Losses) -> dict[str, Scale]:
    """The autopsy's floors, and the least of the constants that were best for some term there."""
    ranges = {TOTAL: found.total, **{one.name: one for one in found.terms}}
    constants = {
        round(min(max(logit(one.baseline_probability), -LARGEST_LOGIT), LARGEST_LOGIT), 1) for one in ranges.values()
    }
    values = [losses(constant) for constant in sorted(constants)]
    scales = {name: Scale(one.floor, min(each[name] for each in values)) for name, one in ranges.items()}
    return {name: scale for name, scale in scales.items() if scale.baseline - scale.floor > LEAST_ROOM}


def _drawn_labels(context: Context) -> list[NDArray[np.uint8]]:
    """Batches of label patches as the run's first epoch draws them, canonical codes [B, Z, Y, X]."""
    data = context.config.data
    count = max(1, min(MOST_PATCHES, len(context.patches), PATCH_VOXELS // int(np.prod(data.patch))))
    samples = [context.patches[context.patches.key(0, index)] for index in range(count)]
    codes = [np.where(one["valid"].numpy(), one["target"].numpy(), IGNORE).astype(np.uint8) for one in samples]
    return [np.stack(codes[first : first + data.batch]) for first in range(0, count, data.batch)]


def _on_patches(objective: CompositeLoss, batches: list[NDArray[np.uint8]], logit: float) -> dict[str, float]:
    probes = [Probe(objective, labels) for labels in batches]
    return _mean([probe.at(torch.full_like(probe.perfect, logit)) for probe in probes])


def _held_out(context: Context, objective: CompositeLoss, logit: float) -> dict[str, float]:
    found = []
    for number, case_id in enumerate(context.validation[:VOLUMES]):
        label = context.dataset.lesson(case_id)
        for region in validation_regions(context.config, label, number, 0):
            truth = np.asarray(label[region])
            total, raw, _ = loss_on_blocks(objective, np.full(truth.shape, logit, np.float32), truth)
            found.append({TOTAL: total, **raw})
    return _mean(found)


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

"""From probabilities to a clean mask: pure steps, and the pipeline that a configuration describes."""

from volumen.postprocess.pipeline import apply_pipeline, describe, report_pipeline, walk, walk_masks
from volumen.postprocess.report import Counts, StepReport, count, report_step
from volumen.postprocess.ridges import sharpen_ridges
from volumen.postprocess.sheets import patch_sheets
from volumen.postprocess.splitting import split_fused
from volumen.postprocess.steps import (
    LEAST_PROBABILITY,
    close,
    fill_cavities,
    fill_holes,
    hysteresis,
    median,
    opening,
    plug_pinholes,
    probabilities_from_logits,
    probabilities_on_device,
    remove_small_components,
    threshold,
)

__all__ = [
    "LEAST_PROBABILITY",
    "Counts",
    "StepReport",
    "apply_pipeline",
    "close",
    "count",
    "describe",
    "fill_cavities",
    "fill_holes",
    "hysteresis",
    "median",
    "opening",
    "patch_sheets",
    "plug_pinholes",
    "probabilities_from_logits",
    "probabilities_on_device",
    "remove_small_components",
    "report_pipeline",
    "report_step",
    "sharpen_ridges",
    "split_fused",
    "threshold",
    "walk",
    "walk_masks",
]

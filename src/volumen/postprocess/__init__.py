"""From probabilities to a clean mask: pure steps, and the pipeline that a configuration describes."""

from volumen.postprocess.pipeline import STEPS, apply_pipeline, clean, describe
from volumen.postprocess.steps import close, fill_holes, remove_small_components, threshold

__all__ = [
    "STEPS",
    "apply_pipeline",
    "clean",
    "close",
    "describe",
    "fill_holes",
    "remove_small_components",
    "threshold",
]

"""From a trained model and a volume of any size to logits, probabilities and masks."""

from volumen.inference.degenerate import Appearance, appearance_of, degenerate_warnings
from volumen.inference.predictor import Predictor, probabilities_from_logits
from volumen.inference.tiles import CoverageError, Tiles, importance, merge, plan_tiles

__all__ = [
    "Appearance",
    "CoverageError",
    "Predictor",
    "Tiles",
    "appearance_of",
    "degenerate_warnings",
    "importance",
    "merge",
    "plan_tiles",
    "probabilities_from_logits",
]

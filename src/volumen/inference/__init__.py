"""From a trained model and a volume of any size to logits, probabilities and masks."""

from volumen.data.packed import Region
from volumen.inference.accumulator import Accumulator, merge
from volumen.inference.degenerate import Appearance, appearance_of, degenerate_warnings
from volumen.inference.engines import EngineName, choose_engine
from volumen.inference.predictor import Predictor
from volumen.inference.tiles import CoverageError, Tiles, importance, plan_tiles

__all__ = [
    "Accumulator",
    "Appearance",
    "CoverageError",
    "EngineName",
    "Predictor",
    "Region",
    "Tiles",
    "appearance_of",
    "choose_engine",
    "degenerate_warnings",
    "importance",
    "merge",
    "plan_tiles",
]

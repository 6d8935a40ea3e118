"""Training: the loop, one step of it, its whole state, the one owner of the learning rate, checkpoints that resume."""

from volumen.training.budget import parse_duration
from volumen.training.checkpoint import load_for_inference
from volumen.training.listener import Listener, Outcome
from volumen.training.loop import run_training
from volumen.training.run_folder import RunFolder, read_metrics, run_config
from volumen.training.step import NonFiniteError, StepResult, training_step
from volumen.training.store import CheckpointStore

__all__ = [
    "CheckpointStore",
    "Listener",
    "NonFiniteError",
    "Outcome",
    "RunFolder",
    "StepResult",
    "load_for_inference",
    "parse_duration",
    "read_metrics",
    "run_config",
    "run_training",
    "training_step",
]

"""One stretch of a trial: a run is trained to its next rung and left there with a checkpoint, or gone on with.

A trial's schedule is that of its whole length from the first step on; a rung only ends a stretch. So a trial that goes
on is the run that it would have been without rungs, to the bit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from volumen.config.schema import Config
from volumen.errors import DamagedError, UserError
from volumen.experiments.sweep_desk import Job, Reached, Refused
from volumen.experiments.sweep_halving import BASELINE
from volumen.runs.folder import CONFIG, open_run
from volumen.runs.records import read_metrics, read_status
from volumen.system.locks import HeldError
from volumen.system.names import one_line
from volumen.system.processes import processors
from volumen.system.stopping import ask_to_stop
from volumen.training.loop import run_training
from volumen.training.lost_device import DeviceLostError
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError, StepResult
from volumen.training.validate import Validation

RUNG = "rung"


class Objective(Protocol):
    """What a worker does with a trial."""

    def prepare(self, workers: int) -> None:
        """Called once in each worker process; `workers` share the machine."""

    def saved(self, folder: Path) -> int:
        """Steps of a trial that would be there after a crash."""

    def advance(self, job: Job) -> Reached | Refused | None:
        """Take a trial to its next rung; None where somebody asked to stop before, and it can be gone on with."""


@dataclass(frozen=True)
class Training:
    """Real runs."""

    metric: str

    def prepare(self, workers: int) -> None:
        """Share the processors."""
        torch.set_num_threads(max(1, min(processors() // workers, torch.get_num_threads())))

    def saved(self, folder: Path) -> int:
        """Steps up to the newest checkpoint."""
        return _saved(folder)[0]

    def advance(self, job: Job) -> Reached | Refused | None:
        """Train to the rung; what was trained already is not trained again.

        Raises:
            UserError: Nothing can be trained here: damaged data, or trial 0 is refused. OSError on a full disk.
        """
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            reason = self._trained(job)
        except NonFiniteError as error:
            return Refused(f"diverged: {error}")
        except (HeldError, DamagedError, DeviceLostError):  # after a lost card a process is of no more use
            raise
        except UserError as error:
            if job.entry.number == BASELINE and not job.entry.of:
                raise UserError(f"trial 0, the configuration itself, cannot be trained: {error}") from error
            return Refused(str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Refused(f"not enough memory: {error!s:.200}")
        except RuntimeError as error:  # PyTorch's word for most that a network and its input can do wrong
            if job.entry.number == BASELINE or "CUDA error" in str(error):  # after which a process is of no more use
                raise
            return Refused(one_line(f"{type(error).__name__}: {error}", 300))
        if reason:
            return Refused(reason)
        if _saved(job.folder)[1] < job.epochs:
            return None
        value = value_at(job.folder, self.metric, job.epochs)
        if value is None:
            return Refused(f"{self.metric} has no value after {job.epochs} epochs, or its record is damaged")
        seconds = float((read_status(job.folder) or {}).get("seconds", 0.0))
        return Reached(value, max(0.0, seconds - job.entry.seconds))

    def _trained(self, job: Job) -> str:
        """Why the run ended before its time; empty where it did not."""
        steps, epochs = _saved(job.folder)
        if epochs >= job.epochs:
            return ""
        outcome = run_training(job.config, job.folder, _UpTo(job.epochs), resume=steps > 0)
        if outcome.state in ("finished", "stopped"):
            return ""
        return f"ended after {outcome.epochs} epochs: {outcome.reason or outcome.state}"


class _UpTo:
    """Asks a run to save and stop where a rung is reached."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Nothing to show."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Nothing to show."""

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Nothing to show."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Nothing to show."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """The rung's epoch is recorded; the checkpoint follows."""
        if state.cursor.epoch >= self._epochs:
            ask_to_stop(RUNG)

    def event(self, event: dict[str, Any]) -> None:
        """It stands in the run's own events."""


def _saved(folder: Path) -> tuple[int, int]:
    """Steps and whole epochs up to the newest checkpoint; 0 where there is none."""
    if not (folder / CONFIG).is_file():
        return 0, 0
    listed = open_run(folder).checkpoints.manifest().latest
    return (listed[-1].step, listed[-1].epoch) if listed else (0, 0)


def value_at(folder: Path, metric: str, epochs: int) -> float | None:
    """The metric of the validation after so many epochs; None where there is none."""
    for record in read_metrics(folder):
        if record.get("kind") == "validation" and record.get("epoch") == epochs - 1:
            value = record.get("metrics", {}).get(metric)
            return float(value) if isinstance(value, int | float) and value == value else None
    return None

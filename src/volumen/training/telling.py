"""What a run tells as it goes: events, metrics, how it stands; written into its folder, and shown."""

from dataclasses import dataclass
from typing import Any

from volumen.config.schema import Config
from volumen.runs.folder import RunFolder
from volumen.training.listener import Listener
from volumen.training.state import TrainingState


@dataclass(frozen=True)
class Telling:
    """The folder that remembers and the listener that shows."""

    config: Config
    run_folder: RunFolder
    listener: Listener
    state: TrainingState

    def event(self, event: dict[str, Any]) -> None:
        """Write an event and show it."""
        self.run_folder.event(self.state.cursor.step, self.state.cursor.epoch, event)
        self.listener.event(event)

    def warning(self, message: str) -> None:
        """An event that is nothing but a sentence."""
        self.event({"kind": "warning", "message": message})

    def metric(self, kind: str, record: dict[str, Any]) -> None:
        """Write a record of numbers under the step and epoch of now."""
        cursor = self.state.cursor
        self.run_folder.metric({"step": cursor.step, "epoch": cursor.epoch, "kind": kind, **record})

    def status(self, how: str, **details: Any) -> None:
        """Replace the run's status."""
        state = self.state
        done, planned = state.cursor.step, state.planned_steps
        left = state.seconds / done * max(planned - done, 0) if done else None
        best = {"metric": self.config.training.selection_metric, "value": state.watch.best_metric}
        self.run_folder.status(
            state=how,
            epoch=state.cursor.epoch,
            planned_epochs=state.planned_epochs,
            step=done,
            planned_steps=planned,
            best={**best, "epoch": state.watch.best_epoch} if state.watch.best_epoch >= 0 else None,
            seconds=state.seconds,
            seconds_left=left,
            **details,
        )

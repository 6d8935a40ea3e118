"""A listener that hands what a run says to trackers: numbers, slices, findings."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from volumen.config.schema import Config
from volumen.data.pictures import slice_panel
from volumen.runs.folder import run_owner
from volumen.runs.records import read_run_logs
from volumen.system.output import counted
from volumen.trackers.background import Background, Record
from volumen.trackers.tracker import TrackedRun, Tracker
from volumen.trackers.words import event_text, finding_text, yaml_text
from volumen.training.listener import BaseListener
from volumen.training.state import TrainingState
from volumen.training.step import StepResult
from volumen.training.validate import Shown, Validation

MOST_POINTS = 2000
"""Of a curve: of longer runs each point is the mean of some steps."""
MOST_VALIDATIONS_SHOWN = 40
MOST_TEXTS = 500
CLOSING_SECONDS = 20.0
"""That a run waits at its end for what is still to be sent, and no longer."""
PATIENCE_SECONDS = 1.0
"""After which it says so."""
Opener = Callable[[TrackedRun], Tracker]
Tell = Callable[[str], None]


class TrackingListener(BaseListener):
    """Sends what a run says to trackers; no call waits for them, and none fails with them."""

    def __init__(self, openers: Mapping[str, Opener], tell: Tell) -> None:
        """Nothing is opened before the run has started.

        Args:
            openers: How each tracker is opened, by its name.
            tell: Told, when all is over, how to see what was sent and what was not.
        """
        self._openers, self._tell = openers, tell
        self._trackers: list[Background] = []
        self._warned: set[str] = set()
        self._warn: Tell = tell
        self._early: list[dict[str, Any]] = []
        self._window = _Window()
        self._epoch_steps = self._shown = self._texts = 0
        self._step = 0

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Open the trackers, each in its own thread, and send configuration and findings."""
        tracked = TrackedRun(run, config.name, run_owner(run), config.model_dump(mode="json"), facts["step"])
        self._warn, self._step = facts["warn"], tracked.step
        for name, opener in self._openers.items():
            try:
                self._trackers.append(Background(name, partial(opener, tracked)))
            except RuntimeError as error:  # no thread is to be had
                self._warn(f"{name} gets nothing of this run ({error})")
        if tracked.step == 0:
            self._send(partial(_text, step=0, name="config", text=yaml_text(config)))
            for number, finding in enumerate(read_run_logs(run).findings or ()):
                self._say(f"findings/{number + 1:02d}-{finding.get('code', '')}", finding_text(finding))
        for event in self._early:
            self.event(event)
        self._early.clear()

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """A point of each curve, every so many steps."""
        self._step = state.cursor.step
        self._epoch_steps += 1
        self._window.add(result)
        if self._step % -(-state.planned_steps // MOST_POINTS) == 0:
            self._end_window(state)
        self._tell_failures()

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """What is known once an epoch, and of a validation its numbers and slices."""
        self._end_window(state)
        values = _of_epoch(record, self._epoch_steps, state.cursor.epoch - 1)
        self._epoch_steps = 0
        if validation is not None:
            values |= _of_validation(validation)
            between = -(-state.planned_epochs // MOST_VALIDATIONS_SHOWN)
            if self._shown == 0 or self._shown % between == 0:
                for shown in validation.shown:
                    self._send(partial(_image, step=self._step, shown=shown))
            self._shown += 1
        self._send_scalars(values)
        self._tell_failures()

    def event(self, event: dict[str, Any]) -> None:
        """Signs, diagnoses and whatever else is out of the ordinary, as text."""
        if not self._trackers:
            self._early.append(event)
            return
        self._say(*event_text(event))

    def close(self) -> None:
        """Wait a few seconds for what is still to be sent, and tell what was not."""
        began = time.monotonic()
        for each in self._trackers:
            each.end()
        late = [each for each in self._trackers if not each.wait(began + PATIENCE_SECONDS - time.monotonic())]
        if late:
            names = ", ".join(each.name for each in late)
            self._tell(f"waiting for {names}, {CLOSING_SECONDS:.0f} s at most (Ctrl-C does not wait)")
        try:
            for each in late:
                each.wait(began + CLOSING_SECONDS - time.monotonic())
        finally:
            for each in self._trackers:
                each.give_up()
                if each.unsent:
                    lost = f"{counted(each.unsent, 'record')} not sent ({each.failure})"
                    self._tell(f"{each.name}: {lost}; the run folder holds all of them")
                elif each.failure and each.name not in self._warned:
                    self._tell(f"{each.name}: not closed ({each.failure})")
                if each.hint:
                    self._tell(f"{each.name}: {each.hint}")
            self._trackers.clear()

    def _end_window(self, state: TrainingState) -> None:
        if self._window.steps:
            self._send_scalars(self._window.means() | {"learning_rate": state.rate.value})
            self._window = _Window()

    def _send_scalars(self, values: Mapping[str, float]) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._send(partial(_scalars, step=self._step, values=finite))

    def _say(self, name: str, text: str) -> None:
        self._texts += 1
        if self._texts <= MOST_TEXTS:
            self._send(partial(_text, step=self._step, name=name, text=text))

    def _send(self, record: Record) -> None:
        for each in self._trackers:
            each.offer(record)

    def _tell_failures(self) -> None:
        """Once of each tracker."""
        for each in self._trackers:
            if each.failure and each.name not in self._warned:
                self._warned.add(each.name)
                self._warn(f"{each.name} does not get all of this run: {each.failure}")


class _Window:
    """Sums over some steps."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, float] = {}

    def add(self, result: StepResult) -> None:
        self.steps += 1
        sums = self._sums
        for prefix, values in (("term_raw/", result.raw), ("term_weighted/", result.weighted)):
            for name, value in values.items():
                sums[prefix + name] = sums.get(prefix + name, 0.0) + value
        for name, value in (("loss/total", result.total), ("gradient_norm/mean", result.gradient_norm)):
            sums[name] = sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self._sums.items()}


def _of_epoch(record: Mapping[str, Any], steps: int, epoch: int) -> dict[str, float]:
    seconds = record["seconds"]
    speed = (
        {"steps_per_second": steps / seconds, "waiting_share": record["loader_seconds"] / seconds} if seconds else {}
    )
    return {
        "epoch": epoch,
        "gradient_norm/maximum": record["gradient_norm_maximum"],
        "gradient_norm/clipped_share": record["clipped_share"],
        "surface_share/predicted": record["predicted_share"],
        "surface_share/true": record["true_share"],
        "memory/gigabytes": record["memory_gb"],
        **_under("speed/", speed),
        **_under("progress/", record["progress"]),
    }


def _of_validation(validation: Validation) -> dict[str, float]:
    return {
        "val/loss": validation.total,
        "speed/validation_seconds": validation.seconds,
        **_under("val/", validation.metrics),
        **_under("val_term_raw/", validation.raw),
        **_under("val_term_weighted/", validation.weighted),
    }


def _under(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in values.items()}


def _scalars(tracker: Tracker, *, step: int, values: Mapping[str, float]) -> None:
    tracker.scalars(step, values)


def _text(tracker: Tracker, *, step: int, name: str, text: str) -> None:
    tracker.text(step, name, text)


def _image(tracker: Tracker, *, step: int, shown: Shown) -> None:
    picture = slice_panel(shown.image[None], shown.truth[None], shown.mask[None], 0, 0)
    tracker.image(step, f"slices/{shown.case}", picture)

"""What a run shows while it goes on: a live bar on a terminal, plain lines where the output is a file or a pipe."""

import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from volumen.config.compare import PARENT, Descent
from volumen.config.schema import Config
from volumen.monitors.causes import CAUSES
from volumen.monitors.history import CRITERION
from volumen.reporting.console import PlainConsole
from volumen.reporting.words import PROGRESS, number
from volumen.system.output import counted
from volumen.training.state import TrainingState
from volumen.training.step import StepResult
from volumen.training.validate import Validation

PLAIN_EVERY_SECONDS = 15.0
QUIET_EVENTS = {"audit", "finished", "out_of_time", "early_stopping", "stopped", "non_finite", "sick"}


class SilentDisplay:
    """Shows nothing but warnings."""

    def __enter__(self) -> "SilentDisplay":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Nothing to show."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Nothing to show."""

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Nothing to show."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """Nothing to show."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Nothing to show."""

    def event(self, event: dict[str, Any]) -> None:
        """A warning is shown even here."""
        if event["kind"] == "warning":
            PlainConsole(stderr=True).print(f"warning: {event['message']}", soft_wrap=True)


class TrainingDisplay:
    """A line an epoch, and in between a bar (terminal) or now and then a line (pipe)."""

    def __init__(self) -> None:
        self._console = PlainConsole(soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, note="")
        self._last_line = time.monotonic()
        self._explained = False

    def __enter__(self) -> "TrainingDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """What will run, on what, and the effective objective."""
        weights = {name: term.weight for name, term in config.loss.terms.present().items() if term.weight > 0}
        objective = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
        volumes = f"{counted(facts['training_cases'], 'volume')} to train on, {facts['validation_cases']} held out"
        patches = f"patch {'x'.join(map(str, config.data.patch))}, batch {config.data.batch}"
        steps = f"{counted(facts['steps_per_epoch'], 'step')} per epoch"
        lines = [
            ("run", str(run)),
            (
                "model",
                f"{config.model.kind}, {facts['parameters']:,} parameters, {facts['precision']} on {facts['device']}",
            ),
            ("objective", objective + (" (then by curriculum)" if config.loss.curriculum else "")),
            ("data", f"{volumes} (fold {config.data.fold}); {patches}, {steps}"),
            *(("note", note) for note in facts["notes"]),
        ]
        for name, text in lines:
            self._print(f"{name:11}{text}")

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Move the bar."""
        cursor = state.cursor
        note = f"loss {result.total:.3f}  lr {state.rate.value:.1e}"
        name = f"epoch {cursor.epoch + 1}/{state.planned_epochs}"
        self._progress.update(self._task, description=name, completed=cursor.batch, total=steps_per_epoch, note=note)
        if not self._console.is_terminal and time.monotonic() - self._last_line > PLAIN_EVERY_SECONDS:
            self._print(f"  {name}  step {cursor.batch}/{steps_per_epoch}  {note}")

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Say which volume is being scored."""
        name = f"validating epoch {state.cursor.epoch + 1}"
        self._progress.update(self._task, description=name, completed=done, total=of, note="")

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Say which branch is being tried."""
        self._progress.update(self._task, description=f"trying {branch}", completed=done, total=of, note="")

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """The epoch's line."""
        progress = record["progress"].get("total")
        read = "" if progress is None else f" (r {progress:.2f})"
        parts = [f"epoch {state.cursor.epoch:3d}/{state.planned_epochs}", f"train {record['total']:.4f}{read}"]
        seconds = record["seconds"]
        if validation is not None:
            metrics = validation.metrics
            score = "leaderboard" if "leaderboard" in metrics else "leaderboard_quick"
            shares = [number(100 * metrics[name], ".1f") for name in ("predicted_share", "true_share")]
            seconds += validation.seconds
            parts += [
                f"validation {validation.total:.4f}",
                f"dice {number(metrics['dice'], '.4f')}",
                f"{score.replace('_', ' ')} {metrics[score]:.4f}",
                f"surface {shares[0]} % (true {shares[1]} %)",
            ]
            if state.watch.best_epoch == state.cursor.epoch - 1:
                parts.append("best")
        parts += [f"lr {record['learning_rate']:.1e}", f"{seconds:.0f} s", f"{record['memory_gb']:.1f} GB"]
        self._print("  ".join(parts))
        if read and not self._explained:
            self._explained = True
            self._print(f"  ({PROGRESS})")

    def event(self, event: dict[str, Any]) -> None:
        """Everything that is not the ordinary course of training."""
        if event["kind"] in QUIET_EVENTS:
            return
        if event["kind"] == "sign":
            if event["severity"] == "note":  # the report has it
                return
            self._print(f"  {event['code']} {event['severity']}: {event['evidence']}")
            return
        descent = Descent.of_event(event) if event["kind"] == PARENT else None
        if descent is not None:
            for line in descent.lines():
                self._print(f"{PARENT:11}{line}")
            return
        if event["kind"] == CRITERION:
            self._print(f"  criterion {event['state']}: {event['criterion']} ({event['sentence']})")
            return
        if event["kind"] == "diagnosis":
            self._print(f"  diagnosis: {event['state']}" + _named(event["causes"]))
            return
        said = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in event.items()}
        numbers = "  ".join(f"{key} {value}" for key, value in said.items() if key != "kind")
        self._print(f"  {event['kind'].replace('_', ' ')}: {numbers}")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(line)


def _named(causes: dict[str, float]) -> str:
    """The causes of a diagnosis, the likeliest first."""
    if not causes:
        return ""
    return "; " + "; ".join(f"{CAUSES[name].title} ({share:.0%})" for name, share in list(causes.items())[:2])

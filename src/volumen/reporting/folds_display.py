"""All folds at once: a table that lives on a terminal, plain lines where the output is a file or a pipe.

It reads what the runs write down, as everything does that shows a run.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.live import Live
from rich.table import Table

from volumen.errors import UserError
from volumen.experiments.fold_records import fold_name, status_of
from volumen.reporting.console import PlainConsole, plain_table
from volumen.reporting.words import number, words
from volumen.runs.folder import METRICS, run_owner
from volumen.system.attempts import Attempt
from volumen.system.output import duration
from volumen.system.records import read_log_from
from volumen.system.supervising import Situation

READ_EVERY_SECONDS = 1.0
PLAIN_EVERY_SECONDS = 30.0
HEADINGS = ("fold", "what", "state", "epoch", "validation", "loss", "s/epoch", "left", "device")
SAID = {"again": "starts again", "waiting": "waits"}


@dataclass(frozen=True)
class RunNow:
    """How far a run is, by its records."""

    epoch: int = 0
    planned: int = 0
    metric: str = ""
    value: float | None = None
    loss: float | None = None
    epoch_seconds: float | None = None
    seconds_left: float | None = None


class RunReader:
    """Reads of a run what was added since it was last read."""

    def __init__(self, run: Path) -> None:
        self._run, self._offset, self.now = run, 0, RunNow()

    def read(self) -> RunNow:
        """The newest of everything; a record that cannot be read changes nothing."""
        status = status_of(self._run)
        best = status.get("best") or {}
        metric = str(best.get("metric", self.now.metric))
        try:
            records, _, self._offset = read_log_from(self._run / METRICS, self._offset, owner=run_owner(self._run))
        except (UserError, OSError):
            records = []
        for record in records:
            if record.get("kind") == "train":
                seconds, loss = record.get("seconds"), record.get("total")
                self.now = replace(self.now, loss=loss, epoch_seconds=seconds)
            elif record.get("kind") == "validation" and metric:
                self.now = replace(self.now, value=record["metrics"].get(metric))
        if status:
            self.now = replace(
                self.now,
                epoch=int(status.get("epoch", 0)),
                planned=int(status.get("planned_epochs", 0)),
                metric=metric,
                value=best.get("value") if self.now.value is None else self.now.value,
                seconds_left=status.get("seconds_left"),
            )
        return self.now


class FoldsDisplay:
    """Shows a supervisor's work; a context.

    Args:
        folder: Of the folds.
        folds: Those that are trained.
        quiet: Show nothing.
    """

    def __init__(self, folder: Path, folds: Sequence[int], *, quiet: bool = False) -> None:
        self._folder, self._quiet = folder, quiet
        self._console = PlainConsole(soft_wrap=True)
        self._readers = {fold_name(fold): RunReader(folder / fold_name(fold)) for fold in folds}
        self._situations: dict[str, Situation] = {}
        self._devices: dict[str, str] = {}
        self._read, self._printed = 0.0, time.monotonic()
        self._epochs: dict[str, int] = {}
        self._is_live = self._console.is_terminal and not quiet
        self._live = Live(console=self._console, get_renderable=self.table, auto_refresh=False, transient=True)

    def __enter__(self) -> "FoldsDisplay":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_live:
            self._live.stop()

    def note(self, sentence: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(sentence)

    def began(self, attempt: Attempt) -> None:
        """A process was started."""
        self._devices[attempt.job] = attempt.slot
        if not self._is_live:
            self.note(f"{attempt.job}: {attempt.step} begins on {attempt.slot}")

    def ended(self, attempt: Attempt, said: str) -> None:
        """A process ended."""
        if said:
            self.note(said)
        elif not self._is_live and attempt.seconds is not None:
            self.note(f"{attempt.job}: {attempt.step} {attempt.ending} after {duration(attempt.seconds)}")

    def looked(self, situations: Mapping[str, Situation]) -> None:
        """Read the runs now and then, and show what has changed."""
        now = time.monotonic()
        if self._quiet or now - self._read < READ_EVERY_SECONDS:
            return
        self._read = now
        self._situations |= situations
        for reader in self._readers.values():
            reader.read()
        if self._is_live:
            self._live.refresh()
        elif now - self._printed > PLAIN_EVERY_SECONDS:
            self._printed = now
            self._print_changes()

    def _print_changes(self) -> None:
        """A line for each fold that has come to another epoch."""
        for name, reader in self._readers.items():
            if reader.now.epoch != self._epochs.get(name, 0):
                self._epochs[name] = reader.now.epoch
                _, _, _, epoch, validation, loss, seconds, left, _ = self.cells(name)
                parts = (f"epoch {epoch}", validation, loss and f"loss {loss}", seconds and f"{seconds} s an epoch",
                         left and f"{left} left")  # fmt: skip
                self.note(f"{name}: {', '.join(filter(None, parts))}")

    def cells(self, name: str) -> tuple[str, ...]:
        """The row of a fold."""
        situation, now = self._situations.get(name, Situation()), self._readers[name].now
        running = situation.state == "running"
        return (
            name,
            situation.step,
            SAID.get(situation.state, situation.state) + (f" ({situation.restarts})" if situation.restarts else ""),
            f"{now.epoch}/{now.planned}" if now.planned else "",
            f"{words(now.metric)} {number(now.value, '.4f')}" if now.value is not None else "",
            "" if now.loss is None else number(now.loss, ".4f"),
            "" if now.epoch_seconds is None else f"{now.epoch_seconds:.3g}",
            duration(now.seconds_left) if running and now.seconds_left else "",
            self._devices.get(name, ""),
        )

    def table(self) -> Table:
        """The table of now."""
        table = plain_table(f"Folds in {self._folder}", HEADINGS)
        for name in self._readers:
            table.add_row(*self.cells(name))
        return table

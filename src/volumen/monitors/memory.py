"""What a monitor remembers: everything that was seen, and what of it was said. Frozen; a record makes the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from volumen.monitors.seen import TOTAL, EpochSeen, EventSeen, ProbeSeen, RunFacts, Seen, StepsSeen, ValidationSeen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import noise_of

ENDED, PLANNED = ("finished", "out_of_time"), "planned_steps"
_ROWS: dict[type, str] = {
    EpochSeen: "epochs", StepsSeen: "steps", ProbeSeen: "probes", ValidationSeen: "validations", EventSeen: "events",
}  # fmt: skip
LEAST_NOISE = 0.003
"""Of a metric between 0 and 1: two validations that differ by less are alike, however quiet a run seems."""


@dataclass(frozen=True)
class Memory:
    """A training as far as it was seen."""

    setting: RunFacts
    epochs: tuple[EpochSeen, ...] = ()
    steps: tuple[StepsSeen, ...] = ()
    probes: tuple[ProbeSeen, ...] = ()
    validations: tuple[ValidationSeen, ...] = ()
    events: tuple[EventSeen, ...] = ()
    is_telling: bool = False
    """Whether the last record was a validation, a probe or an early stop, after which a diagnosis is made."""
    standing: Mapping[tuple[str, str, str], Sign] = field(default_factory=dict)
    """Signs that hold now, as they were first seen, by their key."""
    lasting: Mapping[tuple[str, str, str], Sign] = field(default_factory=dict)
    """Signs of what happened once and cannot be taken back."""

    def after(self, record: Seen) -> "Memory":
        """The memory with one record more."""
        rows = next(name for kind, name in _ROWS.items() if isinstance(record, kind))
        telling = isinstance(record, ValidationSeen | ProbeSeen) or getattr(record, "kind", "") == "early_stopping"
        longer: dict[str, Any] = {rows: (*getattr(self, rows), record)}
        return replace(self, is_telling=telling, **longer)

    @property
    def epoch(self) -> int:
        """The last one that was seen."""
        last = [rows[-1].epoch for rows in (self.epochs, self.validations, self.probes, self.events) if rows]
        return max(last, default=0)

    @property
    def step(self) -> int:
        """The last one that was seen."""
        last = [rows[-1].step for rows in (self.epochs, self.validations, self.probes, self.events) if rows]
        return max(last, default=0)

    @property
    def share_done(self) -> float | None:
        """Of the plan, which a time budget may have made another one; None where it is not known."""
        if self.events and self.events[-1].kind in ENDED:
            return 1.0
        plans = [one.numbers["planned"] for one in self.events if one.kind == PLANNED and "planned" in one.numbers]
        if plans:
            return min(1.0, self.step / max(plans[-1], 1.0))
        planned = self.setting.planned_epochs
        return min(1.0, (self.epoch + 1) / planned) if planned else None

    @property
    def metric_name(self) -> str | None:
        """The metric that the run is judged by: its own, else the first that its validations have."""
        if not self.validations:
            return None
        present = self.validations[-1].metrics
        chosen = self.setting.selection_metric
        if chosen in present:
            return chosen
        return next((name for name in ("dice", *present) if name in present), None)

    @property
    def began(self) -> int:
        """The step at which the training that goes on began: a log may hold several."""
        return max((event.step for event in self.events if event.kind == "restart"), default=0)

    @property
    def since(self) -> int:
        """The step from which on losses are of one training and one objective; -1 for all of them."""
        return max((self.began - 1, *self.objective_changes), default=-1)

    @property
    def metrics(self) -> tuple[float, ...]:
        """The selection metric of each validation."""
        name, began = self.metric_name, self.began
        if name is None:
            return ()
        return tuple(one.metrics[name] for one in self.validations if name in one.metrics and one.step >= began)

    @property
    def noise(self) -> float:
        """Spread of the selection metric around its own course, and at least `LEAST_NOISE`."""
        found = noise_of(self.metrics)
        return LEAST_NOISE if found is None else max(LEAST_NOISE, found)

    @property
    def train_progress(self) -> tuple[float, ...]:
        """Progress r of each epoch, where it is known, under the objective that holds now."""
        return tuple(one.progress[TOTAL] for one in self.epochs if TOTAL in one.progress and one.step > self.since)

    @property
    def train_course(self) -> tuple[float, ...]:
        """The training loss of each epoch on a scale of its own: progress r, or else as a share of the first one."""
        if self.train_progress:
            return self.train_progress
        totals = [one.total for one in self.epochs if one.total is not None and one.step > self.since]
        scale = max((abs(value) for value in totals[:1]), default=1.0) or 1.0
        return tuple(value / scale for value in totals)

    @property
    def validation_losses(self) -> tuple[float, ...]:
        """The validation loss, under the objective that holds now."""
        return tuple(one.total for one in self.validations if one.total is not None and one.step > self.since)

    @property
    def validation_progress(self) -> tuple[float, ...]:
        """Progress r of each validation, where it is known."""
        since = self.since
        return tuple(one.progress[TOTAL] for one in self.validations if TOTAL in one.progress and one.step > since)

    @property
    def objective_changes(self) -> tuple[int, ...]:
        """Steps at which the objective became another: losses before and after are not comparable."""
        return tuple(event.step for event in self.events if event.kind in ("phase", "objective"))

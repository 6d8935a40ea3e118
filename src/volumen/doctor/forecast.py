"""When a run gets where: pure arithmetic from what a step, a validation and a checkpoint take.

Everything that takes time is counted up to a step (`Course.counts`); a time is a difference of counts, each multiplied
by its own seconds. So times add up, and what is left of a run is forecast as its whole is.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from volumen.config.optimisation import Tournament
from volumen.config.schema import Config
from volumen.doctor.forecast_spans import NOTHING, Span, exactly
from volumen.runs.checkpoints import KEEP_LATEST
from volumen.training.probe import FIRST_STEP
from volumen.training.schedule import fitted_warmup

START = "start"
"""The objective before the first phase of a curriculum."""


@dataclass(frozen=True)
class Pace:
    """What the parts of a run take."""

    steps: Mapping[str, Span]
    """A step, waiting for its patches included, by phase of the objective; of all phases that the run has."""
    median_seconds: float
    """Of all steps that were measured."""
    measured_steps: int
    start: float = 0.0
    """What the very first batch keeps waiting: worker processes come up."""
    epoch_start: float = 0.0
    """What the first batch of an epoch keeps waiting beyond any other."""
    probe: float = 0.0
    """A closer look (`training.monitoring`), seconds beyond the steps that it looks at."""
    validation: Span = NOTHING
    save: Span = NOTHING
    """The checkpoints of one epoch."""


@dataclass(frozen=True)
class Counts:
    """What is done up to a step."""

    steps: Mapping[str, int]
    """By phase."""
    begun: int
    ended: int
    """Epochs; each ends with a checkpoint."""
    validations: int
    probes: int


@dataclass(frozen=True)
class Course:
    """The steps of a run.

    Args:
        config: The run.
        steps: Planned, in all; fewer than the configured epochs have where a time budget ends the run.
    """

    config: Config
    steps: int

    @classmethod
    def configured(cls, config: Config) -> "Course":
        """All configured epochs."""
        return cls(config, config.training.epochs * cls(config, 0).per_epoch)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.config.data.sampling.patches_per_epoch // self.config.data.batch

    @property
    def epochs(self) -> int:
        """Epochs, of which the last may be cut short."""
        return -(-self.steps // self.per_epoch)

    @cached_property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """Name and first step of every objective within the run."""
        given = [(phase.name, phase.start_epoch) for phase in self.config.loss.curriculum]
        known = given if given and given[0][1] == 0 else [(START, 0), *given]
        names = [name for name, _ in known]
        return tuple(
            (name if names.count(name) == 1 else f"{name} ({epoch})", epoch * self.per_epoch)
            for name, epoch in known
            if epoch * self.per_epoch < max(self.steps, 1)
        )

    def phase_of(self, epoch: int) -> str:
        """Name of the objective of an epoch (from 0)."""
        return [name for name, first in self.phases if first <= epoch * self.per_epoch][-1]

    @property
    def swa_updates(self) -> int:
        """How many weights the equal average takes in."""
        swa = self.config.training.swa
        if swa is None or self.epochs <= swa.start_epoch:
            return 0
        return 1 + (self.epochs - 1 - swa.start_epoch) // swa.update_every_epochs

    def counts(self, step: int) -> Counts:
        """Everything that is done when step `step` is, and all that follows it before the next one."""
        ends, whole = step >= self.steps, step // self.per_epoch
        bounds = [*(first for _, first in self.phases), max(self.steps, step)]
        by_phase = {
            name: min(max(step - first, 0), bounds[number + 1] - first)
            for number, (name, first) in enumerate(self.phases)
        }
        every = self.config.training.validate_every_epochs
        cut_short = step % self.per_epoch > 0
        validations = whole // every + int(ends and (cut_short or whole % every > 0))
        watched = self.config.training.monitoring
        each = None if watched is None else watched.probe_every_steps
        return Counts(
            by_phase,
            begun=whole + int(cut_short),
            ended=whole + int(ends and cut_short),
            validations=validations + int(ends and self.swa_updates > 0),
            probes=0 if each is None or step <= FIRST_STEP else (step - 1 - FIRST_STEP) // each + 1,
        )

    def seconds(self, pace: Pace, since: int, until: int) -> Span:
        """From the end of one step to the end of another, with all that follows each."""
        before, after = self.counts(since), self.counts(until)
        total = exactly(pace.epoch_start * (after.begun - before.begun) + pace.probe * (after.probes - before.probes))
        total += exactly(pace.start if since == 0 < until else 0.0)
        for name, count in after.steps.items():
            total += pace.steps[name].times(count - before.steps[name])
        total += pace.validation.times(after.validations - before.validations)
        return total + pace.save.times(after.ended - before.ended)


@dataclass(frozen=True)
class Milestone:
    """A place that a run gets to, or never does."""

    what: str
    step: int | None
    """Steps done by then; None: never."""
    epoch: int | None
    """Epochs done by then."""
    seconds: Span | None
    """From now; 0 where it is behind."""
    note: str = ""


@dataclass(frozen=True)
class Disk:
    """Bytes that a run occupies when it ends."""

    checkpoint: int
    least: int
    most: int
    records: int


@dataclass(frozen=True)
class Forecast:
    """A run, forecast from a step on."""

    batch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    done: int
    patches: int
    pace: Pace
    epoch_seconds: Span
    """Of the last phase's epoch, without its validation."""
    validated_epoch_seconds: Span
    total: Span
    """From now to the end."""
    milestones: tuple[Milestone, ...]
    notes: tuple[str, ...]
    disk: Disk | None = None
    at_most: bool = False
    """The run may end earlier by itself."""
    phase_seconds: Mapping[str, Span] = field(default_factory=dict)
    """Of all that each phase of the objective takes."""

    @property
    def patch_seconds(self) -> float:
        """Of a step, for each of its patches."""
        return self.mean_step / self.batch

    @property
    def mean_step(self) -> float:
        """Seconds of a step, over the phases of the run."""
        return float(np.mean([span.middle for span in self.pace.steps.values()]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return {**asdict(self), "mean_step": self.mean_step, "patch_seconds": self.patch_seconds}


def forecast(course: Course, pace: Pace, done: int = 0, disk: Disk | None = None) -> Forecast:
    """Forecast a run from step `done` on; the time before that is not in it."""
    config, per_epoch, last = course.config, course.per_epoch, course.phases[-1][0]
    epoch = pace.steps[last].times(per_epoch) + exactly(pace.epoch_start) + pace.save
    epoch += exactly(pace.probe * _probes_per_step(config) * per_epoch)
    ends = [first for _, first in course.phases[1:]] + [course.steps]
    phases = {
        name: course.seconds(pace, max(first, done), end) if end > done else NOTHING
        for (name, first), end in zip(course.phases, ends, strict=True)
    }
    return Forecast(
        batch=config.data.batch,
        steps_per_epoch=per_epoch,
        epochs=course.epochs,
        steps=course.steps,
        done=done,
        patches=course.steps * config.data.batch,
        pace=pace,
        epoch_seconds=epoch,
        validated_epoch_seconds=epoch + pace.validation,
        total=course.seconds(pace, done, course.steps),
        milestones=tuple(_milestones(course, pace, done)),
        notes=tuple(_notes(course)),
        disk=disk,
        at_most=config.training.early_stopping is not None,
        phase_seconds=phases,
    )


def _probes_per_step(config: Config) -> float:
    watched = config.training.monitoring
    return 0.0 if watched is None or watched.probe_every_steps is None else 1 / watched.probe_every_steps


def _milestones(course: Course, pace: Pace, done: int) -> Iterator[Milestone]:
    """In the order of time; what never comes is last."""
    found = [*_of_schedule(course), *_of_averages(course)]
    validated = min(course.config.training.validate_every_epochs * course.per_epoch, course.steps)
    found.append(Milestone("first validation", validated, None, None))
    found.append(Milestone("end", course.steps, None, None))
    placed = [one for one in found if one.step is not None and one.step <= course.steps]
    for one in sorted(placed, key=lambda one: (one.step or 0, one.what == "end")):
        step = one.step or 0
        seconds = course.seconds(pace, done, step) if step > done else NOTHING
        yield replace(one, epoch=-(-step // course.per_epoch), seconds=seconds)
    yield from (replace(one, step=None) for one in found if one not in placed)


def _of_schedule(course: Course) -> Iterator[Milestone]:
    training, per_epoch = course.config.training, course.per_epoch
    planned = course.steps / per_epoch
    warmup = fitted_warmup(course.config.schedule, planned, per_epoch)
    if warmup:
        yield Milestone("warm-up over", round(warmup * per_epoch), None, None)
    for phase in course.config.loss.curriculum:
        if phase.start_epoch:
            late = f"starts after epoch {phase.start_epoch}, the run has {course.epochs}"
            first = phase.start_epoch * per_epoch
            yield Milestone(f"phase {phase.name} begins", first, None, None, late if first >= course.steps else "")
    if training.early_stopping is not None:
        epochs = (training.early_stopping.patience + 1) * training.validate_every_epochs
        if epochs * per_epoch < course.steps:
            yield Milestone("early stopping, at the earliest", epochs * per_epoch, None, None)


def _of_averages(course: Course) -> Iterator[Milestone]:
    average, swa = course.config.training.average, course.config.training.swa
    if average is not None:
        yield Milestone("moving average begins", 1, None, None)
        full = full_decay_step(average.decay)
        yield Milestone(
            f"moving average at its decay of {average.decay:g}",
            full,
            None,
            None,
            f"after {full} steps, the run has {course.steps}" if full > course.steps else "",
        )
    if swa is not None:
        first = swa.start_epoch * course.per_epoch
        late = f"training.swa.start_epoch is {swa.start_epoch}, the run has {course.epochs}: give an earlier one"
        none = first >= course.steps
        yield Milestone(
            "equal average (SWA) begins",
            course.steps + 1 if none else first,
            None,
            None,
            late if none else f"{course.swa_updates} updates",
        )


def full_decay_step(decay: float) -> int:
    """The update from which a moving average keeps its decay: before, (1 + n) / (10 + n) is less."""
    return max(1, math.ceil(round((10 * decay - 1) / (1 - decay), 6)))


def _notes(course: Course) -> Iterator[str]:
    training = course.config.training
    if training.swa is not None and not course.swa_updates:
        yield (
            f"SWA never starts: training.swa.start_epoch is {training.swa.start_epoch}, and the run has "
            f"{course.epochs} epochs"
        )
    if training.average is not None and full_decay_step(training.average.decay) > course.steps:
        yield (
            f"the moving average never reaches its decay of {training.average.decay:g}: that takes "
            f"{full_decay_step(training.average.decay)} steps, and the run has {course.steps}"
        )
    for phase in course.config.loss.curriculum:
        if phase.start_epoch * course.per_epoch >= course.steps:
            yield f"phase {phase.name} never starts: its start_epoch is {phase.start_epoch}"
    if training.early_stopping is not None:
        yield "times are at most: early stopping may end the run earlier"
    if isinstance(training.intervention, Tournament):
        yield f"tournaments may add up to {training.intervention.maximum_share:.0%}"
    elif training.intervention is not None:
        yield "interventions go back to earlier states and may add time"


def disk_of(checkpoint: int, records: float) -> Disk:
    """The last checkpoints and one or two best ones, and the records."""
    kept = KEEP_LATEST
    return Disk(checkpoint, (kept + 1) * checkpoint + round(records), (kept + 2) * checkpoint + round(records),
                round(records))  # fmt: skip

"""A run with other batch sizes: memory first, then time, and what else changes with it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from volumen.config.optimisation import OneCycle, Plateau
from volumen.config.schema import Config
from volumen.doctor.context import Context
from volumen.doctor.cost.bench import with_size
from volumen.doctor.cost.memory import RESERVE, MemoryTrial, available_bytes, try_batch
from volumen.doctor.cost.whole_run import scaled_rate
from volumen.doctor.forecast import Course, Forecast, disk_of, forecast
from volumen.doctor.forecast_steps import Measured, measure_pace
from volumen.errors import UserError
from volumen.system.output import Progress, counted, unheard
from volumen.training.budget import affordable_steps
from volumen.training.schedule import fitted_warmup

STEP_SECONDS = 20.0
"""That the timed steps of one batch size may take."""
TRIAL_SECONDS = 90.0
"""Until a trial of memory is stopped, starting its process included: a busy machine is slow at that."""
NOISE_SOURCE = "McCandlish et al. 2018: independent patches"
DECAY_SOURCE = "Busbridge et al. 2023"
EQUAL_SHARE = 0.05
"""A difference of time a patch below this is called none."""


@dataclass(frozen=True)
class BatchPlan:
    """A run with one batch size."""

    batch: int
    run: Forecast | None
    """None where it does not fit or could not be measured."""
    peak_bytes: int | None
    memory_predicted: bool
    """From smaller batches; no step was done."""
    why_not: str
    learning_rate: float
    """By the rule of the optimiser: a hint."""
    cpu_step: float = math.nan
    cpu_validation: float = math.nan
    scaled: bool = False


@dataclass(frozen=True)
class Plan:
    """A run that has not begun, and the same with other batch sizes."""

    config: Config
    own: BatchPlan
    others: tuple[BatchPlan, ...]
    available_bytes: int
    rate_rule: str
    budget_seconds: float | None
    configured_epochs: int
    changes: Mapping[int, tuple[str, ...]]
    """What another batch changes besides its times, by batch."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return {**asdict(self), "config": self.config.name}


def sizes_of(config: Config, wanted: Sequence[int]) -> tuple[int, ...]:
    """The batches to measure, ascending: the run's own among them; by default its double as well.

    Raises:
        UserError: One that an epoch does not hold.
    """
    most, own = config.data.sampling.patches_per_epoch, config.data.batch
    for batch in wanted:
        if not 1 <= batch <= most:
            raise UserError(
                f"--batch {batch} must lie between 1 and data.sampling.patches_per_epoch ({most}): an epoch would have "
                "no step"
            )
    return tuple(sorted({own, *(wanted or [min(2 * own, most)])}))


def predicted_bytes(trials: Sequence[MemoryTrial], batch: int) -> int | None:
    """Memory by the straight line through the smallest and the largest batch that was tried."""
    known = [trial for trial in trials if trial.fits and trial.peak_bytes]
    if len(known) < 2:
        return None
    first, last = known[0], known[-1]
    slope = max((last.peak_bytes - first.peak_bytes) / (last.batch - first.batch), 0.0)
    return round(last.peak_bytes + slope * (batch - last.batch))


def plan_run(
    context: Context,
    wanted: Sequence[int] = (),
    *,
    budget_seconds: float | None = None,
    step_seconds: float = STEP_SECONDS,
    progress: Progress = unheard,
) -> Plan:
    """Measure a run with its own batch and with others, and forecast each.

    Args:
        context: The run.
        wanted: Batches besides the run's own; none means its double.
        budget_seconds: As of `volumen train --time-budget`: the epochs become those that there is time for.
        step_seconds: That the timed steps of each size may take.
        progress: Told the batch.

    Raises:
        UserError: A batch that an epoch does not hold, or a step that fails for another reason than memory.
    """
    config, available = context.config, available_bytes(context.config)
    sizes, validation = sizes_of(config, wanted), None
    trials, plans = list[MemoryTrial](), dict[int, BatchPlan]()
    for number, batch in enumerate(sizes):
        progress(f"batch {batch}", number, len(sizes))
        rate = scaled_rate(config.optimiser, batch / config.data.batch)[0]
        predicted = predicted_bytes(trials, batch)
        failed = any(not trial.fits and not trial.timed_out for trial in trials)
        if failed or (predicted is not None and predicted > (1 - RESERVE) * available):
            plans[batch] = BatchPlan(batch, None, predicted, True, "would not fit", rate)
            continue
        trial = try_batch(config, batch, context.prior, available, seconds=TRIAL_SECONDS)
        trials.append(trial)
        if not trial.fits and not trial.timed_out:
            plans[batch] = BatchPlan(batch, None, None, False, "does not fit", rate)
            continue
        expected = None if trial.timed_out else trial.seconds
        found = measure_pace(context, batch, step_seconds, expected, validation)
        validation = found.pace.validation
        run = _forecast(with_size(config, batch, config.data.patch), found, budget_seconds)
        memory = (trial.peak_bytes, False) if trial.fits else (predicted, True)
        plans[batch] = BatchPlan(batch, run, *memory, "", rate, found.cpu_step, found.cpu_validation, found.scaled)
    progress("done", len(sizes), len(sizes))
    own = plans[config.data.batch]
    others = tuple(plans[batch] for batch in sizes if batch != config.data.batch)
    changes = {
        one.batch: tuple(changes_of(config, own.run, one.run)) for one in others if own.run is not None and one.run
    }
    rule = scaled_rate(config.optimiser, 1.0)[1]
    return Plan(config, own, others, available, rule, budget_seconds, config.training.epochs, changes)


def _forecast(config: Config, found: Measured, budget_seconds: float | None) -> Forecast:
    course = Course.configured(config)
    if budget_seconds is not None:
        course = within(course, found, budget_seconds)
    disk = found.disk
    if disk is not None:
        disk = disk_of(disk.checkpoint, disk.records * course.steps / Course.configured(config).steps)
    return forecast(course, found.pace, disk=disk)


def within(course: Course, found: Measured, budget_seconds: float) -> Course:
    """The course that a time budget leaves, planned as the training plans it.

    Raises:
        UserError: There is no room for a step and its validation.
    """
    plain = forecast(course, found.pace)
    pace, config = found.pace, course.config
    worked = plain.total.middle - pace.validation.middle * course.counts(course.steps).validations
    steps = affordable_steps(
        0,
        configured=course.steps,
        seconds_left=budget_seconds,
        step_seconds=worked / course.steps,
        validation_seconds=pace.validation.middle,
        steps_per_validation=course.per_epoch * config.training.validate_every_epochs,
    )
    if steps < 1:
        least = pace.validation.middle + worked / course.steps
        raise UserError(
            f"a time budget of {budget_seconds:.0f} s has no room for a step and its validation (about {least:.0f} s): "
            "give a larger --time-budget"
        )
    epochs = -(-steps // course.per_epoch)
    training = config.training.model_copy(update={"epochs": epochs})
    return Course(config.model_copy(update={"training": training}), steps)


def conclusion(before: Forecast, after: Forecast) -> str:
    """What another batch size comes to, in a sentence."""
    time, updates = after.patch_seconds / before.patch_seconds, after.steps / before.steps
    if abs(time - 1) < EQUAL_SHARE:
        said = "as much time per patch (within 5 %)"
    else:
        said = f"{time:.2f} of the time per patch"
    verdict = f"batch {after.batch} takes {said} and makes {updates:.3g} x the updates"
    if after.batch > before.batch:
        factor = before.steps / after.steps
        equal = after.total.middle * factor / before.total.middle
        verdict += (
            f": as many updates as batch {before.batch} need {factor:.3g} x the epochs, {equal:.3g} x its whole time"
        )
    return verdict


def changes_of(config: Config, before: Forecast, after: Forecast) -> Iterator[str]:
    """What changes with the batch, besides times: rate, noise, schedules, averages."""
    factor = after.batch / before.batch
    rate, rule = scaled_rate(config.optimiser, factor)
    yield (
        f"updates: {before.steps} become {after.steps} in the same epochs; compare at equal updates or at equal time, "
        "and not at equal epochs"
    )
    yield f"learning rate: {config.optimiser.learning_rate:.3g} would become {rate:.3g} ({rule}); a hint, to be tried"
    yield f"noise of a step's gradient: {1 / math.sqrt(factor):.2g} of it ({NOISE_SOURCE})"
    yield from _schedule(config, before, after)
    average, swa = config.training.average, config.training.swa
    if average is not None:
        memory = 1 / (1 - average.decay)
        yield (
            f"moving average: decay {average.decay:g} remembers {memory:.0f} updates, "
            f"{memory / before.steps_per_epoch:.3g} epochs before and {memory / after.steps_per_epoch:.3g} after; "
            f"decay {average.decay**factor:.4g} remembers as many patches ({DECAY_SOURCE})"
        )
    if swa is not None:
        yield (
            f"SWA begins after {counted(swa.start_epoch, 'epoch')}: {swa.start_epoch * before.steps_per_epoch} updates "
            f"before, {swa.start_epoch * after.steps_per_epoch} after"
        )
    lost = config.data.sampling.patches_per_epoch - after.batch * after.steps_per_epoch
    if lost:
        yield f"{counted(lost, 'patch', 'patches')} of every epoch fill no batch and are not seen"


def _schedule(config: Config, before: Forecast, after: Forecast) -> Iterator[str]:
    schedule = config.schedule
    warmup = 0.0 if isinstance(schedule, OneCycle) else fitted_warmup(schedule, before.epochs)
    if warmup:
        yield (
            f"warm-up ends after {warmup:.3g} epoch{'' if warmup == 1 else 's'}: "
            f"{round(warmup * before.steps_per_epoch)} updates before, {round(warmup * after.steps_per_epoch)} after"
        )
    if isinstance(schedule, Plateau):
        each = config.training.validate_every_epochs * schedule.patience
        yield (
            f"the plateau waits {counted(schedule.patience, 'validation')}: {each * before.steps_per_epoch} updates "
            f"before, {each * after.steps_per_epoch} after"
        )

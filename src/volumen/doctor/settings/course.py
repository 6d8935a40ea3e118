"""P6: the course of a run: its rates, averages and validations, run through without the training."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.config.optimisation import CosineWarmRestarts, PlanIntervention, Plateau
from volumen.config.schema import Config
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted
from volumen.training.schedule import LearningRate, fitted_warmup

MOST_PLACES = 4096
"""Of a run at which its rate is asked for."""
IDLE_RATE, IDLE_SHARE = 0.01, 0.4
"""A rate below this share of the highest does next to nothing; usual schedules spend at most 0.1 of the run there."""
LEAST_VALIDATED_EPOCHS = 10
"""A run of fewer may end with its only validation."""
STRONG_NOISE = 0.5
"""Standard deviation of weight noise, relative to the weights' own; 0.3 at each epoch does no harm, 1 takes all."""
FEWEST_STEPS = 30
"""Of a run that is more than a try."""
SETBACK = 0.05
"""Relative rise of the validation loss that a healthy run has between two epochs, on the very same voxels."""
IMPATIENT = 2
"""Validations: the metric of a healthy run falls as often in a row."""


def steps_per_epoch(config: Config) -> int:
    """Steps of an epoch."""
    return config.data.sampling.patches_per_epoch // config.data.batch


def steps_of(config: Config) -> int:
    """Steps of the whole run."""
    return config.training.epochs * steps_per_epoch(config)


def rates_of(config: Config) -> NDArray[np.float64]:
    """The rate at up to 4096 places, evenly over the run's steps, as its own schedule gives it.

    What a plateau or an intervention would do is left out.
    """
    per_epoch, epochs, base = steps_per_epoch(config), config.training.epochs, config.optimiser.learning_rate
    nothing = torch.optim.SGD([torch.zeros(1)], lr=base)
    owner = LearningRate(nothing, base, config.schedule, config.training.swa, per_epoch)
    count = min(steps_of(config), MOST_PLACES)
    return np.array([owner.rate_at(epochs * place / count, epochs) for place in range(count)])


def check_course(context: Context) -> Iterator[Finding]:
    """Whether rate, averages and validations have the room that they need."""
    if steps_of(context.config) < FEWEST_STEPS:
        return
    for law in (_warmup, _rates, _averages, _noise, _validations, _stopping, _degradation):
        yield from law(context)


def _warmup(context: Context) -> Iterator[Finding]:
    config = context.config
    wanted, epochs = getattr(config.schedule, "warmup_epochs", 0), config.training.epochs
    fitted = fitted_warmup(config.schedule, epochs, steps_per_epoch(config))
    if wanted < epochs and wanted - fitted >= 1:
        yield _found(
            context,
            "schedule.warmup_epochs",
            "schedule.warmup_epochs is cut short",
            f"{wanted} of {counted(epochs, 'epoch')} are more than a third: the warm-up ends after {fitted:.3g}",
            f"schedule.warmup_epochs: {max(1, epochs // 20)}, or more training.epochs",
        )


def _rates(context: Context) -> Iterator[Finding]:
    config = context.config
    schedule, base, swa = config.schedule, config.optimiser.learning_rate, config.training.swa
    least = getattr(schedule, "minimum_rate", 0.0)
    if isinstance(schedule, CosineWarmRestarts | Plateau) and least >= base:
        yield _found(
            context,
            "schedule.minimum_rate",
            "the least rate is not below the base rate",
            f"schedule.minimum_rate {least:g}, optimiser.learning_rate {base:g}: the rate "
            + ("rises where it should fall" if isinstance(schedule, CosineWarmRestarts) else "is never reduced"),
            f"schedule.minimum_rate: {base / 1000:.2g}",
        )
        return
    late = None if swa is None or swa.start_epoch >= config.training.epochs else swa.learning_rate
    if late is not None and late > 3 * base:
        yield _found(
            context,
            "training.swa.learning_rate",
            "the rate of the averaged epochs is above the base rate",
            f"training.swa.learning_rate {late:g}, optimiser.learning_rate {base:g}: late epochs undo earlier ones",
            f"training.swa.learning_rate: {base / 10:.2g}",
        )
        return
    rates = rates_of(config)
    share = float(np.mean(rates < IDLE_RATE * rates.max()))
    if share > IDLE_SHARE:
        key = "training.swa.learning_rate" if late is not None and late < IDLE_RATE * base else "schedule"
        yield _found(
            context,
            key,
            "the rate is next to nothing for much of the run",
            f"at {share:.0%} of the steps it is below {IDLE_RATE:.0%} of its highest, {rates.max():.3g}",
            "schedule: {kind: polynomial}, which falls evenly"
            if key == "schedule"
            else f"training.swa.learning_rate: {base / 10:.2g}",
            Severity.stop if share > 0.8 else Severity.warn,
        )


def _averages(context: Context) -> Iterator[Finding]:
    training, swa = context.config.training, context.config.training.swa
    if swa is None or swa.start_epoch >= training.epochs:
        return
    averaged = -(-(training.epochs - swa.start_epoch) // swa.update_every_epochs)
    if averaged == 1 and training.epochs > 1:
        yield _found(
            context,
            "training.swa.start_epoch",
            "the average over late epochs holds one epoch",
            f"epochs {swa.start_epoch} to {training.epochs - 1}, one in {swa.update_every_epochs}: one set of weights",
            f"training.swa.start_epoch: {training.epochs * 3 // 4}",
        )
    elif swa.start_epoch < fitted_warmup(context.config.schedule, training.epochs, steps_per_epoch(context.config)):
        yield _found(
            context,
            "training.swa.start_epoch",
            "the average over late epochs begins within the warm-up",
            f"it holds the epochs from {swa.start_epoch} on, in which nothing was learnt yet",
            f"training.swa.start_epoch: {training.epochs * 3 // 4}",
        )


def _noise(context: Context) -> Iterator[Finding]:
    noise, epochs = context.config.training.weight_noise, context.config.training.epochs
    if noise is None or noise.start_epoch >= epochs:
        return
    times = -(-(epochs - noise.start_epoch) // noise.every_epochs)
    stds = noise.std * noise.decay ** np.arange(times)
    if stds[0] >= STRONG_NOISE and times > 1:
        yield _found(
            context,
            "training.weight_noise.std",
            "the noise on the weights undoes what was learnt",
            f"{counted(times, 'injection')} of {stds[0]:.2g} to {stds[-1]:.2g} of the weights' own spread",
            "training.weight_noise.std: 0.001",
            Severity.stop if stds[0] >= 1 else Severity.warn,
        )


def _validations(context: Context) -> Iterator[Finding]:
    training = context.config.training
    if training.epochs >= LEAST_VALIDATED_EPOCHS and training.epochs // training.validate_every_epochs <= 1:
        yield _found(
            context,
            "training.validate_every_epochs",
            "the run is validated once",
            f"every {counted(training.validate_every_epochs, 'epoch')} of {training.epochs}: no best state is chosen, "
            "and nothing is seen before the end",
            f"training.validate_every_epochs: {max(1, training.epochs // 20)}",
        )


def _stopping(context: Context) -> Iterator[Finding]:
    config, stopping = context.config, context.config.training.early_stopping
    if stopping is None:
        return
    validations = config.training.epochs // config.training.validate_every_epochs
    waits = stopping.patience * config.training.validate_every_epochs
    warmup = fitted_warmup(config.schedule, config.training.epochs, steps_per_epoch(config))
    key = "training.early_stopping.patience"
    if stopping.minimum_delta > 0:
        latest = (math.floor(1.0 / stopping.minimum_delta) + 1) * stopping.patience + 1
        if latest < validations:
            yield _found(
                context,
                "training.early_stopping.minimum_delta",
                "the metric cannot rise often enough to go on",
                f"{config.training.selection_metric} lies within 0 and 1 and has to rise by "
                f"{stopping.minimum_delta:g} within {counted(stopping.patience, 'validation')}: whatever is learnt, "
                f"the run ends by its validation {latest} of {validations}",
                "training.early_stopping.minimum_delta: 0.002",
                code="P9",
            )
            return
    if waits < warmup:
        yield _found(
            context,
            key,
            "early stopping may end the run within its warm-up",
            f"it waits for {counted(waits, 'epoch')}, the warm-up takes {warmup:.3g}",
            f"{key}: {max(20, math.ceil(2 * warmup / config.training.validate_every_epochs))}",
        )
    elif stopping.patience <= IMPATIENT and validations > 3 * IMPATIENT:
        yield _found(
            context,
            key,
            "early stopping takes the first setback for the end",
            f"it waits for {counted(stopping.patience, 'validation')} of {validations}; the metric of a healthy run "
            "falls back as often between two bests",
            f"{key}: {max(5, validations // 5)}",
            code="P9",
        )


def _degradation(context: Context) -> Iterator[Finding]:
    training, rule = context.config.training, context.config.training.degradation
    if rule.rollback and rule.catastrophic_share < SETBACK:
        yield _found(
            context,
            "training.degradation.catastrophic_share",
            "a usual setback counts as catastrophic",
            f"a validation loss {rule.catastrophic_share:.1%} above the best restores the best state; a healthy run "
            f"rises by {SETBACK:.0%} and more between two epochs",
            "training.degradation.catastrophic_share: 0.15",
            code="P9",
        )
    elif isinstance(training.intervention, PlanIntervention) and rule.epochs == 1:
        yield _found(
            context,
            "training.degradation.epochs",
            "a single setback counts as sustained",
            "one validation loss above the best restores the best state and scales the rate",
            "training.degradation.epochs: 3",
            code="P9",
        )


def _found(
    context: Context,
    key: str,
    title: str,
    evidence: str,
    remedy: str,
    severity: Severity = Severity.warn,
    code: str = "P6",
) -> Finding:
    causes = ("it was set for a run of another length or rate",)
    return Finding(code, severity, title, evidence, causes, (remedy,), context.where(key))

"""P6: settings that can never act, an objective that is not the configured one, settings that change nothing."""

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from volumen.config.optimisation import CosineWarmRestarts, Plateau
from volumen.config.schema import Config
from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.audit.effective import check_effective
from volumen.doctor.audit.inert import Examination, examine, findings_of
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import Progress, counted, unheard
from volumen.training.schedule import WARMUP_SHARE

WEIGHTS = ("loss.terms.*.weight", "loss.curriculum.*.weights.*")


class Dead(NamedTuple):
    """A setting that does nothing, and why."""

    key: str
    reason: str
    remedy: str
    severity: Severity = Severity.warn
    covers: tuple[str, ...] = ()
    """Patterns of other keys that do nothing for the same reason."""
    how: str = "can never act"


def check_liveness(context: Context) -> Iterator[Finding]:
    """P6."""
    for dead in never_acting(context.config):
        yield Finding(
            code="P6",
            severity=dead.severity,
            title=f"{dead.key} {dead.how}",
            evidence=dead.reason,
            causes=("another setting was changed since", "the setting belongs to something that is switched off"),
            remedies=(dead.remedy,),
            where=context.where(dead.key),
        )
    if context.budget is not None:  # what a setting does is asked of the run as it was written, not of its only epoch
        context = replace(context, config=context.budget.configured, budget=None)
    wrong_weights = list(check_effective(context))
    yield from wrong_weights
    examination = examine_settings(context)
    if wrong_weights:  # they are named with their numbers already
        kept = [trial for trial in examination.trials if not _matches(trial.key, WEIGHTS)]
        examination = replace(examination, trials=tuple(kept))
    yield from findings_of(context, examination)


def examine_settings(context: Context, progress: Progress = unheard) -> Examination:
    """What every setting of a run does; see `examine`."""
    dead = never_acting(context.config)

    def reason(key: str) -> str | None:
        return next((one.reason for one in dead if key == one.key or _matches(key, one.covers)), None)

    return examine(context, reason, progress=progress)


def never_acting(config: Config) -> tuple[Dead, ...]:
    """The settings that can never act, by the arithmetic of the configuration alone."""
    return (*_training(config), *_schedule(config), *_loss(config))


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _training(config: Config) -> Iterator[Dead]:
    training = config.training
    epochs, validations = training.epochs, training.epochs // training.validate_every_epochs
    late = f"the run has the epochs 0 to {epochs - 1}"
    if training.swa is not None and training.swa.start_epoch >= epochs:
        yield Dead(
            "training.swa.start_epoch",
            f"it starts at epoch {training.swa.start_epoch}; {late}",
            "start earlier",
            covers=("training.swa.*",),
        )
    if training.weight_noise is not None and training.weight_noise.start_epoch >= epochs:
        start = training.weight_noise.start_epoch
        yield Dead(
            "training.weight_noise.start_epoch",
            f"it starts at epoch {start}; {late}",
            "start earlier",
            covers=("training.weight_noise.*",),
        )
    stopping = training.early_stopping
    if stopping is not None and stopping.patience >= validations:
        yield Dead(
            "training.early_stopping.patience",
            f"it waits for {counted(stopping.patience, 'validation')} without progress; the run has {validations}",
            f"a patience below {validations}, or early_stopping: null",
            covers=("training.early_stopping.*",),
        )
    if training.degradation.epochs >= validations and (training.intervention is not None):
        yield Dead(
            "training.degradation.epochs",
            f"{counted(training.degradation.epochs, 'validation')} in a row; the run has {validations}",
            "fewer epochs, or more validations",
            covers=("training.intervention.*",),
        )
    for number, phase in enumerate(config.loss.curriculum):
        if phase.start_epoch >= epochs:
            key = f"loss.curriculum.{number}.start_epoch"
            yield Dead(
                key,
                f"phase {phase.name!r} starts at epoch {phase.start_epoch}; {late}",
                "start earlier",
                covers=(f"loss.curriculum.{number}.*",),
            )


def _schedule(config: Config) -> Iterator[Dead]:
    schedule, epochs = config.schedule, config.training.epochs
    warmup = getattr(schedule, "warmup_epochs", 0)
    if warmup >= epochs:
        yield Dead(
            "schedule.warmup_epochs",
            f"{counted(warmup, 'epoch')} of warm-up in a run of {epochs}: it takes a third of that, "
            f"{WARMUP_SHARE * epochs:.2g}",
            "shorten schedule.warmup_epochs, or plan more epochs",
            Severity.note,
            how="is shortened",
        )
    if isinstance(schedule, CosineWarmRestarts) and schedule.period_epochs + warmup >= epochs:
        yield Dead(
            "schedule.period_factor",
            f"the first period of {schedule.period_epochs} epochs does not end within {epochs}: it ends with the run",
            "a shorter period, or schedule.kind: polynomial",
        )
    validations = epochs // config.training.validate_every_epochs
    if isinstance(schedule, Plateau) and schedule.patience >= validations:
        yield Dead(
            "schedule.patience",
            f"it waits for {counted(schedule.patience, 'validation')} without progress; the run has {validations}",
            "a smaller patience, or schedule.kind: constant, which says what is meant",
            covers=("schedule.factor", "schedule.threshold", "schedule.minimum_rate"),
        )


def _loss(config: Config) -> Iterator[Dead]:
    terms, weights = config.loss.terms.present(), config.loss.class_weights
    phases = config.loss.curriculum
    active = {name for name, term in terms.items() if term.weight > 0}
    active |= {name for phase in phases for name, weight in phase.weights.items() if weight > 0}
    for name in sorted(set(terms) - active):
        key = f"loss.terms.{name}.weight"
        yield Dead(
            key, "a term of weight 0 is not computed", "leave the term out", Severity.note, (f"loss.terms.{name}.*",)
        )
    if phases and phases[0].start_epoch == 0 and any(term.weight not in (0.0, 1.0) for term in terms.values()):
        what = f"the curriculum's first phase {phases[0].name!r} starts at epoch 0 and brings its own weights"
        advice = "leave the terms' own weights out"
        yield Dead(f"loss.terms.{next(iter(terms))}.weight", what, advice, Severity.note, ("loss.terms.*.weight",))
    weighted = {"cross_entropy", "focal"} & active
    unequal = (weights.background, weights.surface) != (1.0, 1.0)
    if weights.enabled and not weighted:
        what = "class weights act on cross_entropy and focal, and neither is part of the objective"
        yield Dead("loss.class_weights.enabled", what, "class_weights.enabled: false", covers=("loss.class_weights.*",))
    if not weights.enabled and unequal:
        what = f"weights {weights.background:g} and {weights.surface:g} are set, and switched off"
        yield Dead(
            "loss.class_weights.enabled",
            what,
            "enabled: true, or leave the weights out",
            covers=("loss.class_weights.*",),
        )


LIVENESS = Check(
    code="P6",
    title="Settings that act",
    symptom="An experiment that changes nothing, and a theory about why it did.",
    why=(
        "A start after the end, a patience longer than the run, parameters of a scheduler that is not used, weights of "
        "a term that is absent: each was right once. Or the code never hands the value on: a class weight, a focal "
        "gamma or the weight of a term that the file names, and that runs with another value written in the code."
    ),
    measured=(
        "Every start, patience, period and weight against the length and parts of the run. The objective's total on "
        "label patches against the sum of configured weight times raw value, phase by phase. And every value that a "
        "file or an override sets is replaced by other valid ones, and a miniature of the run rehearsed with each: "
        "patches, two steps, rates, averages, noise, verdicts, tiles, mask, validation. What changes no bit of any "
        "of them is named; it stops the run where the package's own objective or state would have changed. "
        "`volumen audit liveness CONFIG` shows what every setting does."
    ),
    remedy="Change the setting or leave it out; a term of weight 0 costs nothing and is only noted.",
    run=check_liveness,
    seconds=10.0,
)

"""Settings that can never act, by the arithmetic of the configuration and of the volumes alone."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from volumen.config.optimisation import CosineWarmRestarts, CropValidation, PlanIntervention, Plateau, Tournament
from volumen.config.postprocessing import Close, FillCavities, FillHoles, Open, RemoveSmallComponents, SharpenRidges
from volumen.config.schema import Config
from volumen.doctor.context import Context
from volumen.doctor.findings import Severity
from volumen.runtime import Precision
from volumen.system.output import counted
from volumen.training.objective import CLASS_WEIGHTED
from volumen.training.schedule import WARMUP_SHARE
from volumen.training.tournament import trial_steps

FILLED = ("a patch is as large as every training volume", "a crop is as large as every held-out volume")
"""Reasons that lie in small volumes: nothing is wrong with such a run."""


class Dead(NamedTuple):
    """A setting that does nothing, and why."""

    key: str
    reason: str
    remedy: str
    severity: Severity = Severity.warn
    covers: tuple[str, ...] = ()
    """Patterns of other keys that do nothing for the same reason."""
    how: str = "can never act"

    def holds_for(self, key: str) -> bool:
        """Whether it says so of a key."""
        return key == self.key or any(fnmatchcase(key, pattern) for pattern in self.covers)


class SwitchedOff(NamedTuple):
    """Settings that another one keeps from acting; named only where somebody gave them a value of their own."""

    patterns: tuple[str, ...]
    reason: str


def never_acting(config: Config) -> tuple[Dead, ...]:
    """The settings that can never act within the run's length and parts."""
    return (*_training(config), *_schedule(config), *_loss(config))


def _training(config: Config) -> Iterator[Dead]:
    training = config.training
    epochs, validations = training.epochs, training.epochs // training.validate_every_epochs
    late = f"the run has the epochs 0 to {epochs - 1}"
    for name, late_part in (("swa", training.swa), ("weight_noise", training.weight_noise)):
        if late_part is not None and late_part.start_epoch >= epochs:
            yield Dead(
                f"training.{name}.start_epoch",
                f"it starts at epoch {late_part.start_epoch}; {late}",
                "start earlier",
                covers=(f"training.{name}.*",),
            )
    stopping = training.early_stopping
    if stopping is not None and stopping.patience >= validations:
        yield Dead(
            "training.early_stopping.patience",
            f"it waits for {counted(stopping.patience, 'validation')} without progress; the run has {validations}",
            f"a patience below {validations}, or early_stopping: null",
            covers=("training.early_stopping.*",),
        )
    if training.degradation.epochs >= validations and isinstance(training.intervention, PlanIntervention):
        yield Dead(
            "training.degradation.epochs",
            f"{counted(training.degradation.epochs, 'validation')} in a row; the run has {validations}",
            "fewer epochs, or more validations",
            covers=("training.intervention.*",),
        )
    yield from _tournament(config)
    for number, phase in enumerate(config.loss.curriculum):
        if phase.start_epoch >= epochs:
            yield Dead(
                f"loss.curriculum.{number}.start_epoch",
                f"phase {phase.name!r} starts at epoch {phase.start_epoch}; {late}",
                "start earlier",
                covers=(f"loss.curriculum.{number}.*",),
            )


def _tournament(config: Config) -> Iterator[Dead]:
    policy, per_epoch = config.training.intervention, config.data.sampling.patches_per_epoch // config.data.batch
    if not isinstance(policy, Tournament):
        return
    steps, planned = trial_steps(config, per_epoch), config.training.epochs * per_epoch
    if 2 * steps > policy.maximum_share * planned:
        yield Dead(
            "training.intervention.maximum_share",
            f"a control and one remedy take {counted(2 * steps, 'step')}, {policy.maximum_share:g} of the run's "
            f"{planned} are allowed",
            "fewer training.intervention.steps, a larger share, or more epochs",
            covers=("training.intervention.*",),
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
        yield Dead(
            f"loss.terms.{name}.weight",
            "a term of weight 0 is not computed",
            "leave the term out",
            Severity.note,
            covers=(f"loss.terms.{name}.*",),
        )
    if phases and phases[0].start_epoch == 0 and any(term.weight not in (0.0, 1.0) for term in terms.values()):
        yield Dead(
            f"loss.terms.{next(iter(terms))}.weight",
            f"the curriculum's first phase {phases[0].name!r} starts at epoch 0 and brings its own weights",
            "leave the terms' own weights out",
            Severity.note,
            covers=("loss.terms.*.weight",),
        )
    what, remedy = "", ""
    if weights.enabled and not active & set(CLASS_WEIGHTED):
        what = f"class weights act on {' and '.join(CLASS_WEIGHTED)}, and neither is part of the objective"
        remedy = "class_weights.enabled: false"
    elif not weights.enabled and (weights.background, weights.surface) != (1.0, 1.0):
        what = f"weights {weights.background:g} and {weights.surface:g} are set, and switched off"
        remedy = "enabled: true, or leave the weights out"
    if what:
        yield Dead("loss.class_weights.enabled", what, remedy, covers=("loss.class_weights.*",))


def switched_off(context: Context) -> tuple[SwitchedOff, ...]:
    """The settings that a switch, a weight or a probability beside them, or the volumes, keep from acting."""
    found = (*_augmentation(context.config), *_sampling(context), *_watching(context), *_masks(context.config))
    return tuple(SwitchedOff(patterns, reason) for patterns, holds, reason in found if holds)


Law = tuple[tuple[str, ...], bool, str]
"""Patterns of keys, whether they are kept from acting, and by what."""


def _augmentation(config: Config) -> Iterator[Law]:
    section = config.data.augmentation
    z, y, x = config.data.patch
    about_z, any_plane = y == x, len({z, y, x}) < 3
    for name, settings, idle in (
        ("affine", ("affine_degrees", "affine_scale"), (0.0, (1.0, 1.0))),
        ("intensity", ("intensity_scale", "intensity_shift"), ((1.0, 1.0), 0.0)),
        ("gamma", ("gamma",), ((1.0, 1.0),)),
        ("noise", ("noise_std",), ((0.0, 0.0),)),
        ("blur", ("blur_sigma_voxels",), ((0.0, 0.0),)),
    ):
        switch = f"{name}_probability"
        keys = tuple(f"data.augmentation.{one}" for one in settings)
        never = getattr(section, switch) == 0.0
        nothing = tuple(getattr(section, one) for one in settings) == idle
        yield keys, never, f"data.augmentation.{switch} is 0"
        yield (f"data.augmentation.{switch}",), nothing, f"with this {' and '.join(settings)} it would change no patch"
    turns = {"about_z": about_z, "all": any_plane}.get(section.rotations, True)
    yield ("data.augmentation.rotations",), not turns, "no plane that it turns has two equal sides of data.patch"


def _sampling(context: Context) -> Iterator[Law]:
    data = context.config.data
    cases = [context.dataset.case(name) for name in context.training]
    fills = all(side >= length for case in cases for side, length in zip(data.patch, case.shape, strict=True))
    exact = all(side <= length for case in cases for side, length in zip(data.patch, case.shape, strict=True))
    labelled = exact and all(case.valid_voxels == case.voxels for case in cases)
    larger = any(all(side > case.shape[axis] for case in cases) for axis, side in enumerate(data.patch))
    filled = fills and not larger  # a patch that is larger is named itself
    yield ("data.sampling.jitter_voxels",), filled, FILLED[0]
    yield ("data.sampling.jitter_voxels",), data.sampling.surface_share == 0.0, "data.sampling.surface_share is 0"
    yield ("data.sampling.minimum_valid_share",), labelled, "every voxel of every training volume is labelled"


def _watching(context: Context) -> Iterator[Law]:
    config, training = context.config, context.config.training
    degradation, swa, noise = "training.degradation.", training.swa, training.weight_noise
    policy = training.intervention
    looks = training.degradation.rollback or isinstance(policy, Tournament)
    yield (f"{degradation}catastrophic_share",), not looks, f"{degradation}rollback is off"
    yield ("training.keep_going",), not isinstance(policy, Tournament), "only a tournament ends a run for a fault"
    without_plan = f"training.intervention is {'null' if policy is None else policy.kind}"
    yield (f"{degradation}epochs",), not isinstance(policy, PlanIntervention), without_plan
    if swa is not None and swa.learning_rate is not None and swa.start_epoch == 0:
        yield ("schedule.*", "optimiser.learning_rate"), True, "training.swa.learning_rate holds from epoch 0 on"
    if noise is not None:
        once = noise.start_epoch < training.epochs <= noise.start_epoch + noise.every_epochs
        yield ("training.weight_noise.decay",), once, "noise is injected once only"
        named_like = ", ".join(noise.layers) or "nothing"
        yield ("training.weight_noise.*",), not _any_parameter(context, noise.layers), f"no parameter is {named_like}"
    if isinstance(training.validation, CropValidation):
        crop = training.validation.crop or config.data.patch
        shapes = [context.dataset.case(name).shape for name in context.validation]
        whole = all(side >= length for shape in shapes for side, length in zip(crop, shape, strict=True))
        keys = ("training.validation.per_volume", "training.validation.fresh")
        yield keys, whole, FILLED[1]
    class_weights, both_one = config.loss.class_weights, (1.0, 1.0)
    equal = class_weights.enabled and (class_weights.background, class_weights.surface) == both_one
    yield ("loss.class_weights.enabled",), equal, "both class weights are 1"


def _any_parameter(context: Context, patterns: tuple[str, ...]) -> bool:
    """Whether the network, made without the memory for it, has a parameter of such a name."""
    if "*" in patterns:
        return True
    nowhere = torch.device("meta")
    with torch.random.fork_rng(), nowhere:
        state = context.state(context.config, nowhere, Precision("fp32", "cpu"))
    return any(fnmatchcase(name, pattern) for name, _ in state.model.named_parameters() for pattern in patterns)


def _masks(config: Config) -> Iterator[Law]:
    steps = config.postprocessing.steps
    for place, step in enumerate(steps):
        key, beside = f"postprocessing.steps.{place}", steps[max(0, place - 1) : place + 2]
        if isinstance(step, SharpenRidges):
            yield (f"{key}.kind", f"{key}.scale_voxels"), step.weight == 0.0, "its weight is 0"
        elif isinstance(step, Close | Open):
            yield (f"{key}.kind",), step.radius_voxels == (0, 0, 0), "its radius is 0"
        elif isinstance(step, RemoveSmallComponents):
            yield (f"{key}.kind", f"{key}.connectivity"), step.minimum_voxels == 1, "every component has a voxel"
        elif isinstance(step, FillHoles):
            filled = any(isinstance(one, FillCavities) for one in beside)
            yield (f"{key}.kind", f"{key}.maximum_voxels"), filled, "fill_cavities beside it fills them all"

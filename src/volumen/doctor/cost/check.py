"""P11: what does a step cost, does the batch fit, and is every term worth its time?"""

import math
from collections.abc import Iterator

from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.cost.profile import profile_step
from volumen.doctor.cost.whole_run import Cost, measure_cost
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.autopsy import SMALL, Range
from volumen.doctor.objective.check import autopsies
from volumen.doctor.settings.course import steps_per_epoch
from volumen.inference.views import views
from volumen.system.output import counted
from volumen.training.budget import FORWARD_SHARE
from volumen.training.regions import validation_regions

LARGEST_TIME_SHARE = 0.1
"""Of network and terms; measured: the default's own terms 0.005 each, soft clDice with 10 iterations 0.2."""
SMALLEST_OBJECTIVE_SHARE = 0.01
LONGEST_WAIT = 0.2  # of a step
LARGEST_VALIDATION = 3.0
"""Of the time of the steps before it."""
QUICK_SECONDS, STEP_SECONDS = 1.0, 6.0


def check_terms(context: Context) -> Iterator[Finding]:
    """Validations that take more than the training, and terms that take much and count for nothing."""
    yield from _validations(context)
    shares = {phase: objective_shares(found.terms) for phase, found in autopsies(context).items()}
    idle = {name for found in shares.values() for name, share in found.items() if share < SMALLEST_OBJECTIVE_SHARE}
    if not idle:
        return
    profile = profile_step(context, limit_seconds=QUICK_SECONDS, with_loader=False)
    scaled = "" if profile.scale == 1 else f", on {_size(profile.measured)} voxels in place of the run's own"
    for name in sorted(idle):
        worth = max(found[name] for found in shares.values() if name in found)
        cost = max(profile.share_of(name, tuple(found)) for found in shares.values() if name in found)
        if worth < SMALLEST_OBJECTIVE_SHARE and cost > LARGEST_TIME_SHARE:
            yield Finding(
                code="P11",
                severity=Severity.warn,
                title=f"{name} takes {cost:.0%} of the step and {worth:.2g} of the objective",
                evidence=(
                    f"{profile.terms[name].cpu_seconds:.2f} s of processor time a step, the network "
                    f"{profile.network.cpu_seconds:.2f} s (forward and backward{scaled}); its value moves by "
                    f"{worth:.2g} of what the sum moves by between the best constant and the best attainable"
                ),
                causes=("the weight is so small that the term changes nothing",),
                remedies=(f"loss.terms.{name}.weight: 0, which does not compute it", "a weight that counts"),
                where=context.where(f"loss.terms.{name}.weight"),
            )


def _validations(context: Context) -> Iterator[Finding]:
    """Validation against training, by the voxels that either sends through the network."""
    config, voxels = context.config, 0
    for number, case_id in enumerate(context.validation):
        lesson = context.dataset.lesson(case_id)
        for region in validation_regions(config, lesson, number, 0):
            sides = [len(range(*part.indices(side))) for part, side in zip(region, lesson.shape, strict=True)]
            tiles = context.parts.tiles((sides[0], sides[1], sides[2]), config.tile, config.inference.overlap)
            voxels += len(tiles) * math.prod(config.tile)
    voxels *= len(views(mirror=config.inference.mirror, rotate=config.inference.rotate))
    steps = steps_per_epoch(config) * config.training.validate_every_epochs
    share = FORWARD_SHARE * voxels / (steps * config.data.batch * math.prod(config.data.patch))
    if share > LARGEST_VALIDATION and config.training.epochs >= config.training.validate_every_epochs:
        every = math.ceil(share * config.training.validate_every_epochs)
        yield Finding(
            code="P11",
            severity=Severity.warn,
            title="validation takes longer than training",
            evidence=(
                f"by the voxels that the network sees, {share:.2g} times as long as the "
                f"{counted(steps, 'step')} before it; tiles of {list(config.tile)}, overlap "
                f"{config.inference.overlap:g}"
            ),
            causes=("tiles that overlap too much", "a validation after too few steps"),
            remedies=(
                "inference.overlap: 0.25"
                if config.inference.overlap > 0.5
                else f"training.validate_every_epochs: {every}",
                "training.validation: {kind: crops}",
            ),
            where=context.where("inference.overlap" if config.inference.overlap > 0.5 else "training.validation"),
        )


def objective_shares(terms: tuple[Range, ...]) -> dict[str, float]:
    """The share of each term in what the weighted sum moves by, from the best constant to the best attainable.

    A term that some constant minimises moves by nothing there; it is counted from the constant at which a run starts.
    """
    reach = {one.name: one.weight * _span(one) for one in terms}
    total = max(sum(reach.values()), 1e-30)
    return {name: value / total for name, value in reach.items()}


def _span(one: Range) -> float:
    span = one.baseline - one.floor
    return span if span > SMALL * one.prior else max(one.prior - one.floor, 0.0)


def check_cost(context: Context) -> Iterator[Finding]:
    """Memory, loader and time of the whole run."""
    cost = measure_cost(context, compare=False, limit_seconds=STEP_SECONDS)
    yield from _memory(context, cost)
    yield from _loader(context, cost)
    largest = cost.largest
    limit = "unknown" if largest is None else f"{largest.batch} ({'tried' if largest.verified else 'predicted'})"
    plan = cost.before
    yield Finding(
        code="P11",
        severity=Severity.note,
        title=f"an epoch takes about {plan.epoch_seconds / 60:.1f} min, the run {plan.total_seconds / 3600:.1f} h",
        evidence=(
            f"{counted(plan.steps_per_epoch, 'step')} of {plan.step_seconds:.2f} s; "
            f"{counted(cost.validations, 'validation')} of "
            f"{cost.validation.seconds:.0f} s; largest batch that fits: {limit}"
        ),
        causes=("network, patch, batch and this machine",),
        remedies=("volumen audit cost CONFIG shows where the time goes", "volumen train --time-budget plans the steps"),
        where=context.where("training.epochs"),
    )


def _memory(context: Context, cost: Cost) -> Iterator[Finding]:
    if cost.before.fits is not False:
        return
    smaller = "a smaller patch" if cost.largest is None else f"data.batch: {cost.largest.batch}"
    yield Finding(
        code="P11",
        severity=Severity.stop,
        title=f"a batch of {cost.before.batch} does not fit into memory",
        evidence=f"a real step of it ran out of the {cost.available_bytes / 1e9:.1f} GB that are available now",
        causes=("batch and patch are too large for this machine", "other programs hold the memory"),
        remedies=(smaller, "a smaller patch or network"),
        where=context.where("data.batch"),
    )


def _loader(context: Context, cost: Cost) -> Iterator[Finding]:
    profile = cost.profile
    share = profile.waiting_seconds / profile.step_seconds
    if share <= LONGEST_WAIT:
        return
    yield Finding(
        code="P11",
        severity=Severity.warn,
        title=f"a step waits {share:.0%} of its time for patches",
        evidence=(
            f"a batch takes one worker {profile.loader_seconds:.2f} s, the step {profile.step_seconds:.2f} s, "
            f"and there are {counted(profile.workers, 'worker')}"
        ),
        causes=("too few workers", "costly augmentation or precomputed targets"),
        remedies=(f"data.workers: {profile.workers + 1} or more, where there are cores for them",),
        where=context.where("data.workers"),
    )


def _size(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


COST = Check(code="P11", title="Cost of the run", run=check_terms, thorough=check_cost)

"""P3, P4 and P5: what the objective really asks for, and what it can reach."""

from collections.abc import Iterator

import numpy as np

from volumen.criteria import ceiling_of, demands, parse_criterion, print_criterion
from volumen.doctor.check import Check
from volumen.doctor.context import Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.autopsy import Autopsy, Range, autopsy
from volumen.doctor.objective.domination import check_domination
from volumen.doctor.objective.goals import check_met_by_constants, check_within_reach
from volumen.doctor.objective.harm import HARMFUL, check_harm, harm_of
from volumen.doctor.objective.masks import check_masks
from volumen.doctor.objective.operating_point import OperatingPoint, Population, operating_point, population_of
from volumen.losses import Term
from volumen.losses.terms import CrossEntropy, Focal

CLEAR_SHIFT = 0.03  # of the operating point, in true probability
CONFLICT_SHARE = 0.10  # of (baseline - floor) that a term may lose at the perfect prediction
LEAST_DICE = 0.95  # of the sum's own optimum


CONSTANT_BY_DESIGN = ("entropy",)
"""Regularisers that do not look at the labels; their conflict with them is P5's business."""
BLIND_SHARE = 0.01
"""Of the way from floor to the constant at the prior; measured: clDice, medial recall and merge penalty 0.000, all
others above 0.5."""
POPULATION_CASES = 6
POPULATION_VOXELS = 96  # side of the blocks whose blurred labels make the population


@once
def autopsies(context: Context) -> dict[str, Autopsy]:
    """The autopsy of every phase's objective."""
    return {name: autopsy(objective, context.label_patches) for name, objective in context.objectives.items()}


@once
def population(context: Context) -> Population:
    """How sure the labels' own surfaces are, over blocks of some training volumes."""
    chosen = context.training[:: max(1, len(context.training) // POPULATION_CASES)][:POPULATION_CASES]
    return population_of(
        np.stack([context.label_block(name, context.centre(name), POPULATION_VOXELS) for name in chosen])
    )


@once
def operating_points(context: Context) -> dict[str, OperatingPoint | None]:
    """The operating point of every phase's objective."""
    return {name: operating_point(objective, population(context)) for name, objective in context.objectives.items()}


def check_operating_point(context: Context) -> Iterator[Finding]:
    """Whether class weights and alpha push where the intent points, and how much surface the objective asks for."""
    threshold = context.config.postprocessing.threshold
    intent, pushed = context.config.experiment.intent, False
    for phase, point in operating_points(context).items():
        objective = context.objectives[phase]
        pushes = {
            name: found for name, (_, term) in objective.terms.items() if (found := _crossing_of(term)) is not None
        }
        against = {name: found for name, found in pushes.items() if _direction(found) not in ("none", intent)}
        terms = "; ".join(f"{name} alone from {found:.2f} on" for name, found in pushes.items())
        numbers = f"phase {phase!r}: a voxel is called surface from a true probability of "
        true = population(context).surface_share
        if point is not None:
            asked = point.asked_share(threshold)
            numbers += (
                f"{point.crossing():.2f} on by the sum ({terms or 'no class weights'}); the best answer holds "
                f"{asked:.1%} surface above the threshold {threshold:g}, the labels {true:.1%}"
            )
        if intent != "none" and against:
            pushed = True
            yield Finding(
                code="P3",
                severity=Severity.stop,
                title=(
                    f"class weights and alpha of {', '.join(against)} push towards "
                    f"{_words(_direction(next(iter(against.values()))))}, the intent is {_words(intent)}"
                ),
                evidence=numbers,
                causes=(
                    "a class weight multiplies the voxels whose truth is that class: a heavy surface weight punishes "
                    "missed surface, not false surface",
                ),
                remedies=(
                    "swap the weights, or leave them at 1 and move postprocessing.threshold",
                    "state the intent that is really meant in experiment.intent",
                ),
                where=context.where("loss.class_weights.surface"),
            )
    harmful = [] if intent != "none" and pushed else [one for one in check_harm(context) if one.code == "P3"]
    yield from harmful
    yield from check_masks(context)


def _crossing_of(term: Term) -> float | None:
    """The true probability at which a class-weighted term turns to surface; None for a term without class weights.

    There the expected slopes at p = 0.5 balance, whatever gamma: surface weight * q = background weight * (1 - q).
    """
    if not isinstance(term, CrossEntropy | Focal):
        return None
    background, surface = term.factors
    return background / (surface + background) if surface + background > 0 else None


def _direction(crossing: float) -> str:
    if abs(crossing - 0.5) <= CLEAR_SHIFT:
        return "none"
    return "more_surface" if crossing < 0.5 else "less_surface"


def _words(intent: str) -> str:
    return intent.replace("_", " ")


def _loss_criteria(context: Context) -> Iterator[tuple[str, float, str, Range]]:
    """What criteria demand of losses, where they ask for a low value: the demand, its bound, phase, range."""
    phase, found = list(autopsies(context).items())[-1]
    for text in context.config.experiment.criteria:
        for demand in demands(parse_criterion(text)):
            reach, bound = found.range_of(demand.quantity), ceiling_of(demand)
            if reach is not None and bound is not None:
                yield print_criterion(demand), bound, phase, reach


def check_constant(context: Context) -> Iterator[Finding]:
    """Whether a constant prediction meets a criterion, or is as good as the truth for a term or the sum."""
    for criterion, bound, phase, reach in _loss_criteria(context):
        if bound >= reach.baseline:
            yield Finding(
                code="P4",
                severity=Severity.stop,
                title=f"a constant prediction meets the success criterion {criterion}",
                evidence=(
                    f"phase {phase!r}: {reach.baseline_probability:.2f} everywhere has {reach.baseline:.3f}; "
                    f"the criterion lies at progress r = {reach.progress(bound):.2f} (1: constant, 0: best attainable)"
                ),
                causes=("the number was taken from a run with another objective", "the plateau *is* the constant"),
                remedies=(
                    f"ask for less than {reach.baseline:.3f}, or judge by dice or leaderboard, which do not depend on "
                    "the objective's weights",
                ),
                where=context.where("experiment.criteria"),
            )
    yield from check_met_by_constants(context)
    for phase, found in autopsies(context).items():
        for one in (*found.terms, found.total):
            if _is_blind(one) and one.name not in CONSTANT_BY_DESIGN:
                yield _blind(context, phase, one, whole=one is found.total)


def _is_blind(one: Range) -> bool:
    """Whether a constant is as good as the truth."""
    return one.baseline - one.floor < BLIND_SHARE * (one.prior - one.floor)


def _blind(context: Context, phase: str, one: Range, *, whole: bool) -> Finding:
    """A term, or the sum, that a constant minimises."""
    return Finding(
        code="P4",
        severity=Severity.stop if whole else Severity.note,
        title=f"a constant is as good as the truth for {'the objective' if whole else f'the term {one.name}'}",
        evidence=(
            f"phase {phase!r}: {one.baseline_probability:.2f} everywhere has {one.baseline:.4f}, the least value found "
            f"is {one.floor:.4f}, a perfect prediction has {one.perfect:.4f}"
        ),
        causes=(
            "surface everywhere has no skeleton to miss (soft clDice) and misses no surface (medial recall)",
            "no surface anywhere merges nothing (merge penalty)",
        ),
        remedies=("pair it with soft Dice or cross-entropy, which tell them apart",),
        where=context.where("loss.terms" if whole else f"loss.terms.{one.name}.weight"),
    )


def check_floor(context: Context) -> Iterator[Finding]:
    """Whether every criterion can be reached, and whether a term punishes the perfect prediction."""
    for criterion, bound, phase, reach in _loss_criteria(context):
        if bound < reach.floor:
            yield Finding(
                code="P5",
                severity=Severity.stop,
                title=f"the success criterion {criterion} cannot be reached",
                evidence=(
                    f"phase {phase!r}: the least value over free logits is {reach.floor:.3f}, a perfect prediction has "
                    f"{reach.perfect:.3f}, the best constant {reach.baseline:.3f}"
                ),
                causes=("a term of the sum has a floor above 0", "the number is of another objective"),
                remedies=(f"ask for more than {reach.floor:.3f}, or judge by dice or leaderboard", "drop the term"),
                where=context.where("experiment.criteria"),
            )
        elif bound < reach.perfect:
            yield Finding(
                code="P5",
                severity=Severity.warn,
                title=f"a perfect prediction misses the success criterion {criterion}",
                evidence=f"phase {phase!r}: perfect {reach.perfect:.3f}, floor {reach.floor:.3f}",
                causes=("a term punishes the perfect prediction",),
                remedies=("drop the term, or judge by dice or leaderboard",),
                where=context.where("experiment.criteria"),
            )
    yield from check_within_reach(context)
    blind = any(_is_blind(found.total) for found in autopsies(context).values())
    if not blind:
        yield from [one for one in check_harm(context) if one.code == "P5"] or check_domination(context)
    for phase, found in autopsies(context).items():
        yield from _conflicts(context, phase, found)


def _conflicts(context: Context, phase: str, found: Autopsy) -> Iterator[Finding]:
    """Terms that want something else than the labels, and a sum that does: worth a note where it harms nothing."""
    room = found.total.baseline - found.total.floor
    severity = Severity.warn if harm_of(context).exceeds(HARMFUL) else Severity.note
    for term in found.terms:
        lost = term.weight * term.conflict
        if lost > CONFLICT_SHARE * room:
            share = f" ({lost / room:.0%})" if room > 0 else ""
            yield Finding(
                code="P5",
                severity=severity,
                title=f"the term {term.name} punishes the perfect prediction",
                evidence=(
                    f"phase {phase!r}: {term.perfect:.3f} at the perfect prediction, {term.floor:.3f} at its best; "
                    f"weighted {lost:.3f} of the {room:.3f} between constant and optimum{share}"
                ),
                causes=("the term wants something else than the labels",),
                remedies=(f"give {term.name} the weight 0",),
                where=context.where(f"loss.terms.{term.name}.weight"),
            )
    if found.optimum.dice < LEAST_DICE:
        yield Finding(
            code="P5",
            severity=severity,
            title="the objective's own optimum is not the truth",
            evidence=(
                f"phase {phase!r}: its best logits have Dice {found.optimum.dice:.3f} and "
                f"{found.optimum.predicted_share:.1%} surface, the labels {found.optimum.true_share:.1%}"
            ),
            causes=("a term outweighs those that follow the labels",),
            remedies=("lower the weights of the terms with a conflict gap",),
            where=context.where("loss.terms"),
        )


OPERATING_POINT = Check(code="P3", title="Operating point", run=check_operating_point)
CONSTANT = Check(code="P4", title="The constant predictor", run=check_constant)
FLOOR = Check(code="P5", title="Attainable floor", run=check_floor)

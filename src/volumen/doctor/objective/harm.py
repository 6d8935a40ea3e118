"""P3 and P5: does the objective's own best answer find less than that of soft Dice and cross-entropy, and why?

Judged by the Dice that a mask can expect where the truth is in doubt, at the run's own threshold and at the best one.
Where it is much worse, what stands in the objective is changed in turn; what makes up for most of it is the cause.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from volumen.doctor.context import PATCH_VOXELS, Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.limited import EVERYWHERE, MARGIN, Doubt, doubt_of, expected, fitted, plain
from volumen.losses import CompositeLoss
from volumen.losses.terms import ClDice, CrossEntropy, Focal, SoftDice

KNOWLEDGE = (0.7, 0.85)
"""Dice that the best mask can expect: of a network as they are on hard volumes, and of a good one."""
HARMFUL = (0.065, 0.015)
"""Share of that Dice which an objective may cost, by knowledge: both are exceeded where it is called harmful."""
OF_A_TERM = 0.02
"""Share of that Dice which a single term beside soft Dice, cross-entropy and focal may cost, where the better of two
networks is not asked. Measured on sheets and phantoms: usual weights cost at most 0.007, variance of 5 0.025 to 0.045,
signed distance of 10 and boundary of 30 0.014 to 0.026."""
RUINOUS = (0.5, 0.3)
RESTORES = 0.6
"""Of the loss, what a change has to make up for to be called the cause."""
USUAL_THRESHOLDS = (0.25, 0.7)
HARMFUL_THRESHOLD = (0.3, 0.1)
"""What a usual threshold may cost before that is more than a note."""
INNER = (PATCH_VOXELS - 2 * MARGIN,) * 3


@dataclass(frozen=True)
class Change:
    """Something that is changed in an objective to see whether it is the cause."""

    code: str
    where: str
    what: str
    """The cause, as the title says it."""
    why: str
    remedy: str
    objective: CompositeLoss
    threshold: float
    drops: bool = False
    """Whether a term is left out that is no everyday one."""
    tunable: bool = False
    """Whether it is a usual threshold that is moved, and nothing else."""


@dataclass(frozen=True)
class Harm:
    """What an objective costs, by knowledge."""

    own: tuple[float, ...]
    """Expected Dice at the run's threshold."""
    best: tuple[float, ...]
    """At the threshold that would be best."""
    best_level: float
    plain: tuple[float, ...]
    """Of soft Dice and cross-entropy at their best threshold."""

    @cached_property
    def lost(self) -> tuple[float, ...]:
        """Share of the Dice that is lost at the run's threshold."""
        return tuple(1 - own / max(plain, 1e-9) for own, plain in zip(self.own, self.plain, strict=True))

    def exceeds(self, bars: tuple[float, ...]) -> bool:
        """Whether it is lost beyond the bars, whatever is known."""
        return len(self.lost) == len(bars) and all(lost > bar for lost, bar in zip(self.lost, bars, strict=True))


def doubts(context: Context, requires: tuple[str, ...], dice: float) -> Doubt:
    """The run's label patches in doubt."""
    return doubt_of(context.label_patches, dice, requires, context.config.seed)


@once
def harm_of(context: Context) -> Harm:
    """Of the last phase's objective; what a good network would lose is measured only where another loses much."""
    objective, threshold = list(context.objectives.values())[-1], context.config.postprocessing.threshold
    level = threshold
    own: list[float] = []
    best: list[float] = []
    plains: list[float] = []
    for dice, bar in zip(KNOWLEDGE, HARMFUL, strict=True):
        doubt = doubts(context, tuple(objective.requires), dice)
        found = expected(fitted(objective, context.config.data.patch, INNER), doubt, threshold)
        against = expected(plain(), doubt, 0.5).best
        if not own:
            level = found.best_level
        own.append(found.at(threshold))
        best.append(found.best)
        plains.append(against)
        if 1 - own[-1] / max(against, 1e-9) <= bar:
            break
    return Harm(tuple(own), tuple(best), level, tuple(plains))


def check_harm(context: Context) -> Iterator[Finding]:
    """Whether the objective, at the run's threshold, is worth much less than it could be."""
    found = harm_of(context)
    if not found.exceeds(HARMFUL) and not found.lost[0] > OF_A_TERM:
        return
    change, restored = _cause(context, found)
    if not found.exceeds(HARMFUL) and (change is None or not change.drops):
        return
    severity = _severity(found, change)
    evidence = (
        f"where the best mask of a place in doubt can expect a Dice of {found.plain[0]:.3f}, the objective's best "
        f"answer expects {found.own[0]:.3f} above the threshold {context.config.postprocessing.threshold:g} and "
        f"{found.best[0]:.3f} above its best one, {found.best_level:.2f}"
    )
    if len(found.own) > 1:
        evidence += f"; where it can expect {found.plain[1]:.3f}, {found.own[1]:.3f}"
    if change is None:
        yield Finding(
            code="P5",
            severity=severity,
            title="the objective's best answer is worth less than that of soft Dice and cross-entropy",
            evidence=evidence,
            causes=("several terms together",),
            remedies=("loss.terms: {soft_dice: {}, cross_entropy: {}}, and add terms one by one",),
            where=context.where("loss.terms"),
        )
        return
    yield Finding(
        code=change.code,
        severity=severity,
        title=f"{change.what} costs {found.lost[0]:.0%} of the Dice that could be had",
        evidence=f"{evidence}; with the change below {restored:.3f}",
        causes=(change.why,),
        remedies=(change.remedy, "volumen audit loss shows the operating point"),
        where=context.where(change.where),
    )


def _severity(found: Harm, change: Change | None) -> Severity:
    """A usual threshold that is not the best one is worth a note: it is moved without another training."""
    if found.exceeds(RUINOUS):
        return Severity.stop
    tunable = change is not None and change.tunable and not found.exceeds(HARMFUL_THRESHOLD)
    return Severity.note if tunable else Severity.warn


def _cause(context: Context, found: Harm) -> tuple[Change | None, float]:
    """The first change that makes up for most of what is lost, and what it restores."""
    objective = list(context.objectives.values())[-1]
    doubt = doubts(context, tuple({*objective.requires, *plain().requires}), KNOWLEDGE[0])
    wanted = found.own[0] + RESTORES * (found.plain[0] - found.own[0])
    for change in _changes(context, objective, found):
        if change.objective is objective:  # the threshold alone
            reached = found.best[0]
        else:
            changed = fitted(change.objective, context.config.data.patch, INNER)
            reached = expected(changed, doubt, change.threshold).at(change.threshold)
        if reached >= wanted:
            return change, reached
    return None, found.own[0]


def _changes(context: Context, objective: CompositeLoss, found: Harm) -> Iterator[Change]:
    """What may be the cause, the likeliest first."""
    threshold = context.config.postprocessing.threshold
    low, high = USUAL_THRESHOLDS
    moved = Change(
        "P3", "postprocessing.steps", f"the threshold {threshold:g}",
        "the threshold does not fit what the objective answers where it is in doubt",
        f"a threshold of about {found.best_level:.2f}, or the best on held-out predictions: volumen tune",
        objective, found.best_level, tunable=low <= threshold <= high,
    )  # fmt: skip
    if not low <= threshold <= high:
        yield moved
    yield from _weights(objective, threshold)
    yield from _constants(objective, threshold)
    yield from _dropped(objective, threshold)
    if low <= threshold <= high:
        yield moved
    if not any(isinstance(term, EVERYWHERE) for _, term in objective.terms.values()):
        names = " and ".join(objective.terms)
        yield Change(
            "P5", "loss.terms", f"an objective of {names} alone",
            "no term looks at every voxel's label",
            "add loss.terms: {soft_dice: {}, cross_entropy: {}}",
            CompositeLoss({**objective.terms, **plain().terms}), threshold,
        )  # fmt: skip


def _weights(objective: CompositeLoss, threshold: float) -> Iterator[Change]:
    for name, (weight, term) in objective.terms.items():
        if isinstance(term, CrossEntropy | Focal) and term.factors[0] != term.factors[1]:
            equal = {"background_weight": 1.0, "surface_weight": 1.0}
            even = replace(term, **equal, alpha=None) if isinstance(term, Focal) else replace(term, **equal)
            background, surface = term.factors
            classes = term.background_weight != term.surface_weight
            yield Change(
                "P3", "loss.class_weights" if classes else f"loss.terms.{name}.alpha",
                f"weighing surface {surface:g} and background {background:g} in {name}",
                "a class weight multiplies the voxels whose truth is that class, and moves what is called surface",
                "loss.class_weights.enabled: false, alpha: null, and a threshold tuned on held-out predictions",
                CompositeLoss({**objective.terms, name: (weight, even)}), threshold,
            )  # fmt: skip


def _constants(objective: CompositeLoss, threshold: float) -> Iterator[Change]:
    for name, (weight, term) in objective.terms.items():
        if isinstance(term, SoftDice | ClDice) and term.smooth > 10:
            yield Change(
                "P5", f"loss.terms.{name}.smooth", f"{name}.smooth of {term.smooth:g}",
                "the constant outweighs the voxels that it is added to, and the ratio hardly depends on the mask",
                f"loss.terms.{name}.smooth: 1",
                CompositeLoss({**objective.terms, name: (weight, replace(term, smooth=1.0))}), threshold,
            )  # fmt: skip
        if isinstance(term, Focal) and term.gamma > 3:
            yield Change(
                "P3", f"loss.terms.{name}.gamma", f"{name}.gamma of {term.gamma:g}",
                "voxels stop counting long before their answer is clear, which leaves probabilities near 0.5",
                f"loss.terms.{name}.gamma: 2",
                CompositeLoss({**objective.terms, name: (weight, replace(term, gamma=2.0))}), threshold,
            )  # fmt: skip


def _dropped(objective: CompositeLoss, threshold: float) -> Iterator[Change]:
    """Terms left out, those that know least of single voxels first."""
    regular = [name for name, (_, term) in objective.terms.items() if not isinstance(term, SoftDice | CrossEntropy)]
    for name in sorted(regular, key=lambda one: -objective.terms[one][0]):
        left = {other: known for other, known in objective.terms.items() if other != name}
        if left:
            weight = objective.terms[name][0]
            yield Change(
                "P5", f"loss.terms.{name}.weight", f"the term {name} at weight {weight:g}",
                f"{name} pulls away from the labels where they are in doubt, and outweighs the other terms",
                f"loss.terms.{name}.weight: 0, or a tenth of it",
                CompositeLoss(left), threshold, not isinstance(objective.terms[name][1], EVERYWHERE),
            )  # fmt: skip

"""Settings of the objective: which terms, how heavy, and when (curriculum).

A term that is absent does not exist; a term of weight 0 is listed but never computed.
"""

from typing import Annotated

from pydantic import Field, model_validator

from volumen.config.base import Epoch, Section

Weight = Annotated[float, Field(ge=0.0, le=1e6)]
Smooth = Annotated[float, Field(ge=1e-12, le=1e6)]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]


class Term(Section):
    """A loss term with its weight in the sum."""

    weight: Weight = 1.0


class SoftDice(Term):
    """1 - soft Dice of the surface, mean over the patches of a batch."""

    smooth: Smooth = 1.0
    """Added above and below, in voxels."""


class Focal(Term):
    """Focal loss (Lin et al. 2017)."""

    alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Weight of voxels whose truth is surface, 1 - alpha that of background; null leaves both at 1."""
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """Focusing exponent; 0 is the cross-entropy."""


class CrossEntropy(Term):
    """Binary cross-entropy."""


class Variance(Term):
    """(1 - Var p)^2, a regulariser of the case study; it cannot fall below 0.5625."""


class Entropy(Term):
    """max(0, minimum - mean binary entropy), the other regulariser of the case study."""

    minimum: Annotated[float, Field(gt=0.0, lt=0.693)] = 0.5
    """Mean entropy in nats below which the term acts."""


class Boundary(Term):
    """Cross-entropy weighted by the distance to the true boundary."""

    full_within: Annotated[float, Field(ge=0.0, lt=100.0)] = 3.0
    """Weight 1 up to this distance, in voxels (theta0)."""
    zero_from: Annotated[float, Field(gt=0.0, lt=100.0)] = 5.0
    """Weight 0 from this distance on, in voxels (theta)."""

    @model_validator(mode="after")
    def _order(self) -> "Boundary":
        if self.full_within >= self.zero_from:
            raise ValueError(f"full_within ({self.full_within}) must be below zero_from ({self.zero_from})")
        return self


class ClDice(Term):
    """1 - soft clDice (Shit et al. 2021) on soft skeletons."""

    iterations: Annotated[int, Field(ge=1, le=100)] = 3
    """Erosions of the soft skeleton; at least half the thickness of a sheet."""
    smooth: Smooth = 1.0
    """Added above and below, in voxels."""


class Connectivity(Term):
    """Disagreement of max-pooled prediction and truth: gaps and specks count where neighbourhoods differ."""

    radius: Annotated[int, Field(ge=1, le=16)] = 1
    """The neighbourhood is the cube of side 2 radius + 1 voxels."""


class MedialRecall(Term):
    """1 - soft recall on the truth's medial surface: a missed sheet costs, its exact thickness does not."""


class SignedDistance(Term):
    """Regression of the truth's clamped signed distance from the logits."""

    reach: Annotated[float, Field(ge=0.5, lt=100.0)] = 3.0
    """Distance at which the target saturates, in voxels."""


class MergePenalty(Term):
    """Cross-entropy in the middle of narrow gaps between true sheets: what fuses two sheets is punished."""

    widest_gap: Annotated[int, Field(ge=1, le=254)] = 8
    """Gaps up to this width count, in voxels."""


class Terms(Section):
    """The terms of the sum, by name."""

    soft_dice: SoftDice | None = None
    focal: Focal | None = None
    cross_entropy: CrossEntropy | None = None
    variance: Variance | None = None
    entropy: Entropy | None = None
    boundary: Boundary | None = None
    cldice: ClDice | None = None
    connectivity: Connectivity | None = None
    medial_recall: MedialRecall | None = None
    signed_distance: SignedDistance | None = None
    merge_penalty: MergePenalty | None = None

    def present(self) -> dict[str, Term]:
        """The terms that are set, by name, in a fixed order."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}


class ClassWeights(Section):
    """Factors on voxels by their *true* class, in cross-entropy and focal loss.

    A larger `surface` makes missed surface dearer and so asks for *more* surface, not less.
    """

    enabled: bool = False
    background: Factor = 1.0
    surface: Factor = 1.0


class Phase(Section):
    """A stretch of epochs with weights of its own."""

    name: str
    start_epoch: Epoch
    weights: dict[str, Weight]
    """Weight by term; a term not named here has weight 0 in this phase."""


class Loss(Section):
    """The objective."""

    terms: Terms
    class_weights: ClassWeights = ClassWeights()
    curriculum: tuple[Phase, ...] = ()
    """Phases in order of their start; before the first one the terms' own weights hold."""

    @model_validator(mode="after")
    def _consistent(self) -> "Loss":
        present = self.terms.present()
        if not any(term.weight > 0 for term in present.values()):
            raise ValueError(
                "the loss has no term of positive weight: give at least one, such as terms.soft_dice.weight"
            )
        starts = [phase.start_epoch for phase in self.curriculum]
        if starts != sorted(set(starts)):
            raise ValueError(f"curriculum phases must start at increasing epochs, got {starts}")
        for phase in self.curriculum:
            unknown = sorted(set(phase.weights) - set(present))
            if unknown:
                raise ValueError(
                    f"curriculum phase {phase.name!r} weighs {unknown}, not among the loss terms {sorted(present)}"
                )
            if not any(weight > 0 for weight in phase.weights.values()):
                raise ValueError(f"curriculum phase {phase.name!r} has no term of positive weight")
        return self

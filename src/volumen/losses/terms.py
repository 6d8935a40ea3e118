"""The terms an objective is made of: small frozen classes with one signature, and the table that names them.

    term(logits[B, 1, Z, Y, X], target[B, Z, Y, X] in {0, 1}, valid[B, Z, Y, X] bool, precomputed=None) -> scalar

Each term computes in float32 at least (autocast is off inside, half-precision logits are raised; float64 stays),
ignores voxels where `valid` is False down to the last bit of value and gradient, and is 0 with a gradient of 0 where
nothing is valid. `requires` names the targets a data loader may make ahead (`volumen.losses.targets`); without them a
term makes its own. Terms that measure in voxels or look at topology are `finest_only`: under deep supervision coarse
levels, where a voxel means something else, are left to the others.

Voxelwise terms are means over all valid voxels of the batch, so that each labelled voxel counts the same; ratios
(Dice, clDice, recall) are taken per sample and averaged over the samples that have something to measure.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from volumen.errors import UserError
from volumen.losses import functional
from volumen.losses.distance import distance_to_interface
from volumen.losses.inputs import LossInputs


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise UserError(f"{where}: expected {expected}, got {got}: change it in the loss configuration")


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """One term of an objective."""

    requires: ClassVar[tuple[str, ...]] = ()
    finest_only: ClassVar[bool] = False

    def __call__(
        self, logits: Tensor, target: Tensor, valid: Tensor, *, precomputed: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Value of the term, a scalar of the computing dtype. See the module's docstring for shapes.

        Raises:
            ValueError: on shapes that do not belong together or a target outside {0, 1} at a valid voxel.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.compute(LossInputs.create(logits, target, valid, precomputed))

    @abstractmethod
    def compute(self, inputs: LossInputs) -> Tensor:
        """Value of the term on prepared inputs, which several terms may share; the caller has switched autocast off."""


@dataclass(frozen=True, kw_only=True)
class SoftDice(Term):
    """1 - soft Dice of the surface. Surface everywhere has 1 - 2 f / (1 + f) at a surface share f."""

    smooth: float = 1.0
    """Added above and below, in voxels: keeps samples without surface defined, and 0 at the perfect answer."""

    def __post_init__(self) -> None:
        _require(self.smooth > 0, "soft_dice.smooth", "a number above 0", self.smooth)

    def compute(self, inputs: LossInputs) -> Tensor:
        return functional.soft_dice_loss(inputs.probabilities, inputs.target, inputs.labelled_samples, self.smooth)


@dataclass(frozen=True, kw_only=True)
class _ClassWeighted(Term):
    """Weights by the voxel's *true* class: a higher `surface_weight` gives *more* predicted surface.

    The weighted sum is divided by the number of valid voxels, not by the sum of weights.
    """

    background_weight: float = 1.0
    surface_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("background_weight", "surface_weight"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"{type(self).__name__}.{name}", "0 or more", value)

    @property
    def factors(self) -> tuple[float, float]:
        """What a voxel's loss is multiplied by, for background and for surface."""
        return self.background_weight, self.surface_weight

    def _weighted_mean(self, field: Tensor, inputs: LossInputs) -> Tensor:
        background, surface = self.factors
        if background == surface:
            return surface * functional.mean_over(field, inputs.valid_count)
        on_surface, total = functional.overlap_and_total(field, inputs.target)
        return functional.mean_over(surface * on_surface + background * (total - on_surface), inputs.valid_count)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(_ClassWeighted):
    """Binary cross-entropy in nats; ln 2 = 0.693 at probability 0.5."""

    def compute(self, inputs: LossInputs) -> Tensor:
        return self._weighted_mean(inputs.cross_entropy, inputs)


@dataclass(frozen=True, kw_only=True)
class Focal(_ClassWeighted):
    """Focal loss: cross-entropy times (1 - p_t)^gamma. Source: Lin et al., ICCV 2017, arXiv:1708.02002."""

    gamma: float = 2.0
    """At least 0; 0 is the cross-entropy."""
    alpha: float | None = None
    """Weight of surface, 1 - alpha that of background, beside the class weights; None weighs both 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(math.isfinite(self.gamma) and self.gamma >= 0, "focal.gamma", "0 or more", self.gamma)
        _require(self.alpha is None or 0 <= self.alpha <= 1, "focal.alpha", "a number in [0, 1] or none", self.alpha)

    @property
    def factors(self) -> tuple[float, float]:
        """Class weights times alpha (surface) and 1 - alpha (background)."""
        surface, background = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        return background * self.background_weight, surface * self.surface_weight

    def compute(self, inputs: LossInputs) -> Tensor:
        if self.gamma == 0:
            field = inputs.cross_entropy
        else:
            field = functional.focal_cross_entropy(inputs.logits, inputs.sign, self.gamma)
        return self._weighted_mean(field, inputs)


@dataclass(frozen=True, kw_only=True)
class Variance(Term):
    """(1 - Var p)^2 over the batch's valid voxels: the training plan's regulariser, needed by its presets.

    Var p cannot exceed 1/4, so the term cannot fall below 0.5625, and a constant prediction is a stationary point:
    there its gradient is exactly 0.
    """

    def compute(self, inputs: LossInputs) -> Tensor:
        spread = functional.variance(inputs.probabilities, inputs.valid_mask, inputs.valid_count)
        return torch.where(inputs.any_valid, (1 - spread).square(), 0 * spread)


@dataclass(frozen=True, kw_only=True)
class Entropy(Term):
    """max(0, minimum - mean entropy) in nats: the training plan's regulariser against confident predictions.

    Inactive, with a gradient of 0, while predictions are uncertain (ln 2 = 0.693 at the start of training); `minimum`,
    the whole hinge, at a perfect prediction.
    """

    minimum: float = 0.5
    """Mean entropy in nats below which the term acts, in (0, ln 2)."""

    def __post_init__(self) -> None:
        _require(0 < self.minimum < math.log(2), "entropy.minimum", "a number between 0 and ln 2", self.minimum)

    def compute(self, inputs: LossInputs) -> Tensor:
        entropy = functional.mean_over(functional.binary_entropy(inputs.logits, inputs.valid_mask), inputs.valid_count)
        return torch.where(inputs.any_valid, (self.minimum - entropy).clamp(min=0), 0 * entropy)


@dataclass(frozen=True, kw_only=True)
class Boundary(Term):
    """Cross-entropy near the true boundary: a mean weighted by the distance to it.

    Distance is that of `distance_to_interface`, in voxels. The weight is 1 up to `full_within`, falls, and is 0
    from `zero_from` on (theta0 and theta of the training plan); the term is 0 where there is no boundary at all.
    """

    finest_only: ClassVar[bool] = True
    full_within: float = 3.0
    zero_from: float = 5.0

    def __post_init__(self) -> None:
        ordered = 0 <= self.full_within < self.zero_from < 100
        got = f"{self.full_within} and {self.zero_from}"
        _require(ordered, "boundary", "0 <= full_within < zero_from < 100 voxels", got)

    def compute(self, inputs: LossInputs) -> Tensor:
        with torch.no_grad():
            distance = distance_to_interface(inputs.surface, inputs.background, self.zero_from, inputs.dtype)
            weight = distance.neg_().add_(self.zero_from).div_(self.zero_from - self.full_within).clamp_(0, 1)
            weight.mul_(inputs.valid_mask)
        return functional.mean_over(inputs.cross_entropy * weight, weight.sum())


@dataclass(frozen=True, kw_only=True)
class ClDice(Term):
    """1 - soft clDice. Source: Shit et al., CVPR 2021, arXiv:2003.07311.

    The soft skeleton of a sheet is its medial surface, so topology precision and sensitivity punish both additions off
    the sheets and breaks in them.
    """

    finest_only: ClassVar[bool] = True
    iterations: int = 3
    """Erosions of the soft skeleton; sheets thicker than 2 iterations + 2 voxels have none."""
    smooth: float = 1.0
    """Added above and below, in voxels."""

    def __post_init__(self) -> None:
        _require(1 <= self.iterations <= 100, "cldice.iterations", "a whole number from 1 to 100", self.iterations)
        _require(self.smooth > 0, "cldice.smooth", "a number above 0", self.smooth)

    def compute(self, inputs: LossInputs) -> Tensor:
        return functional.soft_cldice_loss(
            inputs.probabilities, inputs.target, inputs.labelled_samples, self.iterations, self.smooth
        )


@dataclass(frozen=True, kw_only=True)
class Connectivity(Term):
    """Disagreement of neighbourhoods: mean squared difference of the locally largest probability and target.

    A break narrower than the neighbourhood costs nothing and a speck costs as much as the neighbourhood is large, so it
    asks for the right places to be occupied rather than for exact outlines.
    """

    finest_only: ClassVar[bool] = True
    radius: int = 1
    """The neighbourhood is the cube of side 2 radius + 1 voxels."""

    def __post_init__(self) -> None:
        _require(1 <= self.radius <= 16, "connectivity.radius", "a whole number from 1 to 16 voxels", self.radius)

    def compute(self, inputs: LossInputs) -> Tensor:
        return functional.pooled_disagreement(
            inputs.probabilities, inputs.target, inputs.valid_mask, inputs.valid_count, self.radius
        )


@dataclass(frozen=True, kw_only=True)
class MedialRecall(Term):
    """1 - soft recall of the medial surfaces of the true sheets; 0 where there are none.

    After Skeleton Recall (Kirchhoff et al., ECCV 2024, arXiv:2404.03010), with medial surfaces in place of curves. It
    rewards surface anywhere: alone it adds handles and cavities, so pair it with `merge_penalty`.
    """

    requires: ClassVar[tuple[str, ...]] = ("medial_surface",)
    finest_only: ClassVar[bool] = True

    def compute(self, inputs: LossInputs) -> Tensor:
        core = inputs.precomputed("medial_surface").to(torch.bool) & inputs.surface
        return functional.recall_loss(inputs.probabilities, core.to(inputs.dtype))


@dataclass(frozen=True, kw_only=True)
class SignedDistance(Term):
    """Mean squared difference of tanh(logit / 2) = 2 p - 1 and the clamped signed distance to the surface's boundary.

    The distance (of `distance_to_interface`; positive inside, negative outside) is divided by `reach`. The best answer
    crosses 0.5 at the boundary, but is not the saturated mask: in a sheet thinner than 2 `reach` it stays below 1.
    """

    finest_only: ClassVar[bool] = True
    reach: float = 3.0
    """Distance at which the target saturates, in voxels."""

    def __post_init__(self) -> None:
        _require(0.5 <= self.reach < 100, "signed_distance.reach", "0.5 to 100 voxels", self.reach)

    def compute(self, inputs: LossInputs) -> Tensor:
        with torch.no_grad():
            distance = distance_to_interface(inputs.surface, inputs.background, self.reach, inputs.dtype)
            wanted = distance.mul_(inputs.sign).div_(self.reach).add_(inputs.valid_mask)  # one more; 0 where ignored
        return functional.mean_over((2 * inputs.probabilities - wanted).square(), inputs.valid_count)


@dataclass(frozen=True, kw_only=True)
class MergePenalty(Term):
    """Mean cross-entropy on the medial surface of the narrow gaps between sheets; 0 where there are none.

    One layer of predicted surface in the gap joins two sheets, and hardly moves Dice. Cross-entropy rather than the
    probability itself, because its gradient does not fade where the network is sure of the bridge.
    """

    requires: ClassVar[tuple[str, ...]] = ("sheet_gap",)
    finest_only: ClassVar[bool] = True
    widest_gap: int = 8
    """Gaps up to this width count, in voxels."""

    def __post_init__(self) -> None:
        _require(1 <= self.widest_gap <= 254, "merge_penalty.widest_gap", "1 to 254 voxels", self.widest_gap)

    def compute(self, inputs: LossInputs) -> Tensor:
        width = inputs.precomputed("sheet_gap")
        gap = (width > 0) & (width <= self.widest_gap) & inputs.background
        on_gap, _ = functional.overlap_and_total(inputs.cross_entropy, gap.to(inputs.dtype))
        return functional.mean_over(on_gap, torch.count_nonzero(gap))


TERMS: dict[str, type[Term]] = {
    "soft_dice": SoftDice,
    "focal": Focal,
    "cross_entropy": CrossEntropy,
    "variance": Variance,
    "entropy": Entropy,
    "boundary": Boundary,
    "cldice": ClDice,
    "connectivity": Connectivity,
    "medial_recall": MedialRecall,
    "signed_distance": SignedDistance,
    "merge_penalty": MergePenalty,
}

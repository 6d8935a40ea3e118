"""What terms of a loss are worth whatever was trained: at a constant prediction, at a perfect one, and at their least.

For terms of which only the share of surface matters, not its shape, so that no label is needed. `dice: 0.4845` beside a
surface share of 0.6 is then known to be worse than the 0.25 of a network that says surface everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from volumen.errors import UserError
from volumen.losses import CompositeLoss
from volumen.losses.inputs import LossInputs
from volumen.losses.terms import CrossEntropy, Entropy, Focal, SoftDice, Term, Variance
from volumen.monitors.seen import TOTAL

VOXELS = 400
_CERTAIN = 30.0
"""Logit of a sure answer: a probability of 1 - 1e-13."""
_STEPS = 50
_SMALL = 1e-6


@dataclass(frozen=True)
class TermFacts:
    """Three values of a term, raw."""

    floor: float
    """The least that any prediction reaches."""
    constant: float
    """The least that a constant reaches, the same probability everywhere."""
    perfect: float
    """Of the truth as prediction."""
    source: str = ""
    """The term's formula, p being the probability, t the truth."""

    def progress(self, value: float) -> float:
        """A value on the scale on which 1 is the best constant and 0 the least of all; NaN where there is no scale."""
        room = self.constant - self.floor
        return (value - self.floor) / room if room > _SMALL else float("nan")


@dataclass(frozen=True, kw_only=True)
class _PlanVariance(Term):
    """The two regularisers that the training plan's code adds up under one name."""

    def compute(self, inputs: LossInputs) -> Tensor:
        return Variance().compute(inputs) + Entropy().compute(inputs)


@dataclass(frozen=True, kw_only=True)
class _DiceAndCrossEntropy(Term):
    """As in Isensee et al., Nature Methods 18 (2021), whose Dice is negative: subtract 1 for nnU-Net's own numbers."""

    def compute(self, inputs: LossInputs) -> Tensor:
        return SoftDice(smooth=_SMALL).compute(inputs) + CrossEntropy().compute(inputs)


@dataclass(frozen=True, kw_only=True)
class _SoftIntersection(Term):
    """1 - sum p t / (sum p + sum t - sum p t). Source: Rahman and Wang, ISVC 2016."""

    def compute(self, inputs: LossInputs) -> Tensor:
        overlap = (inputs.probabilities * inputs.target).sum()
        return 1 - overlap / (inputs.probabilities.sum() + inputs.target.sum() - overlap)


@dataclass(frozen=True, kw_only=True)
class _Power(Term):
    """Mean of |p - t|^exponent."""

    exponent: float

    def compute(self, inputs: LossInputs) -> Tensor:
        return (inputs.probabilities - inputs.target).abs().pow(self.exponent).mean()


_DICE = (SoftDice(smooth=_SMALL), "1 - 2 sum p t / (sum p + sum t)")
_FOCAL = (Focal(), "cross-entropy times (1 - p_t)^2, without alpha")
_CROSS_ENTROPY = (CrossEntropy(), "-log p_t in nats")
_PLAN_VARIANCE = (_PlanVariance(), "(1 - Var p)^2 + max(0, 0.5 - mean entropy in nats)")
_OWN_VARIANCE = (Variance(), "(1 - Var p)^2")
_DICE_AND_CE = (_DiceAndCrossEntropy(), "soft Dice + cross-entropy")
_SQUARE = (_Power(exponent=2.0), "(p - t)^2")
_ABSOLUTE = (_Power(exponent=1.0), "|p - t|")
KNOWN: dict[str, tuple[Term, str]] = {
    **dict.fromkeys(("dice", "soft_dice", "dsc", "f1"), _DICE),
    **dict.fromkeys(("focal", "soft_focal"), _FOCAL),
    **dict.fromkeys(("ce", "bce", "cross_entropy", "crossentropy", "xent", "nll", "bce_with_logits"), _CROSS_ENTROPY),
    **dict.fromkeys(("dice_ce", "dice_bce", "dice_cross_entropy"), _DICE_AND_CE),
    **dict.fromkeys(("iou", "jaccard", "soft_iou"), (_SoftIntersection(), "1 - sum p t / (sum p + sum t - sum p t)")),
    **dict.fromkeys(("mse", "l2", "brier"), _SQUARE),
    **dict.fromkeys(("mae", "l1"), _ABSOLUTE),
    "variance": _PLAN_VARIANCE,
    "entropy": (Entropy(), "max(0, 0.5 - mean entropy in nats)"),
}  # fmt: skip
"""Terms by the names that logs give them. The others of `losses.TERMS` depend on shapes and are not here."""


def facts(weights: Mapping[str, float], surface_share: float) -> dict[str, TermFacts]:
    """Floor, best constant and perfect value of each term that is known by its name.

    `total` is the weighted sum, where all terms of positive weight are known. `variance` is the training plan's sum of
    two regularisers, unless `entropy` stands beside it: then each is this package's term of that name.

    Args:
        weights: By name, as `names.parse_weights` gives them; a weight of 0 gets facts of its term too.
        surface_share: Of valid voxels, above 0 and below 1.

    Raises:
        UserError: A share outside of that.
    """
    if not 0 < surface_share < 1:
        raise UserError(
            f"surface share: expected a number above 0 and below 1, got {surface_share}: take it from the labels"
        )
    known = {name: weight for name, weight in weights.items() if name in KNOWN and weight >= 0}
    every = all(name in KNOWN for name, weight in weights.items() if weight > 0)
    return dict(_facts(tuple(sorted(known.items())), round(surface_share, 4), every))


def unexplained(total: float, terms: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """What a logged total holds beside the weighted sum of its logged terms.

    Far from 0, the objective is not the one that is thought. None where a term of positive weight was not logged.
    """
    wanted = {name: weight for name, weight in weights.items() if weight > 0}
    if not wanted or not set(wanted) <= set(terms):
        return None
    return total - sum(weight * terms[name] for name, weight in wanted.items())


@lru_cache(maxsize=64)
def _facts(weights: tuple[tuple[str, float], ...], share: float, with_total: bool) -> Mapping[str, TermFacts]:
    names = [name for name, _ in weights]
    found = {name: _of({name: 1.0}, share, _term(name, names)[1], names) for name in names}
    positive = {name: weight for name, weight in weights if weight > 0}
    if with_total and positive:
        found[TOTAL] = _of(positive, share, "the weighted sum", names)
    return found


def _term(name: str, names: list[str]) -> tuple[Term, str]:
    return _OWN_VARIANCE if name == "variance" and "entropy" in names else KNOWN[name]


def _of(weights: Mapping[str, float], share: float, source: str, names: list[str] | None = None) -> TermFacts:
    objective = CompositeLoss(
        {name: (weight, _term(name, names or list(weights))[0]) for name, weight in weights.items()}
    )
    surface = min(max(round(share * VOXELS), 1), VOXELS - 1)
    target = (torch.arange(VOXELS) < surface).to(torch.uint8).reshape(1, 1, 1, VOXELS)
    valid = torch.ones_like(target, dtype=torch.bool)

    def value(logits: Tensor) -> Tensor:
        return objective(logits.reshape(1, 1, 1, 1, VOXELS), target, valid).total

    sure = _CERTAIN * (2.0 * target.double().flatten() - 1)
    prior = torch.logit(torch.tensor(share, dtype=torch.float64))
    tried = (*torch.linspace(-8, 8, 33).tolist(), float(prior), -_CERTAIN, _CERTAIN)
    with torch.no_grad():
        perfect = float(value(sure))
        constant = _least_constant(lambda logit: float(value(torch.full_like(sure, logit))), tried)
    floor = perfect if abs(perfect) < _SMALL else min(perfect, constant, _least(value, sure))
    return TermFacts(floor, constant, perfect, source)


def _least_constant(value: Callable[[float], float], tried: Sequence[float]) -> float:
    """The least over constants: of those tried, and between the neighbours of the best one."""
    values = {logit: value(logit) for logit in tried}
    middle, step = min(values, key=lambda logit: values[logit]), 0.25
    for _ in range(8):
        for logit in (middle - step, middle + step):
            values[logit] = value(logit)
        middle, step = min(values, key=lambda logit: values[logit]), step / 2
    return values[middle]


def _least(value: Callable[[Tensor], Tensor], sure: Tensor) -> float:
    """The least found over free logits: along the truth and along halves that ignore it, and by descent from there."""
    split = torch.where(torch.arange(VOXELS) % 2 == 0, 1.0, -1.0).double()
    sizes = torch.logspace(-2, 1.5, 40, dtype=torch.float64)
    least = float("inf")
    for direction in (sure / _CERTAIN, split):
        with torch.no_grad():
            values = [float(value(size * direction)) for size in sizes]
        least = min(least, *values)
        start = float(sizes[values.index(min(values))])
        logits = (min(start, 4.0) * direction).requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(_STEPS):
            optimiser.zero_grad()
            current = value(logits)
            least = min(least, float(current.detach()))
            torch.autograd.backward(current)
            optimiser.step()
    return least

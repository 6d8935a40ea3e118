"""The objective: a weighted sum of terms whose parts add up to its total, with deep supervision.

A term of weight 0 is not computed, and neither are the targets only it would need. What is reported is what is
optimised: the total is the sum of the reported weighted values, in their order, to the last bit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from volumen.errors import UserError
from volumen.losses.inputs import LossInputs
from volumen.losses.terms import Term


@dataclass(frozen=True)
class LossBreakdown:
    """An objective's value and its parts, scalars that are all still attached to the graph (detach before keeping)."""

    total: Tensor
    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]


class CompositeLoss:
    """A weighted sum of terms.

    Args:
        terms: name -> (weight, term).

    Raises:
        UserError: on a negative or non-finite weight, or where no term has a positive one.
    """

    def __init__(self, terms: Mapping[str, tuple[float, Term]]) -> None:
        for name, (weight, _) in terms.items():
            if not math.isfinite(weight) or weight < 0:
                raise UserError(
                    f"loss term {name}: expected a finite weight of 0 or more, got {weight}: "
                    "a term to be avoided is left out or given the weight 0"
                )
        self.terms = {name: (float(weight), term) for name, (weight, term) in terms.items() if weight > 0}
        if not self.terms:
            raise UserError(
                f"loss: expected at least one term of positive weight, got {dict.fromkeys(terms, 0)}: "
                "give one of them a weight above 0"
            )

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the precomputed targets that terms of positive weight can use, each once."""
        return tuple(dict.fromkeys(name for _, term in self.terms.values() for name in term.requires))

    def __call__(
        self,
        logits: Tensor | Sequence[Tensor],
        target: Tensor,
        valid: Tensor,
        *,
        precomputed: Mapping[str, Tensor] | None = None,
    ) -> LossBreakdown:
        """Value of the objective and of its parts.

        Args:
            logits: [B, 1, Z, Y, X], or under deep supervision a sequence of them, finest first, each of a size that
                divides the finest. Level l has the weight 2^-l, normalised to a sum of 1; `finest_only` terms see the
                first level alone, at weight 1.
            target: [B, Z, Y, X] in {0, 1}.
            valid: bool [B, Z, Y, X].
            precomputed: targets named by `requires`, [B, Z, Y, X].

        Raises:
            ValueError: on shapes that do not belong together or a target outside {0, 1} at a valid voxel.
        """
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        if not levels:
            raise ValueError("logits: expected a tensor or at least one level of them, got an empty sequence")
        if all(term.finest_only for _, term in self.terms.values()):
            levels = levels[:1]
        with torch.autocast(levels[0].device.type, enabled=False):
            finest = LossInputs.create(levels[0], target, valid, precomputed)
            inputs = [finest] + [_coarse_inputs(finest, level) for level in levels[1:]]
            raw = {name: _over_levels(term, inputs) for name, (_, term) in self.terms.items()}
            weighted = {name: weight * raw[name] for name, (weight, _) in self.terms.items()}
            total, *others = weighted.values()
            for value in others:
                total = total + value
        return LossBreakdown(total=total, raw=raw, weighted=weighted)


def coarsen(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """Reduce a mask [B, Z, Y, X] to `shape` (z, y, x): a coarse voxel is set where any in it is, so no sheet is lost.

    Raises:
        ValueError: if the sizes are not whole multiples of the coarse ones.
    """
    fine = mask.shape[1:]
    if len(fine) != len(shape) or any(size % coarse for size, coarse in zip(fine, shape, strict=True)):
        raise ValueError(
            f"deep supervision: expected coarse sizes that divide {list(fine)}, got {list(shape)}: "
            "choose a patch size that is a multiple of the model's divisor"
        )
    z, y, x = shape
    blocks = mask.reshape(len(mask), z, fine[0] // z, y, fine[1] // y, x, fine[2] // x)
    return blocks.any(6).any(4).any(2)


def _coarse_inputs(finest: LossInputs, logits: Tensor) -> LossInputs:
    """Inputs of a coarser level: surface where any valid voxel is surface, valid where any voxel is valid."""
    shape = logits.shape[2:]
    return LossInputs.create(logits, coarsen(finest.surface, shape), coarsen(finest.valid, shape))


def _over_levels(term: Term, inputs: Sequence[LossInputs]) -> Tensor:
    if term.finest_only or len(inputs) == 1:
        return term.compute(inputs[0])
    weights = [2.0**-level for level in range(len(inputs))]
    values = [weight / sum(weights) * term.compute(level) for weight, level in zip(weights, inputs, strict=True)]
    return torch.stack(values).sum()

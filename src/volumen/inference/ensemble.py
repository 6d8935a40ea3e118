"""Several networks as one: each sees every tile once, and their answers are averaged before the mask is made."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from volumen.errors import UserError
from volumen.postprocess import LEAST_PROBABILITY
from volumen.system.output import counted

Mean = Literal["probability", "logit"]


def check_weights(weights: Sequence[float]) -> None:
    """Refuse weights that make no mean, with one sentence wherever they come from.

    Raises:
        UserError: One is NaN, infinite or negative, or all are 0.
    """
    total = sum(weights)
    if any(not weight >= 0 for weight in weights) or not 0 < total < math.inf:
        raise UserError(f"weights of networks must be finite, not negative, and not all 0: got {list(weights)}")


class Ensemble(nn.Module):
    """The weighted mean of several networks' answers, as logits; `divisor` is their least common multiple.

    Args:
        members: Networks that give logits [B, 1, Z, Y, X].
        weights: One for each, not negative; their sum is made 1. None weighs all alike.
        mean: Of what: `probability`, or `logit` (the geometric mean of the odds).

    Raises:
        UserError: No member, another number of weights, or weights that make no mean.
    """

    def __init__(
        self, members: Sequence[nn.Module], weights: Sequence[float] | None = None, mean: Mean = "probability"
    ) -> None:
        super().__init__()
        if not members:
            raise UserError("an ensemble needs at least one network")
        given = [1.0] * len(members) if weights is None else list(weights)
        if len(given) != len(members):
            raise UserError(
                f"an ensemble of {counted(len(members), 'network')} needs as many weights, got {len(given)}"
            )
        check_weights(given)
        self.members = nn.ModuleList(members)
        self.weights = tuple(weight / sum(given) for weight in given)
        self.mean = mean
        divisors = [getattr(member, "divisor", (1, 1, 1)) for member in members]
        z, y, x = (math.lcm(*sides) for sides in zip(*divisors, strict=True))
        self.divisor: tuple[int, int, int] = (z, y, x)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, 1, Z, Y, X], float32, of an image [B, C, Z, Y, X]."""
        total: Tensor | None = None
        for member, weight in zip(self.members, self.weights, strict=True):
            if weight == 0:
                continue
            logits = member(image).float()
            part = weight * (logits if self.mean == "logit" else torch.sigmoid(logits))
            total = part if total is None else total.add_(part)
        if total is None:
            raise RuntimeError("no member has a weight")  # __init__ refuses that
        if self.mean == "logit":
            return total
        mean = total.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return torch.log(mean) - torch.log1p(-mean)  # torch.logit, in operations that other engines know

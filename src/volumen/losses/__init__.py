"""Losses: pure functions from (logits, target, valid) to a scalar, and their weighted sum.

    >>> from volumen.losses import TERMS, CompositeLoss
    >>> objective = CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]()), "focal": (0.5, TERMS["focal"](gamma=2.0))})
    >>> objective.requires
    ()

`TERMS` names the terms (`volumen.losses.terms` has their meaning), `CompositeLoss` adds them up and returns a
`LossBreakdown`, `PRECOMPUTE` makes the targets that a data loader can prepare in its workers.
"""

from volumen.losses.composite import CompositeLoss, LossBreakdown
from volumen.losses.inputs import LossInputs
from volumen.losses.targets import PRECOMPUTE
from volumen.losses.terms import TERMS, Term

__all__ = ["PRECOMPUTE", "TERMS", "CompositeLoss", "LossBreakdown", "LossInputs", "Term"]

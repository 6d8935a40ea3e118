"""P5: a term that drowns the others, and that alone does not lead to the labels.

Free logits answer to every term where it acts; a network has one step for all of them, and what pulls hardest decides
where it goes. How hard each term pulls is told by the sum of its gradient's magnitudes at answers that are as good as
a network's.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from volumen.doctor.context import Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.harm import INNER, doubts
from volumen.doctor.objective.limited import EVERYWHERE, Doubt, expected, fitted, plain
from volumen.losses import CompositeLoss
from volumen.losses.terms import ClDice, Connectivity, MedialRecall, MergePenalty, SignedDistance

OF_NEIGHBOURHOODS = (ClDice, Connectivity, MedialRecall, MergePenalty, SignedDistance)
DROWNS = 0.8
"""Share of the pull; in short trainings, 0.8 and more by a term that is blind alone costs 10 to 40 % of Dice."""
ALONE = 0.3
"""Share of the Dice that such a term loses by itself."""
LEAST_PROBABILITY, KNOWN = 0.02, 0.8


@once
def pulls(context: Context) -> dict[str, float]:
    """The share of each term of the last phase in the pull on a network's answers."""
    objective = fitted(list(context.objectives.values())[-1], context.config.data.patch, INNER)
    doubt = doubts(context, tuple(objective.requires), KNOWN)
    found = dict.fromkeys(objective.terms, 0.0)
    probability = np.clip(doubt.probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    answer = torch.logit(torch.from_numpy(probability)).float().unsqueeze(1)
    for name in objective.terms:
        for number in range(0, len(doubt.targets), 3):
            found[name] += _pull(objective, name, doubt, number, answer)
    total = max(sum(found.values()), 1e-30)
    return {name: value / total for name, value in found.items()}


def _pull(objective: CompositeLoss, name: str, doubt: Doubt, number: int, answer: Tensor) -> float:
    weight, term = objective.terms[name]
    logits = answer.clone().requires_grad_()
    value = term(logits, doubt.targets[number], doubt.valid[number], precomputed=doubt.ahead[number])
    (gradient,) = torch.autograd.grad(weight * value, logits)
    return float(gradient.abs().sum())


def check_domination(context: Context) -> Iterator[Finding]:
    """Whether a term over neighbourhoods outweighs those that know each voxel's label."""
    objective = list(context.objectives.values())[-1]
    if not any(isinstance(term, EVERYWHERE) for _, term in objective.terms.values()):
        return
    if not any(isinstance(term, OF_NEIGHBOURHOODS) for _, term in objective.terms.values()):
        return
    for name, share in pulls(context).items():
        weight, term = objective.terms[name]
        if share < DROWNS or not isinstance(term, OF_NEIGHBOURHOODS):
            continue
        doubt = doubts(context, tuple(objective.requires), KNOWN)
        alone = expected(fitted(CompositeLoss({name: (1.0, term)}), context.config.data.patch, INNER), doubt, 0.5)
        best = expected(plain(), doubt, 0.5).best
        if alone.at(0.5) > (1 - ALONE) * best:
            continue
        fair = weight * (1 - share) / share / 2
        yield Finding(
            code="P5",
            severity=Severity.warn,
            title=f"the term {name} at weight {weight:g} drowns the terms that know the labels",
            evidence=(
                f"it is {share:.0%} of the pull on a network's answers; by itself it leads to an expected Dice of "
                f"{alone.at(0.5):.3f}, soft Dice and cross-entropy to {best:.3f}"
            ),
            causes=(f"{name} does not tell surface from background by itself, and is too heavy to help",),
            remedies=(f"loss.terms.{name}.weight: {fair:.1g}, with which it pulls half as hard as the others",),
            where=context.where(f"loss.terms.{name}.weight"),
        )

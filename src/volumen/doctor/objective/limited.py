"""The best answer that an objective has where the truth is known in part only.

Free logits that see the truth reach it under almost any objective: weights and regularisers bite where a network is in
doubt. Here the same logits answer for many truths at once, the labels moved by random errors of their place, as Dice
and cross-entropy can expect a good mask of them. What the answer's mask can expect is compared between objectives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.objective.knowledge import Expected, expected_dice, sigma_for
from volumen.losses import PRECOMPUTE, CompositeLoss
from volumen.losses.terms import ClDice, CrossEntropy, Focal, SoftDice, Term

MARGIN = 4
"""Voxels of a patch, on each side, from which labels are moved in."""
TRUTHS, STEPS, RATE, LARGEST_LOGIT = 12, 60, 0.6, 8.0
AVERAGED = 1 / 3
"""Of the steps, the last ones, whose mean is the answer."""
LEANING = 1.0
"""Logit of the second start: a network that leans to surface where nothing tells it otherwise."""

EVERYWHERE = (SoftDice, CrossEntropy, Focal)
"""Terms that look at the label of every voxel."""


@dataclass(frozen=True)
class Doubt:
    """Patches whose truth is one of several."""

    targets: tuple[Tensor, ...]
    """Each uint8 [N, Z, Y, X]."""
    valid: tuple[Tensor, ...]
    ahead: tuple[Mapping[str, Tensor], ...]
    """Targets that terms require."""
    probability: NDArray[np.float64]
    """Share of the truths that call a voxel surface, [N, Z, Y, X]."""
    known: NDArray[np.bool_]
    """Where any truth is labelled, [N, Z, Y, X]."""


def doubt_of(labels: NDArray[np.uint8], dice: float, requires: tuple[str, ...] = (), seed: int = 0) -> Doubt:
    """Truths of label patches, moved so far that the best mask can expect this Dice.

    Args:
        labels: Canonical codes [N, Z, Y, X]; a margin of 4 voxels is lost.
        dice: What is known of the truth.
        requires: Targets that terms want ahead.
        seed: Of the moves, which come in opposite pairs.
    """
    sigma, random = sigma_for(labels, dice), np.random.default_rng(seed)
    inner = [side - 2 * MARGIN for side in labels.shape[1:]]
    truths = []
    for move in random.normal(0, sigma, (TRUTHS // 2, len(labels), 3)):
        for sign in (1, -1):
            starts = MARGIN + np.clip(np.rint(sign * move), -MARGIN, MARGIN).astype(int)
            cuts = [tuple(slice(a, a + n) for a, n in zip(one, inner, strict=True)) for one in starts]
            truths.append(np.stack([label[cut] for label, cut in zip(labels, cuts, strict=True)]))
    targets = tuple(torch.from_numpy((one == SURFACE).astype(np.uint8)) for one in truths)
    valid = tuple(torch.from_numpy(one != IGNORE) for one in truths)
    ahead = tuple(
        {
            name: torch.from_numpy(
                np.stack([PRECOMPUTE[name](a, b) for a, b in zip(target.numpy(), known.numpy(), strict=True)])
            )
            for name in requires
        }
        for target, known in zip(targets, valid, strict=True)
    )
    seen = np.sum([one != IGNORE for one in truths], axis=0)
    surface = np.sum([one == SURFACE for one in truths], axis=0)
    return Doubt(targets, valid, ahead, surface / np.maximum(seen, 1), seen > 0)


def best_answer(objective: CompositeLoss, doubt: Doubt, leaning: float, steps: int = STEPS) -> NDArray[np.float64]:
    """The probabilities [N, Z, Y, X] to which an objective leads over all truths, from a constant logit."""
    logits = torch.full_like(doubt.targets[0].unsqueeze(1), leaning, dtype=torch.float32).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=RATE, betas=(0.9, 0.99))
    total, averaged = torch.zeros_like(logits), max(1, round(AVERAGED * steps))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - 0.9 * step / steps)
        number = step * 5 % len(doubt.targets)  # opposite moves are not neighbours
        optimiser.zero_grad()
        found = objective(logits, doubt.targets[number], doubt.valid[number], precomputed=doubt.ahead[number])
        torch.autograd.backward(found.total)
        optimiser.step()
        with torch.no_grad():
            logits.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)
            if step >= steps - averaged:
                total += logits
    answer: NDArray[np.float64] = torch.sigmoid(total / averaged).detach().squeeze(1).double().numpy()
    return answer


def expected(objective: CompositeLoss, doubt: Doubt, threshold: float) -> Expected:
    """What masks of the best answer can expect.

    An objective without a term that looks at every voxel leaves some as they were: of a start at the share of surface
    and one that leans to it, the one that does worse counts.
    """
    known = doubt.known
    everywhere = any(isinstance(term, EVERYWHERE) for _, term in objective.terms.values())
    share = float(np.clip(doubt.probability[known].mean(), 1e-3, 1 - 1e-3))
    found = [
        expected_dice(best_answer(objective, doubt, start)[known], doubt.probability[known])
        for start in (float(np.log(share / (1 - share))), LEANING)[: 1 if everywhere else 2]
    ]
    return min(found, key=lambda one: one.at(threshold))


def fitted(objective: CompositeLoss, patch: tuple[int, ...], inner: tuple[int, ...]) -> CompositeLoss:
    """The objective with constants that count voxels of a patch made as large on a smaller one."""
    factor = float(np.prod(inner) / np.prod(patch))
    return CompositeLoss(
        {
            name: (weight, _scaled(term, min(factor, 1.0)))
            for name, (weight, term) in objective.terms.items()
            if weight > 0
        }
    )


def _scaled(term: Term, factor: float) -> Term:
    if isinstance(term, SoftDice | ClDice):
        return replace(term, smooth=max(term.smooth * factor, 1e-6))
    return term


def plain() -> CompositeLoss:
    """The objective that others are held against: soft Dice and cross-entropy."""
    return CompositeLoss({"soft_dice": (1.0, SoftDice()), "cross_entropy": (1.0, CrossEntropy())})

"""The operating point of an objective: at which true probability does its best answer turn to surface?

A voxel that is surface with probability q has no right answer but a best one, p*(q): the prediction that minimises the
expected loss. The ordinary cross-entropy says p* = q and so calls surface what is more likely surface than not. Class
weights, focal alpha and Dice move that point: the share of surface that a model will predict is decided here, before
any training. The population of q is that of the data set's own labels, made uncertain by blurring them.

Terms that look at neighbourhoods (clDice, connectivity, medial recall, merges, signed distance) have no expected value
voxel by voxel; they are named in `left_out`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from volumen.data.labels import IGNORE, SURFACE
from volumen.losses import CompositeLoss
from volumen.losses.terms import Boundary, CrossEntropy, Entropy, Focal, SoftDice, Variance

BINS = 101
BLUR_VOXELS = 1.5
"""How uncertain the place of a surface is taken to be: about half the thickness of a sheet."""


LEAST_SHARE = 1e-7
"""Of a bin that holds no voxel: too little to change the others' answers, enough to have one of its own."""


@dataclass(frozen=True)
class Population:
    """How many voxels have which probability of being surface."""

    probability: NDArray[np.float64]
    """Centres of the bins, [K]."""
    share: NDArray[np.float64]
    """Share of the valid voxels, [K], with the sum 1."""

    @property
    def surface_share(self) -> float:
        """Expected share of surface."""
        return float(self.share @ self.probability)


@dataclass(frozen=True)
class OperatingPoint:
    """What an objective asks for."""

    population: Population
    answer: NDArray[np.float64]
    """p*, the best prediction for each bin of the population, [K]."""
    left_out: tuple[str, ...]
    """Terms that have no expected value voxel by voxel."""

    def crossing(self, threshold: float = 0.5) -> float:
        """The least true probability whose best answer is above the threshold; 1 if there is none."""
        above = np.flatnonzero(self.answer > threshold)
        return float(self.population.probability[above[0]]) if above.size else 1.0

    def asked_share(self, threshold: float = 0.5) -> float:
        """Share of the voxels that the best answer calls surface."""
        return float(self.population.share[self.answer > threshold].sum())


def population_of(labels: NDArray[np.uint8]) -> Population:
    """The population of label patches, uint8 canonical codes [N, Z, Y, X], with their surfaces blurred."""
    centres = np.linspace(0.0, 1.0, BINS)
    counts = np.zeros(BINS)
    for label in labels:
        valid = label != IGNORE
        weight = ndimage.gaussian_filter(valid.astype(np.float64), BLUR_VOXELS)
        blurred = ndimage.gaussian_filter((label == SURFACE).astype(np.float64), BLUR_VOXELS)
        probability = blurred[valid] / np.maximum(weight[valid], 1e-9)
        counts += np.bincount(np.rint(probability * (BINS - 1)).astype(int).clip(0, BINS - 1), minlength=BINS)
    return Population(centres, counts / max(counts.sum(), 1))


def operating_point(objective: CompositeLoss, population: Population) -> OperatingPoint | None:
    """The best answers of an objective; None where none of its terms has an expected value voxel by voxel."""
    probability, share = torch.from_numpy(population.probability), torch.from_numpy(population.share)
    share = (share + LEAST_SHARE) / (share + LEAST_SHARE).sum()
    parts: list[tuple[float, Callable[[Tensor], Tensor]]] = []
    left_out = []
    for name, (weight, term) in objective.terms.items():
        expected = _expected(term, probability, share)
        if expected is None:
            left_out.append(name)
        else:
            parts.append((weight, expected))
    if not parts:
        return None

    def total(logits: Tensor) -> Tensor:
        return torch.stack([weight * part(logits) for weight, part in parts]).sum()

    clamped = probability.clamp(1e-4, 1 - 1e-4)
    best, least = clamped, math.inf
    for start in (torch.logit(clamped), torch.zeros(BINS, dtype=torch.float64), 4 * (2 * clamped - 1)):
        logits = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(600):
            optimiser.zero_grad()
            value = total(logits)
            # Bins that hold few voxels have a small gradient; without this they would stay where they started.
            torch.autograd.backward(value)
            logits.grad = logits.grad / share.clamp(min=1e-9) if logits.grad is not None else None
            optimiser.step()
            with torch.no_grad():
                logits.clamp_(-12, 12)
        if float(value.detach()) < least:
            best, least = torch.sigmoid(logits.detach()), float(value.detach())
    return OperatingPoint(population, best.numpy(), tuple(left_out))


def _expected(term: object, probability: Tensor, share: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The expected value of a term over the population, as a function of the logits of its bins."""
    if isinstance(term, CrossEntropy | Focal):
        gamma = term.gamma if isinstance(term, Focal) else 0.0
        background, surface = term.factors
        return lambda logits: (
            share
            @ (surface * probability * _focal(logits, gamma) + background * (1 - probability) * _focal(-logits, gamma))
        )
    if isinstance(term, Boundary):
        return lambda logits: share @ (probability * _focal(logits, 0.0) + (1 - probability) * _focal(-logits, 0.0))
    if isinstance(term, SoftDice):

        def dice(logits: Tensor) -> Tensor:
            answer = torch.sigmoid(logits)
            return 1 - 2 * (share @ (answer * probability)) / (share @ (answer + probability)).clamp(min=1e-12)

        return dice
    if isinstance(term, Variance):

        def variance(logits: Tensor) -> Tensor:
            answer = torch.sigmoid(logits)
            mean = share @ answer
            return (1 - (share @ (answer - mean).square())).square()

        return variance
    if isinstance(term, Entropy):
        minimum = term.minimum

        def entropy(logits: Tensor) -> Tensor:
            answer = torch.sigmoid(logits)
            mean = share @ (answer * _focal(logits, 0.0) + (1 - answer) * _focal(-logits, 0.0))
            return (minimum - mean).clamp(min=0)

        return entropy
    return None


def _focal(logits: Tensor, gamma: float) -> Tensor:
    """Loss of surface voxels at these logits: -(1 - p)^gamma log p."""
    loss = functional.softplus(-logits)
    return loss if gamma == 0 else loss * torch.sigmoid(-logits) ** gamma

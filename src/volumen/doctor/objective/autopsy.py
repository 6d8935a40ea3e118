"""Loss autopsy: what an objective can reach on real labels, and what its own best answer looks like.

No network takes part. Logits are free numbers, one a voxel, on label patches of the data set: what even they cannot
reach, no training can. From four values of every term and of their weighted sum - the least over free logits (floor),
at the perfect prediction, and the least over constant predictions (baseline) - follows the scale on which any loss can
be read: progress r = (loss - floor) / (baseline - floor), 1 for the best constant, 0 for the best attainable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.criteria import quantity_of
from volumen.data.labels import IGNORE, SURFACE
from volumen.losses import PRECOMPUTE, CompositeLoss
from volumen.metrics import leaderboard, overlap

CERTAIN = 16.0
"""Logit of the perfect prediction: a probability of 1 - 1e-7."""
CONSTANT_LOGITS = np.linspace(-8.0, 8.0, 33)
SHUFFLED_LOGIT = 3.0
SMALL = 1e-3
"""Share of the best constant's value below which a perfect prediction is as good as the floor."""
TOTAL = "total"


@dataclass(frozen=True)
class Range:
    """Where the values of a term, or of the weighted sum, can lie on these labels."""

    name: str
    weight: float
    floor: float
    """Least value found over free logits."""
    perfect: float
    """At the perfect prediction."""
    baseline: float
    """Least value over constant predictions."""
    baseline_probability: float
    """The constant that reaches it."""
    all_background: float
    all_surface: float
    prior: float
    """At the constant probability that equals the labels' surface share."""
    shuffled: float
    """At the confident prediction of another patch's labels."""

    @property
    def conflict(self) -> float:
        """How much worse than its floor the term is at the perfect prediction."""
        return self.perfect - self.floor

    def progress(self, loss: float) -> float:
        """A value on the scale on which 1 is the best constant and 0 the best attainable."""
        return (loss - self.floor) / max(self.baseline - self.floor, 1e-12)


@dataclass(frozen=True)
class Optimum:
    """The mask that the sum's own best logits give, held against the truth."""

    dice: float
    predicted_share: float
    true_share: float
    leaderboard: float
    masks: NDArray[np.uint8] = field(repr=False, compare=False)
    """Its mask of every patch, uint8 [N, Z, Y, X]."""


@dataclass(frozen=True)
class Autopsy:
    """What is known of an objective before any training."""

    terms: tuple[Range, ...]
    total: Range
    optimum: Optimum
    patches: int
    patch: tuple[int, int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the masks."""
        plain = asdict(replace(self, optimum=replace(self.optimum, masks=np.zeros(0, np.uint8))))
        del plain["optimum"]["masks"]
        return plain

    def range_of(self, quantity: str) -> Range | None:
        """The range of the validation's loss (the sum) or of one of its terms; None for another quantity."""
        known = quantity_of(quantity)
        name = "" if known is None else known.name
        if name == "val.loss":
            return self.total
        return next((term for term in self.terms if name == f"val.term.{term.name}"), None)


def autopsy(objective: CompositeLoss, labels: NDArray[np.uint8], *, steps: int = 80, seed: int = 0) -> Autopsy:
    """Measure an objective on label patches.

    Args:
        objective: terms and weights.
        labels: canonical codes, uint8 [N, Z, Y, X].
        steps: of the minimisation over free logits, from each start.
        seed: of the random starts.
    """
    probe = Probe(objective, labels)
    landmarks = {
        "perfect": probe.at(probe.perfect),
        "all_background": probe.at(torch.full_like(probe.perfect, -CERTAIN)),
        "all_surface": probe.at(torch.full_like(probe.perfect, CERTAIN)),
        "prior": probe.at(torch.full_like(probe.perfect, logit(probe.surface_share))),
        "shuffled": probe.at(SHUFFLED_LOGIT * torch.sign(probe.perfect.roll(1, 0).flip(2))),
    }
    tried = (*CONSTANT_LOGITS.tolist(), logit(probe.surface_share))
    constants = {logit: probe.at(torch.full_like(probe.perfect, logit)) for logit in tried}
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(probe.perfect.shape, generator=generator)
    starts = (0.2 * CERTAIN * torch.sign(probe.perfect), 2.0 * noise, logit(probe.surface_share) + 0.1 * noise)
    seen = [*landmarks.values(), *constants.values()]

    def least(name: str, starts: Sequence[Tensor]) -> tuple[Tensor, float]:
        """Minimised, unless the perfect prediction has it all: no term is ever below 0."""
        if landmarks["perfect"][name] < SMALL * min(values[name] for values in constants.values()):
            return probe.perfect, landmarks["perfect"][name]
        return probe.minimise(name, starts, steps)

    best_logits, floor = least(TOTAL, starts)
    ranges = {}
    for name in (*objective.terms, TOTAL):
        lowest = floor if name == TOTAL else least(name, starts[:2])[1]
        constant = min(constants, key=lambda logit: constants[logit][name])
        ranges[name] = Range(
            name=name,
            weight=1.0 if name == TOTAL else objective.terms[name][0],
            floor=min(lowest, *(values[name] for values in seen)),
            baseline=constants[constant][name],
            baseline_probability=sigmoid(constant),
            **{landmark: values[name] for landmark, values in landmarks.items()},
        )
    if ranges[TOTAL].perfect <= floor:
        best_logits = probe.perfect
    total = ranges.pop(TOTAL)
    _, z, y, x = labels.shape
    return Autopsy(tuple(ranges.values()), total, _optimum(best_logits, labels), len(labels), (z, y, x))


class Probe:
    """An objective on fixed labels as a function of the logits."""

    def __init__(self, objective: CompositeLoss, labels: NDArray[np.uint8]) -> None:
        codes = torch.from_numpy(np.ascontiguousarray(labels))
        self.objective, self.labels = objective, labels
        self.target, self.valid = (codes == SURFACE).to(torch.uint8), codes != IGNORE
        self.perfect = CERTAIN * (2.0 * self.target.float() - 1).unsqueeze(1)
        valid = int(self.valid.sum())
        self.surface_share = min(max(int((self.target * self.valid).sum()) / max(valid, 1), 1e-4), 1 - 1e-4)
        self.precomputed: Mapping[str, Tensor] = self._targets()

    def _targets(self) -> dict[str, Tensor]:
        pairs = list(zip(self.target.numpy(), self.valid.numpy(), strict=True))
        return {
            name: torch.from_numpy(np.stack([PRECOMPUTE[name](target, valid) for target, valid in pairs]))
            for name in self.objective.requires
        }

    def at(self, logits: Tensor) -> dict[str, float]:
        """Raw values of the terms and the total."""
        with torch.no_grad():
            parts = self.objective(logits, self.target, self.valid, precomputed=self.precomputed)
        return {**{name: float(value) for name, value in parts.raw.items()}, TOTAL: float(parts.total)}

    def minimise(self, name: str, starts: Sequence[Tensor], steps: int) -> tuple[Tensor, float]:
        """The logits with the least value of a term or of the total, and that value."""
        objective = self.objective if name == TOTAL else CompositeLoss({name: (1.0, self.objective.terms[name][1])})
        best, least = starts[0], float("inf")
        for start in starts:
            logits = start.clone().requires_grad_()
            optimiser = torch.optim.Adam([logits], lr=0.5, betas=(0.9, 0.99))
            for _ in range(steps):
                optimiser.zero_grad()
                value = objective(logits, self.target, self.valid, precomputed=self.precomputed).total
                current = float(value.detach())
                if current < least:
                    best, least = logits.detach().clone(), current
                torch.autograd.backward(value)
                optimiser.step()
        return best, least


def _optimum(logits: Tensor, labels: NDArray[np.uint8]) -> Optimum:
    masks = (logits.squeeze(1) > 0).numpy().astype(np.uint8)
    counts = overlap(masks.reshape(-1, *masks.shape[2:]), labels.reshape(-1, *labels.shape[2:]))
    scores = [leaderboard(mask, label).score for mask, label in zip(masks, labels, strict=True)]
    return Optimum(counts.dice, counts.predicted_share, counts.true_share, float(np.mean(scores)), masks)


def logit(probability: float) -> float:
    """The logit of a probability."""
    return float(np.log(probability / (1 - probability)))


def sigmoid(value: float) -> float:
    """The probability of a logit."""
    return float(1 / (1 + np.exp(-value)))

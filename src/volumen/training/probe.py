"""A closer look at a step now and then: what would cost too much to look at in each.

A probe changes nothing: it draws no random number, looks with the network in evaluation mode, and leaves weights,
gradients and statistics as they were. Its own cost is about that of one step.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volumen.losses import CompositeLoss
from volumen.runtime import Precision

FIRST_STEP = 8
"""The first step that is looked at; early, since much that is wrong is wrong from the start."""
_FLAT = 1e-6  # a channel whose spread is below this share of the layer's largest, or of 1, carries nothing
_TINY = 1e-12
Record = dict[str, Any]


def is_due(step: int, every: int | None) -> bool:
    """Whether step `step` (from 0) is looked at."""
    return every is not None and step >= FIRST_STEP and (step - FIRST_STEP) % every == 0


@dataclass
class Probe:
    """Looks at a step and at the one after it, whose gradient is compared with the first one's.

    `around` is entered for every step; it does nothing unless the step is due.
    """

    model: nn.Module
    precision: Precision
    device: torch.device
    every: int | None
    write: Callable[[Record], None]
    """Told the record, under the step that is current when it is complete."""
    ranks: int = 1
    """Processes that each hold such a part of the batch; what is looked at is this one's."""
    _record: Record | None = None
    _gradient: dict[str, Tensor] = field(default_factory=dict)

    @contextmanager
    def around(self, step: int, batch: Mapping[str, Any], objective: CompositeLoss, last: bool) -> Iterator[None]:
        """Look at what happens inside, where the step is due.

        Args:
            step: Of the run, from 0.
            batch: As `training_step` takes it.
            objective: Of the step.
            last: Whether the epoch ends with it, so that no other gradient will follow.
        """
        due = is_due(step, self.every)
        before = self._weights() if due else {}
        if due:
            self._record = {"batch": len(batch["image"]) * self.ranks, **self._look(batch, objective)}
        yield
        if self._record is None:
            return
        if due:
            self._record |= self._update(before)
            self._gradient = {name: gradient.clone() for name, gradient in self._gradients()}
            if not last:
                return
        else:
            self._record |= self._noise()
        self.write(self._record)
        self._record, self._gradient = None, {}

    @property
    def is_looking(self) -> bool:
        """Whether the step that is made now is looked at, or compared with the one before."""
        return self._record is not None

    def forget(self) -> None:
        """Leave out the look that is under way, because the run has gone back."""
        self._record, self._gradient = None, {}

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, one.grad) for name, one in self.model.named_parameters() if one.grad is not None)

    def _update(self, before: Mapping[str, Tensor]) -> Record:
        """Size of gradient and update of every parameter."""
        changes, gradients, frozen = {}, {}, []
        for name, weight in self.model.named_parameters():
            old = before[name]
            changes[name] = _number((weight.detach() - old).norm() / old.norm().clamp(min=_TINY))
            gradients[name] = 0.0 if weight.grad is None else _number(weight.grad.norm())
            if not weight.requires_grad:
                frozen.append(name)
        return {"update_ratio": changes, "gradient": gradients, "frozen": frozen}

    def _noise(self) -> Record:
        """Two gradients of different patches at almost the same weights: what they share is signal, the rest noise."""
        inner = one = other = 0.0
        for name, gradient in self._gradients():
            if name in self._gradient:
                inner += float((gradient * self._gradient[name]).sum())
                one, other = one + float(gradient.norm()) ** 2, other + float(self._gradient[name].norm()) ** 2
        cosine = inner / max(math.sqrt(one * other), _TINY)
        return {"gradient_cosine": _number(cosine)}

    def _look(self, batch: Mapping[str, Any], objective: CompositeLoss) -> Record:
        """Outputs, terms, channels, and what is left without the image's structure."""
        image = batch["image"].to(self.device, memory_format=self.precision.memory_format)
        target, valid = batch["target"].to(self.device), batch["valid"].to(self.device)
        targets = {name: batch[name].to(self.device) for name in objective.requires if name in batch}
        was_training, dead = self.model.training, dict[str, float]()
        self.model.eval()
        try:
            with _watched_channels(self.model, dead):
                logits = self._logits(image)
            total, terms = _terms(objective, logits, target, valid, targets)
            order = torch.from_numpy(np.random.default_rng(0).permutation(image[0, 0].numel())).to(self.device)
            mixed = image.flatten(2)[..., order].reshape(image.shape)
            shuffled = self._logits(mixed.contiguous(memory_format=self.precision.memory_format))
            with torch.no_grad():
                worse = float(objective(shuffled, target, valid, precomputed=targets).total)
        finally:
            self.model.train(was_training)
        return {
            "dead_share": dead,
            **terms,
            "loss": _number(total),
            "shuffled_loss": _number(worse),
            "moved": _number((torch.sigmoid(shuffled.float()) - torch.sigmoid(logits.float())).abs().mean()),
            "image": _grey_values(image),
            "probability": _probabilities(logits, target, valid),
        }

    @torch.no_grad()
    def _logits(self, image: Tensor) -> Tensor:
        with self.precision.autocast():
            logits = self.model(image)
        finest: Tensor = logits[0] if isinstance(logits, list | tuple) else logits
        return finest.detach()


@contextmanager
def _watched_channels(model: nn.Module, dead: dict[str, float]) -> Iterator[None]:
    """Note the share of channels without spread of every layer that is called inside."""

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 5 and output.shape[1] > 1:
                spread = output.detach().float().std(dim=(0, 2, 3, 4))
                limit = _FLAT * max(1.0, float(spread.max()))
                dead[name] = float((spread <= limit).float().mean())

        return hook

    leaves = [(name, part) for name, part in model.named_modules() if not any(part.children())]
    handles = [part.register_forward_hook(note(name)) for name, part in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _terms(
    objective: CompositeLoss, logits: Tensor, target: Tensor, valid: Tensor, targets: Mapping[str, Tensor]
) -> tuple[float, Record]:
    """The total, and how the terms share and dispute the gradient on the logits."""
    free = logits.clone().requires_grad_()
    with torch.enable_grad():
        found = objective(free, target, valid, precomputed=targets)
        gradients = {}
        for name, value in found.weighted.items():
            if value.requires_grad:
                gradients[name] = torch.autograd.grad(value, free, retain_graph=True, allow_unused=True)[0]
    norms = dict.fromkeys(found.weighted, 0.0)
    norms |= {name: float(one.norm()) for name, one in gradients.items() if one is not None}
    mass = sum(norms.values())
    cosines = {
        f"{one}|{other}": _number(
            float((gradients[one] * gradients[other]).sum()) / max(norms[one] * norms[other], _TINY)
        )
        for one, other in combinations(norms, 2)
        if norms[one] > 0 and norms[other] > 0
    }
    shares = {name: _number(norm / max(mass, _TINY)) for name, norm in norms.items()}
    return float(found.total.detach()), {"term_mass": shares, "term_cosine": cosines}


def _probabilities(logits: Tensor, target: Tensor, valid: Tensor) -> dict[str, float | None]:
    """What is predicted, over the labelled voxels of the batch, beside what is true there."""
    chosen = [torch.sigmoid(one[0][known].float()) for one, known in zip(logits, valid, strict=True) if known.any()]
    truth = [label[known].float() for label, known in zip(target > 0, valid, strict=True) if known.any()]
    if not chosen:
        return {}
    values, labels = torch.cat(chosen), torch.cat(truth)
    held = values.clamp(_TINY, 1 - 1e-7)
    entropy = -(held * held.log() + (1 - held) * (1 - held).log()).mean()
    surface = labels > 0
    found = {
        "mean": values.mean(),
        "least": values.min(),
        "most": values.max(),
        "spread": values.std(correction=0),
        "between": torch.stack([one.mean() for one in chosen]).std(correction=0),
        "entropy": entropy,
        "above_half": (values > 0.5).float().mean(),
        "true_mean": labels.mean(),
        "true_between": torch.stack([one.mean() for one in truth]).std(correction=0),
    }
    if surface.any() and not surface.all():
        found["gap"] = values[surface].mean() - values[~surface].mean()
    return {name: _number(value) for name, value in found.items()}


def _grey_values(image: Tensor) -> dict[str, float | None]:
    """What reaches the network, over all voxels of the batch."""
    values = image.detach().float()
    found = {"mean": values.mean(), "spread": values.std(correction=0), "least": values.min(), "most": values.max()}
    return {name: _number(value) for name, value in found.items()}


def _number(value: Tensor | float) -> float | None:
    """For a record; None where it is not finite."""
    plain = float(value)
    return float(f"{plain:.6g}") if math.isfinite(plain) else None

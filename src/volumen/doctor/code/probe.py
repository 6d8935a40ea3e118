"""A loss of any form as a function of free logits on labels with known truth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from volumen.doctor.code.kept import seed_all
from volumen.doctor.code.subject import Output, Subject, finest, like
from volumen.errors import UserError

SIDES = {2: 64, 3: 24}
"""Voxels of a synthetic patch by number of axes."""
DIVISOR = 16
CONFIDENCES = ((40.0, 80.0), (7.0, 14.0))
"""Logits of certain answers; the second where the first are not finite."""


def sheets(shape: tuple[int, ...], classes: int = 2, seed: int = 0) -> NDArray[np.int64]:
    """Wavy sheets, about a fifth of the voxels, by their class: int64 of `shape`, background 0."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    phases, tilt = random.uniform(0, 6.3, len(axes)), random.uniform(-0.4, 0.4, len(axes))
    height = axes[0] + sum(t * axis for t, axis in zip(tilt, axes, strict=True))
    height = height + sum(1.5 * np.sin(axis / 7 + phase) for axis, phase in zip(axes, phases, strict=True))
    number = np.floor(height / 10).astype(np.int64)
    return np.where(height % 10 < 2.2, 1 + number % max(classes - 1, 1), 0)


@dataclass(frozen=True)
class Form:
    """How the loss wants its target."""

    layout: str
    """plain [N, ...], channel [N, 1, ...] or onehot [N, K, ...]."""
    dtype: torch.dtype

    def encode(self, truth: Tensor, classes: int) -> Tensor:
        """A target of class numbers [N, ...]; what is ignored keeps its number."""
        if self.layout == "onehot":
            known = truth.clamp(0, classes - 1)
            hot = functional.one_hot(known, classes).movedim(-1, 1)
            lost = (truth != known).unsqueeze(1)
            return torch.where(lost, truth.unsqueeze(1), hot).to(self.dtype)
        return (truth if self.layout == "plain" else truth.unsqueeze(1)).to(self.dtype)


class Probe:
    """The loss on synthetic sheets.

    Raises:
        UserError: It cannot be called with any form of output and target that is known.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.channels = subject, subject.channels
        self.classes = max(self.channels, 2)
        axes = subject.batch.image.ndim - 2 if subject.batches else 3
        self.heads = self._heads(axes)
        side = SIDES[axes] if self.heads is None else -(-SIDES[axes] // DIVISOR) * DIVISOR
        self.shape = (side,) * axes
        patches = [sheets(self.shape, self.classes, seed) for seed in range(2)]
        self.truth = torch.from_numpy(np.stack(patches)).to(subject.device)
        self.epoch = 0
        self.form, self.parted = self._form()
        self.wants = "logits"
        self.certain = 16.0
        self.wants = self._wants()

    def _heads(self, axes: int) -> Output:
        """The model's output in training mode, where it is more than one tensor."""
        subject = self.subject
        if subject.model is None or not subject.batches:
            return None
        template = subject.template
        return None if isinstance(template, Tensor) and template.ndim == axes + 2 else template

    def output(self, logits: Tensor, *, parted: bool | None = None) -> Output:
        """What a network would give for logits [N, C, ...]: several heads where it has them."""
        answer = self.answer(logits)
        if self.heads is None or not (self.parted if parted is None else parted):
            return answer
        largest = finest(self.heads).shape[2:]

        def head(one: Tensor) -> Tensor:
            if one.ndim == logits.ndim + 1:  # heads stacked along an axis of their own
                return answer.unsqueeze(1).expand(-1, one.shape[1], *answer.shape[1:])
            shape = [max(1, side * a // b) for side, a, b in zip(self.shape, one.shape[2:], largest, strict=True)]
            return functional.interpolate(answer, size=shape, mode="area")

        return like(self.heads, lambda one: head(one) if one.ndim >= logits.ndim else one)

    def answer(self, logits: Tensor) -> Tensor:
        """Logits as the loss wants them."""
        if self.wants == "probabilities":
            return logits.sigmoid() if self.channels == 1 else logits.softmax(1)
        return logits.log_softmax(1) if self.wants == "log_probabilities" else logits

    def logits(self, truth: Tensor, certainty: float) -> Tensor:
        """Logits [N, C, ...] that say a truth."""
        if self.channels == 1:
            return certainty * (2.0 * (truth > 0).float() - 1).unsqueeze(1)
        hot = functional.one_hot(truth.clamp(0, self.classes - 1), self.classes).movedim(-1, 1).float()
        return certainty * (2 * hot - 1)

    @property
    def wrong(self) -> Tensor:
        """Another class at every voxel."""
        return (self.truth + 1) % self.classes

    def target(self, truth: Tensor) -> Tensor:
        """As the loss wants it."""
        return self.form.encode(truth, self.classes)

    def value(self, logits: Tensor, truth: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """The loss of logits, with the same random numbers at each call."""
        seed_all(self.subject.seed)
        target = self.target(self.truth if truth is None else truth)
        shown = valid if valid is None or self.form.layout == "plain" else valid.unsqueeze(1).expand_as(target)
        return self.subject.value(self.output(logits), target, shown, self.epoch)

    def at(self, logits: Tensor, truth: Tensor | None = None, valid: Tensor | None = None) -> float:
        """The same as a number; NaN where the loss refuses."""
        try:
            with torch.no_grad():
                return float(self.value(logits, truth, valid))
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError):
            return math.nan

    def slope(self, logits: Tensor, truth: Tensor | None = None, valid: Tensor | None = None) -> tuple[float, Tensor]:
        """The loss and its gradient with respect to the logits; zeros where it has none."""
        free = logits.detach().clone().requires_grad_()
        value = self.value(free, truth, valid)
        if not value.requires_grad:
            return float(value.detach()), torch.zeros_like(logits)
        (found,) = torch.autograd.grad(value, free, allow_unused=True)
        return float(value.detach()), torch.zeros_like(logits) if found is None else found

    def _forms(self) -> Iterator[Form]:
        if self.subject.batches:
            batch = self.subject.batch
            if batch.target.ndim == batch.image.ndim - 1:
                layout = "plain"
            else:
                layout = "channel" if batch.target.shape[1] == 1 else "onehot"
            yield Form(layout, batch.target.dtype)
            return
        if self.channels == 1:
            for layout in ("channel", "plain"):
                yield from (Form(layout, dtype) for dtype in (torch.float32, torch.int64))
            return
        yield from (Form("plain", torch.int64), Form("channel", torch.int64), Form("onehot", torch.float32))

    def _form(self) -> tuple[Form, bool]:
        """The form of target, and whether the loss takes all heads, by which it tells right from wrong the best."""
        found: dict[tuple[Form, bool], float] = {}
        said = ""
        for form in self._forms():
            for parted in (True, False) if self.heads is not None else (True,):
                self.form, self.parted = form, parted
                self.wants = "logits"
                values = []
                for wants in ("logits", "probabilities"):
                    self.wants = wants
                    try:
                        with torch.no_grad():
                            values.append(
                                (
                                    float(self.value(self.logits(self.truth, 3.0))),
                                    float(self.value(self.logits(self.wrong, 3.0))),
                                )
                            )
                    except UserError as error:
                        said = said or str(error)
                    except Exception as error:  # whatever a loss raises says that it wants another form
                        said = said or f"{type(error).__name__}: {error}"
                apart = [abs(one - other) for one, other in values]
                if apart and (form, parted) not in found:
                    found[form, parted] = max((one for one in apart if math.isfinite(one)), default=0.0)
                if parted and apart:
                    break
        if not found:
            raise UserError(
                f"the loss cannot be called as loss(output, target) with output [N, {self.channels}, ...] and any "
                f"known form of target: {said[:300]}. Give classes=, batches= with your own targets, or a function "
                "loss(output, target)"
            )
        return max(found, key=lambda one: found[one])

    def _wants(self) -> str:
        """Whether the loss takes logits, probabilities or their logarithms; or unknown."""
        hot = self.logits(self.truth, 1.0).clamp(min=0)
        cold = self.logits(self.wrong, 1.0).clamp(min=0)
        right, other, middle = self.at(hot), self.at(cold), self.at(torch.zeros_like(hot))
        found = "unknown"
        for certain, more in CONFIDENCES:
            low, lower, high = (
                self.at(self.logits(t, c))
                for t, c in ((self.truth, certain), (self.truth, more), (self.wrong, certain))
            )
            if not math.isfinite(low + lower):
                continue
            if certain < CONFIDENCES[0][0]:
                self.certain = certain
            room = max(abs(middle - low) if math.isfinite(middle) else 0.0, 1e-6)
            if abs(lower - low) > 0.05 * room:
                linear = abs((lower - low) - (low - middle)) < 0.3 * abs(low - middle) and lower < low
                found = "log_probabilities" if linear and self.channels > 1 else "probabilities"
                if found == "probabilities" and self.at(self.logits(self.truth, 3.0)) < right - 1e-3 * room:
                    found = "logits"  # better than any answer between 0 and 1, and not too sure: smoothed labels
                elif found == "probabilities" and not right < other:
                    found = "unknown"
            elif math.isfinite(right) and abs(right - low) <= 0.05 * room and abs(right - other) > 0.2 * room:
                found = "probabilities"  # it clamps what it is given
            elif math.isfinite(right) and abs(high - low) < 0.2 * abs(right - other):
                found = "probabilities"
            else:
                found = "logits"
            break
        else:
            if math.isfinite(right) and math.isfinite(other):
                found = "probabilities"
        if found == "probabilities":
            self.certain = min(self.certain, 12.0)
        return found


def describe(value: Any) -> str:
    """A number in a sentence."""
    return f"{value:.4g}"


def noise(probe: Probe) -> Tensor:
    """Logits without a meaning, the same at each call."""
    shape = (len(probe.truth), probe.channels, *probe.shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(probe.truth.device)

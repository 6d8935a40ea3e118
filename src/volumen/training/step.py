"""One optimisation step: forward, backward, check, clip, update.

A non-finite loss or gradient stops the step *before* the optimiser sees it, and says which term or parameter it came
from and in which cases. `training_step` reads the step's numbers and lets the host decide; `launch_step` waits for
nothing: a flag on the device decides, and the numbers are read when somebody wants them (`readings.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import SGD, Optimizer

from volumen.losses import CompositeLoss, LossBreakdown
from volumen.runtime import Precision
from volumen.training.recorded import Derived, Inputs, Recorder

Forward = Callable[[Tensor], Any]
"""Images to logits, as the model makes them; it may be a compiled form of the model."""


class NonFiniteError(RuntimeError):
    """A loss term or a gradient is NaN or infinite; the weights are those before the step."""


@dataclass(frozen=True)
class StepResult:
    """What one step did, as plain numbers."""

    total: float
    raw: dict[str, float]
    weighted: dict[str, float]
    gradient_norm: float
    clipped: bool
    predicted: int
    """Valid voxels with probability above 0.5."""
    true: int
    """Valid voxels of surface."""
    valid: int


@dataclass(frozen=True)
class Launched:
    """A step whose numbers are on the device; reading them waits for it."""

    terms: tuple[str, ...]
    numbers: Tensor
    """float64: total, raw values, weighted values, gradient norm, and counts of predicted, true and valid voxels."""
    limit: float
    """Of the gradient norm."""
    scaled: bool
    """Whether a loss scaler answers gradients that are not finite."""
    where: str
    gradients: Mapping[str, Tensor]
    """By parameter; or in a gradient's place the largest size in it, since a later step overwrites gradients."""

    def result(self, numbers: Sequence[float] | None = None) -> StepResult:
        """The step's result, from its `numbers` where they were copied to the host already.

        Raises:
            NonFiniteError: Loss or gradient; the update was not made, or is not to be.
        """
        total, *rest = self.numbers.tolist() if numbers is None else numbers
        count = len(self.terms)
        raw = dict(zip(self.terms, rest[:count], strict=True))
        weighted = dict(zip(self.terms, rest[count : 2 * count], strict=True))
        norm, predicted, true, valid = rest[2 * count :]
        if not math.isfinite(total):
            bad = [name for name, value in raw.items() if not math.isfinite(value)]
            raise NonFiniteError(f"the loss is not finite: term {', '.join(bad) or 'sum'}; {self.where}")
        if not (self.scaled or math.isfinite(norm)):
            raise NonFiniteError(f"the gradient is {norm}, first in {self._first_bad()}; {self.where}")
        return StepResult(total, raw, weighted, norm, norm > self.limit, int(predicted), int(true), int(valid))

    def _first_bad(self) -> str:
        for name, gradient in self.gradients.items():
            if not bool(torch.isfinite(gradient).all()):
                return name
        return "the norm's sum only (every gradient is finite, their squares overflow)"


class Guard:
    """A flag on the device: from the first number on that is not finite, no update is made until it is lowered.

    The optimiser is a fused one, which reads the flag on the device as a loss scaler's (`found_inf`).

    Args:
        model: Whose running statistics stay, too.
        device: Of the model.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.raised = torch.zeros((), device=device)
        """float32 scalar: 1 from the bad step on."""
        self.statistics = tuple(model.buffers())

    def watch(self, total: Tensor, norm: Tensor) -> None:
        """Raise the flag where loss or gradient norm is not finite."""
        bad = (torch.isfinite(total.detach()) & torch.isfinite(norm)).logical_not()
        torch.maximum(self.raised, bad.to(self.raised.dtype), out=self.raised)

    def update(self, optimiser: Optimizer) -> None:
        """Step, unless the flag is up; then weights, moments and their count of steps stay."""
        if isinstance(optimiser, SGD):
            _begin_momentum(optimiser)
        optimiser.found_inf = self.raised  # type: ignore[attr-defined]
        try:
            optimiser.step()
        finally:
            del optimiser.found_inf  # type: ignore[attr-defined]


def _begin_momentum(optimiser: SGD) -> None:
    """Zeros where a momentum is to begin: its first value is the gradient then, and no unwritten memory stays."""
    for group in optimiser.param_groups:
        for one in group["params"] if group["momentum"] else ():
            if one.grad is not None and optimiser.state[one].get("momentum_buffer") is None:
                optimiser.state[one]["momentum_buffer"] = torch.zeros_like(one)


def training_step(
    model: nn.Module,
    objective: CompositeLoss,
    optimiser: Optimizer,
    batch: Mapping[str, Any],
    *,
    precision: Precision,
    device: torch.device,
    gradient_clip: float | None,
    scaler: torch.amp.GradScaler | None = None,
    forward: Forward | None = None,
) -> StepResult:
    """Do one step and read what it did; the learning rate has been set by its owner already.

    Args:
        model: In training mode, on the device.
        objective: Terms and weights of this epoch.
        optimiser: Over the model's parameters.
        batch: `image` float32 [B, C, Z, Y, X], `target` uint8 [B, Z, Y, X], `valid` bool [B, Z, Y, X], precomputed
            targets by name, and `case` (names, for messages).
        precision: Autocast and memory format.
        gradient_clip: Largest global norm, or None.
        scaler: Loss scaling, for fp16 only.
        forward: In place of the model's own.

    Raises:
        NonFiniteError: Before the update.
    """
    launched, norm = _differentiate(
        forward or model, model, objective, optimiser, batch, precision, device, gradient_clip, scaler
    )
    try:
        result = launched.result()
    except NonFiniteError:
        if scaler is not None:  # forgets that its gradients were unscaled, and keeps its scale
            kept = scaler.state_dict()
            scaler.update()
            scaler.load_state_dict(kept)
        raise
    _clip(model, gradient_clip, norm)
    if scaler is None:
        if isinstance(optimiser, SGD) and optimiser.param_groups[0]["fused"]:
            _begin_momentum(optimiser)
        optimiser.step()
    else:  # the scaler itself leaves out a step whose fp16 gradients overflowed, and lowers its scale
        scaler.step(optimiser)
        scaler.update()
    return result


def launch_step(
    model: nn.Module,
    objective: CompositeLoss,
    optimiser: Optimizer,
    batch: Mapping[str, Any],
    *,
    precision: Precision,
    device: torch.device,
    gradient_clip: float | None,
    guard: Guard,
    forward: Forward | None = None,
    recorder: Recorder | None = None,
) -> Launched:
    """As `training_step`, but wait for nothing: `guard` decides on the device whether the update is made.

    With a `recorder`, forward and backward are what it recorded.
    """
    before = [one.clone() for one in guard.statistics]
    launched, norm = _differentiate(
        forward or model, model, objective, optimiser, batch, precision, device, gradient_clip, None, recorder
    )
    for now, old in zip(guard.statistics, before, strict=True):
        now.copy_(torch.where(guard.raised > 0, old, now))
    guard.watch(launched.numbers[0], norm)
    largest = torch._foreach_norm(list(launched.gradients.values()), math.inf)
    _clip(model, gradient_clip, norm)
    guard.update(optimiser)
    return replace(launched, gradients=dict(zip(launched.gradients, largest, strict=True)))


def _differentiate(
    forward: Forward,
    model: nn.Module,
    objective: CompositeLoss,
    optimiser: Optimizer,
    batch: Mapping[str, Any],
    precision: Precision,
    device: torch.device,
    gradient_clip: float | None,
    scaler: torch.amp.GradScaler | None,
    recorder: Recorder | None = None,
) -> tuple[Launched, Tensor]:
    """Forward and backward: the step's numbers, and the norm of the gradients, which are not clipped yet."""
    inputs = {name: batch[name].to(device, non_blocking=True) for name in objective.requires if name in batch}
    inputs["image"] = batch["image"].to(device, memory_format=precision.memory_format, non_blocking=True)
    inputs |= {name: batch[name].to(device, non_blocking=True) for name in ("target", "valid")}

    def derive(inputs: Inputs) -> Derived:
        return _derive(forward, model, objective, optimiser, precision, inputs, scaler)

    found = derive(inputs) if recorder is None else recorder.derive(objective, inputs, derive)
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    launched = Launched(
        terms=found.terms,
        numbers=found.numbers,
        limit=math.inf if gradient_clip is None else gradient_clip,
        scaled=scaler is not None,
        where=f"patches of {', '.join(map(str, batch['case']))}" if "case" in batch else "an unnamed batch",
        gradients=gradients,
    )
    return launched, found.norm


def _derive(
    forward: Forward,
    model: nn.Module,
    objective: CompositeLoss,
    optimiser: Optimizer,
    precision: Precision,
    inputs: Inputs,
    scaler: torch.amp.GradScaler | None,
) -> Derived:
    """Forward and backward of inputs on the device."""
    target, valid = inputs["target"], inputs["valid"]
    given = {name: inputs[name] for name in objective.requires if name in inputs}
    with precision.autocast():
        logits = forward(inputs["image"])
    breakdown = objective(logits, target, valid, precomputed=given)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(breakdown.total if scaler is None else scaler.scale(breakdown.total))
    if scaler is not None:
        scaler.unscale_(optimiser)
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    # As torch.nn.utils.get_total_norm has it, which does not say which gradient was bad.
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    finest = (logits[0] if isinstance(logits, list | tuple) else logits).detach()
    return Derived(tuple(breakdown.raw), _numbers(breakdown, norm, finest, target, valid), norm)


@torch.no_grad()
def _numbers(breakdown: LossBreakdown, norm: Tensor, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """All that is told of a step in one vector; float64 holds counts of voxels to the last digit."""
    losses = torch.stack([breakdown.total, *breakdown.raw.values(), *breakdown.weighted.values()])
    counts = torch.stack([((logits[:, 0] > 0) & valid).sum(), ((target > 0) & valid).sum(), valid.sum()])
    return torch.cat([losses.double(), norm.double().reshape(1), counts.double()])


def _clip(model: nn.Module, gradient_clip: float | None, norm: Tensor) -> None:
    if gradient_clip is not None:
        clip_grads_with_norm_(model.parameters(), gradient_clip, norm)

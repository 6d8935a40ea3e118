"""One optimisation step: forward, check, backward, check, clip, update.

A non-finite loss or gradient stops the step *before* the optimiser sees it, and says which term or parameter it came
from and in which cases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from volumen.losses import CompositeLoss, LossBreakdown
from volumen.runtime import Precision


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
    forward: Callable[[Tensor], Any] | None = None,
) -> StepResult:
    """Do one step; the learning rate has been set by its owner already.

    Args:
        model: In training mode, on the device.
        objective: Terms and weights of this epoch.
        optimiser: Over the model's parameters.
        batch: `image` float32 [B, C, Z, Y, X], `target` uint8 [B, Z, Y, X], `valid` bool [B, Z, Y, X], precomputed
            targets by name, and `case` (names, for messages).
        precision: Autocast and memory format.
        gradient_clip: Largest global norm, or None.
        scaler: Loss scaling, for fp16 only.
        forward: The model's forward pass, where that is more than calling it.

    Raises:
        NonFiniteError: Before the update.
    """
    image = batch["image"].to(device, memory_format=precision.memory_format)
    target, valid = batch["target"].to(device), batch["valid"].to(device)
    precomputed = {name: batch[name].to(device) for name in objective.requires if name in batch}
    with precision.autocast():
        logits = (forward or model)(image)
    breakdown = objective(logits, target, valid, precomputed=precomputed)
    _check_loss(breakdown, batch)
    optimiser.zero_grad(set_to_none=True)
    if scaler is None:
        torch.autograd.backward(breakdown.total)
    else:
        torch.autograd.backward(scaler.scale(breakdown.total))
        scaler.unscale_(optimiser)
    limit = float("inf") if gradient_clip is None else gradient_clip
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), limit))
    if scaler is None:
        if not _finite(norm):
            raise NonFiniteError(f"the gradient is {norm}, first in {_first_bad_gradient(model)}; {_where(batch)}")
        optimiser.step()
    else:  # the scaler itself leaves out a step whose fp16 gradients overflowed, and lowers its scale
        scaler.step(optimiser)
        scaler.update()
    finest = logits[0] if isinstance(logits, list | tuple) else logits
    return _result(breakdown, finest.detach(), target, valid, norm, norm > limit)


def _result(
    breakdown: LossBreakdown, logits: Tensor, target: Tensor, valid: Tensor, norm: float, clipped: bool
) -> StepResult:
    predicted = (logits[:, 0] > 0) & valid
    return StepResult(
        total=float(breakdown.total.detach()),
        raw={name: float(value.detach()) for name, value in breakdown.raw.items()},
        weighted={name: float(value.detach()) for name, value in breakdown.weighted.items()},
        gradient_norm=norm,
        clipped=clipped,
        predicted=int(predicted.sum()),
        true=int(((target > 0) & valid).sum()),
        valid=int(valid.sum()),
    )


def _check_loss(breakdown: LossBreakdown, batch: Mapping[str, Any]) -> None:
    if _finite(float(breakdown.total.detach())):
        return
    bad = [name for name, value in breakdown.raw.items() if not _finite(float(value.detach()))]
    raise NonFiniteError(f"the loss is not finite: term {', '.join(bad) or 'sum'}; {_where(batch)}")


def _first_bad_gradient(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "the norm's sum only (every gradient is finite, their squares overflow)"


def _where(batch: Mapping[str, Any]) -> str:
    return f"patches of {', '.join(map(str, batch['case']))}" if "case" in batch else "an unnamed batch"


def _finite(value: float) -> bool:
    return value - value == 0.0

"""What faults do to a running training: its weights, its optimiser, its rate, its network and its objective."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from volumen.doctor.benchmark.injections import Act, Alter, Attach, Compute, Measure
from volumen.losses import LossBreakdown
from volumen.training.state import TrainingState

HALF_LARGEST = 65504.0
"""Of half precision."""


def scale_rate(factor: float) -> Act:
    """Somebody else writes the learning rate."""

    def act(state: TrainingState, random: torch.Generator) -> None:
        state.rate.scale *= factor

    return act


def hurry_schedule(factor: float) -> Act:
    """The schedule is asked for a place that lies `factor` times as far in the run."""

    def act(state: TrainingState, random: torch.Generator) -> None:
        rate_at = state.rate.rate_at

        def hurried(epoch: float, planned_epochs: float) -> float:
            return rate_at(min(epoch * factor, planned_epochs), planned_epochs)

        vars(state.rate)["rate_at"] = hurried

    return act


def keep_gradients(every: int) -> Act:
    """Gradients are cleared in each `every`-th step only; 0: never."""

    def act(state: TrainingState, random: torch.Generator) -> None:
        clear, calls = state.optimiser.zero_grad, 0

        def sometimes(set_to_none: bool = True) -> None:
            nonlocal calls
            calls += 1
            if every and calls % every == 0:
                clear(set_to_none)

        vars(state.optimiser)["zero_grad"] = sometimes

    return act


def freeze(*patterns: str) -> Act:
    """Parameters whose names match are trained no more; what the optimiser remembers of them goes too."""

    def act(state: TrainingState, random: torch.Generator) -> None:
        for name, parameter in state.model.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)
                parameter.grad = None

    return act


@torch.no_grad()
def _weights(state: TrainingState) -> list[nn.Parameter]:
    return [parameter for parameter in state.model.parameters() if parameter.ndim > 1]


def disturb(strength: float) -> Act:
    """Noise on all weights, in shares of each tensor's own spread."""

    @torch.no_grad()
    def act(state: TrainingState, random: torch.Generator) -> None:
        for parameter in _weights(state):
            noise = torch.randn(parameter.shape, generator=random)
            parameter.add_(noise, alpha=strength * float(parameter.std()))

    return act


def kill_channels(share: float) -> Act:
    """The first channels of every convolution but the last give nothing, from now on."""

    @torch.no_grad()
    def act(state: TrainingState, random: torch.Generator) -> None:
        for parameter in _weights(state)[:-1]:
            parameter[: max(1, int(share * len(parameter)))] = 0.0

    return act


def break_weight(value: float) -> Act:
    """One weight becomes NaN or infinite."""

    @torch.no_grad()
    def act(state: TrainingState, random: torch.Generator) -> None:
        _weights(state)[0].view(-1)[0] = value

    return act


def finish_with(change: Callable[[Tensor], Tensor]) -> Attach:
    """The network's output goes through a function."""

    def attach(model: nn.Module) -> None:
        model.register_forward_hook(lambda module, inputs, output: change(output))

    return attach


def in_half_precision(scale: float) -> Attach:
    """Logits are scaled up and kept in half precision, whose range they leave."""
    return finish_with(lambda logits: (logits * scale).half().float() / scale)


def lose_input(share: float) -> Attach:
    """A share of the patches reaches the network as zeros."""

    def attach(model: nn.Module) -> None:
        random, whole = torch.Generator().manual_seed(0), share >= 1

        def lost(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (image,) = inputs
            kept = (torch.rand(len(image), generator=random) >= share).to(image).view(-1, 1, 1, 1, 1)
            return (torch.zeros_like(image) if whole else image * kept,)

        model.register_forward_pre_hook(lost)

    return attach


def shuffle_input(block: int) -> Attach:
    """Images reach the network with their blocks of voxels in another order; their labels do not."""

    def attach(model: nn.Module) -> None:
        random = torch.Generator().manual_seed(0)

        def shuffled(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (image,) = inputs
            for axis in (2, 3, 4):
                pieces = torch.split(image, block, dim=axis)
                image = torch.cat([pieces[i] for i in torch.randperm(len(pieces), generator=random)], dim=axis)
            return (image,)

        model.register_forward_pre_hook(shuffled)

    return attach


def weigh(weights: dict[str, float], *, detached: tuple[str, ...] = ()) -> Alter:
    """Weighted terms times factors, which may be negative; some of them without a gradient."""

    def alter(objective: Compute, logits: Tensor, target: Tensor, valid: Tensor) -> LossBreakdown:
        found = objective(logits, target, valid)
        weighted = {name: value * weights.get(name, 1.0) for name, value in found.weighted.items()}
        weighted = {name: value.detach() if name in detached else value for name, value in weighted.items()}
        total = torch.stack([value.reshape(()) for value in weighted.values()]).sum() + 0.0 * logits.sum()
        return replace(found, total=total, weighted=weighted)

    return alter


def shifted(less: float) -> Alter:
    """The same objective on a scale that is negative: a Dice that is written as -Dice."""

    def alter(objective: Compute, logits: Tensor, target: Tensor, valid: Tensor) -> LossBreakdown:
        found = objective(logits, target, valid)
        raw = {name: value - less for name, value in found.raw.items()}
        weighted = {name: value - less for name, value in found.weighted.items()}
        return LossBreakdown(torch.stack([value.reshape(()) for value in weighted.values()]).sum(), raw, weighted)

    return alter


def unmask(share: float) -> Alter:
    """Ignored voxels count, as background; where `share` is below 1, in the leading planes of a patch only."""

    def alter(objective: Compute, logits: Tensor, target: Tensor, valid: Tensor) -> LossBreakdown:
        seen = valid.clone()
        seen[:, : max(1, round(share * valid.shape[1]))] = True
        return objective(logits, target, seen)

    return alter


def measure_inverted(measure: Measure) -> Measure:
    """The metric looks at the background's channel."""

    def inverted(mask: NDArray[np.uint8], label: NDArray[np.uint8], **how: Any) -> dict[str, float]:
        return measure((1 - mask).astype(np.uint8), label, **how)

    return inverted


def measure_mirrored(measure: Measure) -> Measure:
    """The metric compares with another place of the volume."""

    def mirrored(mask: NDArray[np.uint8], label: NDArray[np.uint8], **how: Any) -> dict[str, float]:
        return measure(np.ascontiguousarray(mask[::-1, ::-1, ::-1]), label, **how)

    return mirrored


def prefer_empty(weight: float) -> Alter:
    """A term of this weight is added that wants no surface anywhere."""

    def alter(objective: Compute, logits: Tensor, target: Tensor, valid: Tensor) -> LossBreakdown:
        found, name = objective(logits, target, valid), "emptiness"
        value = torch.sigmoid(logits[:, 0])[valid].mean()
        raw, weighted = {**found.raw, name: value}, {**found.weighted, name: weight * value}
        return LossBreakdown(found.total + weight * value, raw, weighted)

    return alter

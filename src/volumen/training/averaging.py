"""Averages of the weights: the exponential moving one and the equal one (SWA).

Both keep floating-point copies of the parameters beside the model and never touch its own. Buffers (running statistics
of batch norms, which only some of MONAI's networks have) cannot be averaged: they are recomputed for averaged weights
from training patches, as Izmailov et al. (2018, section 3.2) prescribe.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from volumen.config.optimisation import StochasticWeightAverage, WeightAverage


class Average:
    """Weights kept beside a model, and the normalisation statistics (buffers) that belong to them.

    Args:
        weights: By parameter name.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.buffers: dict[str, Tensor] = {}
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics, and the number of updates."""
        return {"count": self.count, "weights": self.weights, "buffers": self.buffers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.count = int(state["count"])
        _copy(self.weights, state["weights"])
        self.buffers = dict(state["buffers"])


class MovingAverage(Average):
    """Exponential moving average of a model's weights.

    The decay rises as (1 + n) / (10 + n) up to the configured one, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, settings: WeightAverage) -> None:
        super().__init__({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
        self._decay = settings.decay

    @torch.no_grad()
    def update(self, model: nn.Module, stopped: Tensor | None = None) -> None:
        """Move towards the model's weights; called once after each step.

        With `stopped`, a scalar of 0 or 1 on the device, the weights stay where that is 1; the count goes on.
        """
        self.count += 1
        decay = min(self._decay, (1 + self.count) / (10 + self.count))
        names, parameters = zip(*model.named_parameters(), strict=True)
        weights = [self.weights[name] for name in names]
        if stopped is None:
            torch._foreach_lerp_(weights, list(parameters), 1.0 - decay)
            return
        moves = torch._foreach_sub(list(parameters), weights)
        torch._foreach_mul_(moves, (1.0 - decay) * (1 - stopped))
        torch._foreach_add_(weights, moves)


class EqualAverage(Average):
    """Equal average of the weights at the end of late epochs (SWA; Izmailov et al. 2018)."""

    def __init__(self, model: nn.Module, settings: StochasticWeightAverage) -> None:
        super().__init__({name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()})
        self.settings = settings

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, epoch: int) -> bool:
        """Take in the weights after epoch `epoch` (from 0) where it is due; tells whether it did."""
        since = epoch - self.settings.start_epoch
        if since < 0 or since % self.settings.update_every_epochs:
            return False
        self.count += 1
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, 1.0 / self.count)
        return True


@torch.no_grad()
def _copy(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])


@contextmanager
def averaged_model(model: nn.Module, average: Average | None, images: Iterable[Tensor]) -> Iterator[None]:
    """Run a block with an average's weights in the model, then put the model's own weights and buffers back.

    Buffers are recomputed from `images` [B, C, Z, Y, X], which are read only where the network keeps running
    statistics. An average of None leaves the model alone.
    """
    if average is None:
        yield
        return
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    own = {name: tensor.detach().clone() for name, tensor in (parameters | buffers).items()}
    _copy(parameters, average.weights)
    try:
        update_bn(images, model)
        average.buffers = {name: tensor.detach().clone() for name, tensor in buffers.items()}
        yield
    finally:
        _copy(parameters | buffers, own)

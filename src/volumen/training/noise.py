"""Gaussian noise on the weights every few epochs: the plan's way of shaking a model off a plateau.

The noise is a pure function of seed, epoch and parameter name, so a resumed run injects the same one.
"""

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from volumen.config.optimisation import WeightNoise
from volumen.data.randomness import generator


def noise_is_due(settings: WeightNoise, epoch: int) -> bool:
    """Whether noise is injected before epoch `epoch` (from 0)."""
    since = epoch - settings.start_epoch
    return since >= 0 and since % settings.every_epochs == 0


@torch.no_grad()
def inject_noise(model: nn.Module, settings: WeightNoise, seed: int, epoch: int) -> dict[str, Any]:
    """Add noise of std * decay^k, relative to each tensor's own spread, at the k-th injection; returns the event.

    A tensor without spread of its own (a bias that starts at zero) is left alone.
    """
    injections = (epoch - settings.start_epoch) // settings.every_epochs
    std = settings.std * settings.decay**injections
    touched = 0
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if not any(fnmatchcase(name, pattern) for pattern in settings.layers) or parameter.numel() < 2:
            continue
        spread = float(parameter.detach().std())
        if spread == 0.0:
            continue
        noise = generator(seed, epoch, index, "weight_noise").standard_normal(parameter.shape, dtype="float32")
        parameter.add_(torch.from_numpy(noise).to(parameter), alpha=std * spread)
        touched += 1
    return {"kind": "weight_noise", "std": std, "tensors": touched}

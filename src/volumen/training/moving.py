"""What of a checkpoint belongs to the machine that wrote it, and does not come along to another one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

MACHINES = ("fused", "foreach", "capturable")
"""Settings of an optimiser that say how it computes on a device, not what."""


def load_optimiser(optimiser: Optimizer, saved: Mapping[str, Any]) -> None:
    """Take over an optimiser's state from whatever device; how it computes stays this machine's choice.

    PyTorch would bring a card's fused kernels to a CPU, and leave a card without them. A fused kernel takes all of a
    weight's tensors in one layout only.
    """
    own = [{name: group[name] for name in MACHINES if name in group} for group in optimiser.param_groups]
    groups = [{**group, **kept} for group, kept in zip(saved["param_groups"], own, strict=False)]
    if len(groups) != len(saved["param_groups"]):
        groups = list(saved["param_groups"])  # PyTorch says what is wrong
    optimiser.load_state_dict({**saved, "param_groups": groups})
    for group in optimiser.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            _lay_out(optimiser.state.get(parameter, {}), parameter)


def _lay_out(moments: dict[str, Any], parameter: Tensor) -> None:
    for name, value in moments.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
            moments[name] = torch.empty_like(parameter).copy_(value)

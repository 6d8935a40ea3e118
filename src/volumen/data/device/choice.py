"""Whether a training's patches are made by the device or by the CPU."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from volumen.data.device.loader import DevicePatchLoader
from volumen.data.loader import PatchLoader
from volumen.data.sampling import PatchDataset
from volumen.errors import UserError

Loader: TypeAlias = PatchLoader | DevicePatchLoader


def loader_for(patches: PatchDataset, device: torch.device, died: Callable[[str], None] = lambda text: None) -> Loader:
    """The loader that `data.on_device` asks for.

    Args:
        patches: The samples.
        device: The one that trains.
        died: As for `PatchLoader`.

    Raises:
        UserError: The device shall make them, and the loss wants targets that the CPU makes; or as the loaders.
    """
    config, targets = patches.config, ", ".join(patches.makers)
    if config.on_device == "on" and targets:
        raise UserError(
            f"data.on_device is on, but the loss wants {targets}, which only the CPU makes: set it to auto or off"
        )
    wanted = config.on_device == "on" or (config.on_device == "auto" and device.type == "cuda")
    if wanted and not targets:
        return DevicePatchLoader(patches, config.batch, device)
    loader = PatchLoader(patches, config.batch, config.workers, pin_memory=False, died=died)
    if wanted:
        loader.notes = (f"patches are made by the CPU: the loss wants {targets}, which only the CPU makes",)
    return loader

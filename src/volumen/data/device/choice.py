"""Whether a training's patches are made by the device or by the CPU."""

from collections.abc import Callable, Collection
from typing import TypeAlias

import torch

from volumen.config.data import Data
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.loader import PatchLoader
from volumen.data.sampling import PatchDataset
from volumen.errors import UserError

Loader: TypeAlias = PatchLoader | DevicePatchLoader


def is_made_on(device: torch.device, config: Data, targets: Collection[str]) -> bool:
    """Whether a device makes the patches, for a loss that wants these targets of the loader."""
    wanted = config.on_device == "on" or (config.on_device == "auto" and device.type == "cuda")
    return wanted and not targets


def loader_for(
    patches: PatchDataset,
    device: torch.device,
    workers: int,
    *,
    part: tuple[int, int] = (0, 1),
    died: Callable[[str], None] = lambda text: None,
) -> Loader:
    """The loader that `data.on_device` asks for.

    Args:
        patches: The samples.
        device: The one that trains.
        workers: Processes that make patches, where the CPU makes them.
        part: As for `PatchLoader`.
        died: As for `PatchLoader`.

    Raises:
        UserError: The device shall make them, and the loss wants targets that the CPU makes; or as the loaders.
    """
    config, targets = patches.config, ", ".join(patches.makers)
    if config.on_device == "on" and targets:
        raise UserError(
            f"data.on_device is on, but the loss wants {targets}, which only the CPU makes: set it to auto or off"
        )
    if is_made_on(device, config, patches.makers):
        return DevicePatchLoader(patches, config.batch, device, part=part)
    pinned = device.type == "cuda"
    loader = PatchLoader(patches, config.batch, workers, part=part, pin_memory=pinned, died=died)
    if is_made_on(device, config, ()):
        loader.notes = (f"patches are made by the CPU: the loss wants {targets}, which only the CPU makes",)
    return loader

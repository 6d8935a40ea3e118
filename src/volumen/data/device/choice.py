"""Whether a training's patches are made by the device or by the CPU."""

from collections.abc import Callable, Collection
from typing import TypeAlias

import torch

from volumen.config.data import Data
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.device.trial import difference
from volumen.data.loader import PatchLoader
from volumen.data.sampling import PatchDataset
from volumen.errors import UserError
from volumen.system.stopping import StopWanted

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
    """The loader that `data.on_device` asks for; a device's patches are tried before, by `trial`.

    Args:
        patches: The samples.
        device: The one that trains.
        workers: Processes that make patches, where the CPU makes them.
        part: As for `PatchLoader`.
        died: As for `PatchLoader`.

    Raises:
        UserError: The device shall make them, and the loss wants targets that the CPU makes, or its patches are not the
            CPU's; a card does not answer any more after the trial; or as the loaders.
    """
    config, targets = patches.config, ", ".join(patches.makers)
    if config.on_device == "on" and targets:
        raise UserError(
            f"data.on_device is on, but the loss wants {targets}, which only the CPU makes: set it to auto or off"
        )
    notes: tuple[str, ...] = ()
    if is_made_on(device, config, patches.makers):
        made = _tried(patches, device, part)
        if isinstance(made, DevicePatchLoader):
            return made
        if config.on_device == "on":
            raise UserError(f"data.on_device is on, but {made}: set it to auto or off")
        notes = (f"patches are made by the CPU: {made}",)
    elif is_made_on(device, config, ()):
        notes = (f"patches are made by the CPU: the loss wants {targets}, which only the CPU makes",)
    pinned = device.type == "cuda"
    loader = PatchLoader(patches, config.batch, workers, part=part, pin_memory=pinned, died=died)
    loader.notes = notes
    return loader


def _tried(patches: PatchDataset, device: torch.device, part: tuple[int, int]) -> DevicePatchLoader | str:
    """The device's loader, or why there is none."""
    loader: DevicePatchLoader | None = None
    try:
        loader = DevicePatchLoader(patches, patches.config.batch, device, part=part)
        said = difference(patches, loader)
        if said is None:
            return loader
        why = f"the card's differ from the CPU's ({said})"
    except (UserError, StopWanted):
        if loader is not None:
            loader.close()
        raise
    except Exception as error:  # PyTorch's, Triton's, the system's: whatever it is, the CPU makes patches as well
        why = f"the card could not make them ({_in_words(error)})"
    if loader is not None:
        loader.close()
    _make_sure_of(device, why)
    return why


def _make_sure_of(device: torch.device, why: str) -> None:
    """That a card still answers, and has its memory back.

    Raises:
        UserError: It does not: some errors leave a process without its card.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except Exception as error:
        raise UserError(
            f"{why}, and it does not answer any more ({_in_words(error)}): start again with -o data.on_device=off"
        ) from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.160}"

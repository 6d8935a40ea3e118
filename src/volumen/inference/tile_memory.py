"""Whether a tile fits into memory, known before anything of its size is allocated: a network's activations decide."""

import math
from statistics import median_high

import torch
from torch import nn

from volumen.errors import UserError
from volumen.inference.network_memory import FLOAT, activation_bytes
from volumen.inference.predictor import Predictor
from volumen.inference.tiles import Triple
from volumen.system.memory import available_bytes
from volumen.system.output import counted

_ALIVE = 8  # tensors of that width and the tile's size that are alive at once: no network here comes near


def check_tile(predictor: Predictor, processes: int = 1) -> None:
    """Refuse tiles that this machine has no memory for, shared by so many processes.

    Raises:
        UserError: The tile needs more than is available; names the largest one that does not.
    """
    room = _available(predictor.device) // processes
    quick = FLOAT * predictor.batch * math.prod(predictor.tile) * (2 + _ALIVE * _width(predictor.model))
    if quick <= room:
        return  # far from it: the network need not be followed
    needed = bytes_of_tile(predictor, predictor.tile)
    if needed <= room:
        return
    largest = _largest(predictor, room)
    fits = ",".join(str(side) for side in largest) if largest else "none, not even the smallest tile"
    among = f" for each of {counted(processes, 'process')}" if processes > 1 else ""
    raise UserError(
        f"tiles of {list(predictor.tile)} voxels need about {_said(needed)} with this network, {_said(room)} are "
        f"available{among}: the largest that fits is {fits} (--tile, or inference.tile)"
    )


def bytes_of_tile(predictor: Predictor, tile: Triple) -> int:
    """Memory that the tiles of one call take at most, about; without knowledge of the network what goes in and out."""
    return activation_bytes(predictor.model, tile, predictor.precision, predictor.batch)


def _largest(predictor: Predictor, room: int) -> Triple | None:
    """The largest tile that fits: the one that was asked for, smaller along its longest sides first."""
    divisor: Triple = getattr(predictor.model, "divisor", (1, 1, 1))

    def within(side: int) -> Triple:
        z, y, x = (
            max(unit, min(wanted, side) // unit * unit) for wanted, unit in zip(predictor.tile, divisor, strict=True)
        )
        return z, y, x

    low, high = 0, max(predictor.tile)
    while high - low > max(divisor):
        middle = (low + high) // 2
        fits = bytes_of_tile(predictor, within(middle)) <= room
        low, high = (middle, high) if fits else (low, middle)
    return within(low) if low else None


def _width(model: nn.Module) -> int:
    """Channels of the layer in the middle by width; the widest ones see few voxels."""
    return int(median_high([parameter.shape[0] for parameter in model.parameters() if parameter.ndim > 1] or [1]))


def _available(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_bytes()


def _said(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"

"""What a network's activations take, counted without any being allocated.

They are counted by running it on PyTorch's `meta` device, where tensors have shapes and no memory: what is alive at the
same time, at its most.
"""

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from volumen.inference.tiles import Triple
from volumen.runtime import Precision
from volumen.system.memory import available_bytes

FLOAT = 4
_ABSURD = 2**60
_SHARE = 0.7
"""Of the free memory, for the network; the rest is the volume's."""
_BUSY_VOXELS = 2**24
"""In a call of the network: more keep no card busier, and few tensors of so many voxels pass 2^31 elements."""


def activation_bytes(model: nn.Module, tile: Triple, precision: Precision, batch: int = 1) -> int:
    """Memory that one call takes at most, about; without knowledge of the network what goes in and out.

    Args:
        model: Takes images [B, 1, Z, Y, X]; left in its mode, its weights untouched.
        tile: z y x, in voxels.
        precision: What activations are stored in.
        batch: Tiles of the call.
    """
    least = 2 * FLOAT * batch * math.prod(tile)
    if least > _ABSURD:
        return least
    peak = _Peak()
    was_training = model.training
    try:
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        weightless = {name: tensor.to("meta") for name, tensor in named.items()}
        with torch.no_grad(), peak:
            image = torch.empty(batch, 1, *tile, device="meta")
            functional_call(model.eval(), weightless, (image,))
    except Exception:  # networks of other libraries may need numbers, which nothing here has
        return max(least, peak.most)
    finally:
        model.train(was_training)
    share = precision.dtype.itemsize / FLOAT
    return max(least, int(peak.most * share))


def free_bytes(device: torch.device) -> int:
    """Memory of a device that can be allocated now, with what PyTorch keeps for later use."""
    if device.type != "cuda":
        return available_bytes()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def busy_batch(tile: Triple, room: int, each: int) -> int:
    """How many tiles a call should take, at least 1: what keeps a card busy, and fits beside a volume.

    Args:
        tile: z y x, in voxels.
        room: Bytes that are free.
        each: Bytes that the network takes for a tile.
    """
    return max(1, min(_BUSY_VOXELS // math.prod(tile), int(_SHARE * room) // each))


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all tensors that are alive at once, at their most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size

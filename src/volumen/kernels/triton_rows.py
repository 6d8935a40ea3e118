"""How channels-last activations are cut into programs of the Triton kernels, and their rows' strides.

All that may be tuned for a card stands in `Tiles`; `TILES` is in force.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from volumen.kernels.convolution import CHANNELS_LAST, is_recorded
from volumen.system.triton_support import has_triton

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_MOST_CHUNKS = 512
"""Of one sample: their parts are merged by one program for a block of channels."""


@dataclass(frozen=True)
class Tiles:
    """Sizes in numbers, warps of 32 threads."""

    reduce: int = 4096
    """Numbers that a program of a reduction holds at a time."""
    reduce_warps: int = 8
    programs_per_processor: int = 8
    """Programs of a reduction for each multiprocessor."""
    apply: int = 4096
    """Numbers that a program of an elementwise pass holds."""
    apply_warps: int = 4
    most_channels: int = 128
    """Channels in one block, at most; a power of two."""
    alone: int = 2048
    """Voxels of a sample up to which one program reduces a block of channels alone, without a second kernel."""
    alone_channels: int = 16
    """Channels in a block then: small, so that there are many programs."""
    finish_channels: int = 16
    finish_warps: int = 8


TILES = Tiles()


@dataclass(frozen=True)
class Plan:
    """How one shape is cut."""

    reduce_grid: tuple[int, int, int]
    reduce_block: dict[str, int]
    rows_each: int
    chunks: int
    apply_grid: tuple[int, int, int]
    apply_block: dict[str, int]
    finish_grid: tuple[int, int]
    finish_block: dict[str, int]


@functools.lru_cache(maxsize=512)
def plan(samples: int, channels: int, voxels: int, processors: int, tiles: Tiles) -> Plan:
    """Cut [samples, voxels, channels] for a card of so many multiprocessors."""
    widest = min(_power(channels), tiles.most_channels)
    alone = voxels <= tiles.alone
    wide = min(widest, tiles.alone_channels) if alone else widest
    rows = max(1, min(tiles.reduce // wide, _power(voxels)))
    blocks = _share(channels, wide)
    wanted = 1 if alone else max(1, processors * tiles.programs_per_processor // (samples * blocks))
    # The loop's length is part of the compiled kernel: powers of two keep these few.
    turns = _power(_share(_share(voxels, rows), min(wanted, _MOST_CHUNKS)))
    rows_each = turns * rows
    chunks = _share(voxels, rows_each)
    apply_rows = max(1, min(tiles.apply // widest, _power(voxels)))
    finish = min(_power(channels), tiles.finish_channels)
    block = {"tiles": turns, "block_rows": rows, "block_channels": wide, "num_warps": tiles.reduce_warps}
    return Plan(
        reduce_grid=(chunks, blocks, samples),
        reduce_block=block,
        rows_each=rows_each,
        chunks=chunks,
        apply_grid=(_share(voxels, apply_rows), _share(channels, widest), samples),
        apply_block={"block_rows": apply_rows, "block_channels": widest, "num_warps": tiles.apply_warps},
        finish_grid=(_share(channels, finish), samples),
        finish_block={"block_chunks": _power(chunks), "block_channels": finish, "num_warps": tiles.finish_warps},
    )


def plan_of(tensor: Tensor) -> Plan:
    """The plan for an activation [B, C, Z, Y, X]."""
    samples, channels = tensor.shape[:2]
    voxels = tensor.shape[2] * tensor.shape[3] * tensor.shape[4]
    return plan(samples, channels, voxels, processors_of(tensor), TILES)


def flat_plan_of(tensor: Tensor) -> Plan:
    """The plan for an activation [B, C, Z, Y, X] whose samples are one."""
    channels = tensor.shape[1]
    return plan(1, channels, tensor.numel() // channels, processors_of(tensor), TILES)


@functools.cache
def _processors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def processors_of(tensor: Tensor) -> int:
    """Multiprocessors of a tensor's card; 2 for Triton's interpreter on a CPU, which runs programs one by one."""
    return _processors(tensor.get_device()) if tensor.is_cuda else 2


def _share(number: int, parts: int) -> int:
    """Division, rounded up."""
    return (number + parts - 1) // parts


def _power(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def row_stride(tensor: Tensor) -> int | None:
    """How far apart the rows (voxels) of [B, C, Z, Y, X] lie, channels side by side; None where they are no rows."""
    if tensor.is_contiguous(memory_format=CHANNELS_LAST):
        return tensor.shape[1]
    if tensor.stride(1) != 1 and tensor.shape[1] > 1:
        return None
    stride, inner = None, 1
    for axis in (4, 3, 2, 0):
        if tensor.shape[axis] == 1:
            continue
        step, rest = divmod(tensor.stride(axis), inner)
        if rest or step < tensor.shape[1] or stride not in (None, step):
            return None
        stride, inner = step, inner * tensor.shape[axis]
    return stride


def in_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor, copied to channels last where it does not lie in rows, and how far apart its rows lie."""
    stride = row_stride(tensor)
    if stride is not None:
        return tensor, stride
    copied = tensor.contiguous(memory_format=CHANNELS_LAST)
    return copied, copied.shape[1]


def empty_rows(like: Tensor, shape: tuple[int, ...] | torch.Size | None = None) -> Tensor:
    """An unwritten channels-last activation of a tensor's type, of its shape or another."""
    size = like.shape if shape is None else shape
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=CHANNELS_LAST)


def uses_triton(values: Tensor, *, plain: bool = False) -> bool:
    """True if activations like `values` go through the Triton kernels: on CUDA, where they work, and not recorded."""
    return not plain and values.is_cuda and values.dtype in _TYPES and not is_recorded() and has_triton()


def launching(tensor: Tensor) -> Any:
    """A context in which kernels run on a tensor's card; does nothing for a CPU."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]

"""The pooling of `pooling_tensor` on a card: one pass over memory for each of its many."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from volumen.kernels.triton_rows import launching

_BLOCK = 512


def pool(source: Tensor, axes: Sequence[int], *, largest: bool) -> Tensor:
    """Extreme over each voxel of [B, Z, Y, X] and its two neighbours along every one of `axes` (1 to 3)."""
    from volumen.kernels import triton_pooling_loops as loops

    out = torch.empty_like(source, memory_format=torch.contiguous_format)
    _launch(loops.pool, axes, source.contiguous(), out, largest=largest)
    return out


def pool_backward(source: Tensor, pooled: Tensor, pooled_gradient: Tensor, axes: Sequence[int]) -> Tensor:
    """Share each pooled voxel's gradient equally among the sources that attain its value."""
    from volumen.kernels import triton_pooling_loops as loops

    source, pooled = source.contiguous(), pooled.contiguous()
    share, out = torch.empty_like(source), torch.empty_like(source)
    _launch(loops.share, axes, source, pooled, pooled_gradient.contiguous(), share)
    _launch(loops.receive, axes, source, pooled, share, out)
    return out


def _launch(kernel: Any, axes: Sequence[int], *volumes: Tensor, **options: bool) -> None:
    voxels, along = volumes[0].numel(), {f"along_{name}": axis in axes for axis, name in enumerate("zyx", 1)}
    with launching(volumes[0]):
        kernel[(-(-voxels // _BLOCK),)](*volumes, voxels, *volumes[0].shape[1:], **along, **options, block=_BLOCK)

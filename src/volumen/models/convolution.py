"""A 3x3x3 convolution whose backward pass uses the fastest measured kernel for each of its parts.

Forward and input gradient are PyTorch's (oneDNN), which run near the machine's peak. The weight gradient on AVX2 is
`convolution_kernels`, 1.2 to 2.5 times faster than oneDNN's there for the layers named by `_own_weight_gradient`;
elsewhere (AVX-512, AMX, bfloat16, other strides) everything is PyTorch's.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from volumen.models.convolution_kernels import weight_gradient_planes
from volumen.models.threads import run_shares, shares

CHANNELS_LAST = torch.channels_last_3d
_LARGEST_WEIGHT = 256 * 128  # in * out; beyond it the sums of a thread leave the second-level cache
_SMALLEST_ROW = 4
_ONES, _ZEROS = [1, 1, 1], [0, 0, 0]


def convolve(image: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """3-D convolution without bias, zero-padded to keep the size (divided by the stride).

    Args:
        image: [B, C, Z, Y, X].
        weight: [D, C, k, k, k], k odd.
        stride: In every axis.

    Returns:
        [B, D, Z / stride, Y / stride, X / stride].
    """
    if stride == 1 and _own_weight_gradient(image, weight):
        return _Convolution.apply(image, weight)  # type: ignore[no-untyped-call,no-any-return]
    return functional.conv3d(image, weight, stride=stride, padding=weight.shape[-1] // 2)


def _own_weight_gradient(image: Tensor, weight: Tensor) -> bool:
    """True where the own kernel was measured faster than oneDNN's."""
    outside, inside = weight.shape[:2]
    return (
        image.device.type == "cpu"
        and image.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.is_grad_enabled()
        and weight.requires_grad
        and tuple(weight.shape[2:]) == (3, 3, 3)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and outside % 8 == 0
        and (inside >= 4 or image.shape[0] == 1)
        and inside * outside <= _LARGEST_WEIGHT
        and image.shape[-1] >= _SMALLEST_ROW
        and image.is_contiguous(memory_format=CHANNELS_LAST)
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        # Asked for by name: torch.conv3d sends small single samples to a path without oneDNN.
        out: Tensor = torch.mkldnn_convolution(image, weight, None, _ONES, _ONES, _ONES, 1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        to_image = None
        if ctx.needs_input_grad[0]:
            to_image = torch.ops.aten.convolution_backward(
                gradient, image, weight, None, _ONES, _ONES, _ONES, False, _ZEROS, 1, [True, False, False]
            )[0]
        to_weight = weight_gradient(image, gradient) if ctx.needs_input_grad[1] else None
        return to_image, to_weight


def weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of a 3x3x3 convolution's weight, by the compiled kernel.

    Args:
        image: float32 [B, C, Z, Y, X], channels last, the convolution's input.
        gradient: float32 [B, D, Z, Y, X], channels last, of its output; D is a multiple of 8.

    Returns:
        float32 [D, C, 3, 3, 3].
    """
    samples, inside, depth, height, width = image.shape
    outside = gradient.shape[1]
    values, arriving = (tensor.detach().permute(0, 2, 3, 4, 1).numpy().reshape(-1) for tensor in (image, gradient))
    ranges = shares(samples * depth, smallest=2)
    sums = np.zeros((len(ranges), 27 * inside * outside), dtype=np.float32)

    def work(share: int, first: int, last: int) -> None:
        weight_gradient_planes(values, arriving, sums[share], (depth, height, width), (inside, outside), first, last)

    run_shares(work, ranges)
    total = sums[0] if len(ranges) == 1 else sums.sum(axis=0)
    return torch.from_numpy(total).view(3, 3, 3, inside, outside).permute(4, 3, 0, 1, 2)

"""A 3x3x3 convolution whose backward pass uses the fastest measured kernel for each of its parts.

Forward and input gradient are PyTorch's (oneDNN), which run near the machine's peak. The weight gradient on AVX2 is
`convolution_loops`, 1.2 to 2.5 times faster than oneDNN's there for the layers named by `_own_weight_gradient`;
elsewhere (AVX-512, AMX, bfloat16, other strides) everything is PyTorch's.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from volumen.kernels.convolution_loops import weight_gradient_planes
from volumen.kernels.threads import run_shares, shares

CHANNELS_LAST = torch.channels_last_3d
_LARGEST_WEIGHT = 256 * 128  # in * out; beyond it the sums of a thread leave the second-level cache
_SMALLEST_ROW = 4
_LARGEST_LEFT_OUT = 20_480  # PyTorch 2 keeps single samples of at most so many channels * z * y away from oneDNN
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
    padding = weight.shape[-1] // 2
    if stride == 1 and padding == 1 and _weight_gradient_is_broken(image):
        # A plane of zeros more, as the padding has it anyway, and the planes that belong to it left out again.
        out = functional.conv3d(functional.pad(image, (0, 0, 0, 0, 0, 1)), weight, padding=1)[:, :, :2]
        return out.contiguous(memory_format=CHANNELS_LAST)
    if not torch.is_grad_enabled() and _in_float32_by_onednn(image, weight):
        return torch.mkldnn_convolution(image, weight, None, [padding] * 3, [stride] * 3, _ONES, 1)
    return functional.conv3d(image, weight, stride=stride, padding=padding)


def _weight_gradient_is_broken(image: Tensor) -> bool:
    """Two planes in bfloat16: the weight gradient of PyTorch 2.13's oneDNN (AVX512-BF16) holds unwritten memory."""
    short = image.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    return image.device.type == "cpu" and image.shape[2] == 2 and short


def is_recorded() -> bool:
    """True while PyTorch records operations (trace, compile, export), which must then be its own."""
    return (
        torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or torch.compiler.is_compiling()
        or torch.onnx.is_in_onnx_export()
    )


def _in_float32_by_onednn(image: Tensor, weight: Tensor) -> bool:
    """True where oneDNN can be asked by name, which torch.conv3d does not do for small single samples."""
    return (
        image.device.type == "cpu"
        and image.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not is_recorded()
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and image.is_contiguous(memory_format=CHANNELS_LAST)
    )


def _own_weight_gradient(image: Tensor, weight: Tensor) -> bool:
    """True where the own kernel was measured faster than oneDNN's."""
    outside, inside = weight.shape[:2]
    return (
        _in_float32_by_onednn(image, weight)
        and torch.is_grad_enabled()
        and weight.requires_grad
        and tuple(weight.shape[2:]) == (3, 3, 3)
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and outside % 8 == 0
        and (inside >= 4 or image.shape[0] == 1)
        and inside * outside <= _LARGEST_WEIGHT
        and image.shape[-1] >= _SMALLEST_ROW
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        out: Tensor = torch.mkldnn_convolution(image, weight, None, _ONES, _ONES, _ONES, 1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        to_image = _image_gradient(image, weight, gradient) if ctx.needs_input_grad[0] else None
        to_weight = weight_gradient(image, gradient) if ctx.needs_input_grad[1] else None
        return to_image, to_weight


def _image_gradient(image: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    samples, inside, depth, height, _ = image.shape
    if samples == 1 and inside * depth * height <= _LARGEST_LEFT_OUT:
        # The same slow path as in the forward pass; a convolution with the mirrored weight is the gradient by oneDNN.
        mirrored = weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=CHANNELS_LAST)
        by_mirror: Tensor = torch.mkldnn_convolution(gradient, mirrored, None, _ONES, _ONES, _ONES, 1)
        return by_mirror
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, _ONES, _ONES, _ONES, False, _ZEROS, 1, [True, False, False]
    )[0]
    return result


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

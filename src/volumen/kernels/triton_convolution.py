"""Convolutions on a card, channels last: cuDNN's, and Triton kernels where those were measured faster.

Measured on an H100 with bfloat16 activations of 2 x 128^3 voxels (ms, cuDNN 9.19 and ours): one channel to 32, 0.82 and
0.24, its weight gradient 4.31 and 0.22; 32 to 32, 1.12 and 0.80, its weight gradient 1.50 and 0.91; 64 to 32, 2.06 and
1.30; one voxel of 32 channels to a logit, forward and backward, 1.40 and 0.40. Coarser levels are cuDNN's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from volumen.kernels import triton_rows as rows
from volumen.kernels.convolution import CHANNELS_LAST

_SHORT = (torch.bfloat16, torch.float16)
_ONES, _ZEROS, _THREES = [1, 1, 1], [0, 0, 0], (3, 3, 3)
_FEWEST_VOXELS = 2**18
_MOST_NUMBERS = 2**31 - 2**20
"""The kernels count in 32 bits."""
_LEAST_USE = 0.75
"""Share of a tile's voxels that must lie in the volume for a kernel of rows to be the faster one."""
_TILE, _SEGMENT = 256, 64
_BLOCK = 128
_LAST_BLOCK = 256


def _loops() -> Any:
    from volumen.kernels import triton_convolution_loops

    return triton_convolution_loops


def convolve_on_card(image: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """As `kernels.convolution.convolve`, in the type of automatic casting where that is on."""
    image, weight = _cast(image), _cast(weight)
    padding = weight.shape[-1] // 2
    if stride == 1 and tuple(weight.shape[2:]) == _THREES and (_is_first(image, weight) or _gains(image, weight)):
        return _Convolution.apply(image, weight)  # type: ignore[no-untyped-call,no-any-return]
    return functional.conv3d(image, weight, stride=stride, padding=padding)


def logits_on_card(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One output channel of a convolution of one voxel: [B, C, Z, Y, X], [1, C, 1, 1, 1], [1] -> [B, 1, Z, Y, X]."""
    image, weight, bias = _cast(image), _cast(weight), _cast(bias)
    if weight.shape[0] != 1 or tuple(weight.shape[2:]) != (1, 1, 1) or image.numel() > _MOST_NUMBERS:
        return functional.conv3d(image, weight, bias)
    return _Logits.apply(image, weight, bias)  # type: ignore[no-untyped-call,no-any-return]


def _cast(tensor: Tensor) -> Tensor:
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def _is_first(image: Tensor, weight: Tensor) -> bool:
    """One channel to a power of two of them."""
    outside = weight.shape[0]
    return (
        weight.shape[1] == 1
        and 16 <= outside <= 128
        and outside & (outside - 1) == 0
        and image.numel() * outside <= _MOST_NUMBERS
        and not image.requires_grad
    )


def _gains(image: Tensor, weight: Tensor) -> bool:
    """True where a kernel of rows gains for some part of the convolution."""
    outside, inside = weight.shape[:2]
    voxels = image.numel() // inside
    return (
        image.dtype in _SHORT
        and {inside, outside} <= {32, 64}
        and inside * outside < 64 * 64
        and voxels >= _FEWEST_VOXELS
        and voxels * 64 <= _MOST_NUMBERS
    )


def _row(width: int) -> tuple[int, int, float]:
    """Voxels in a tile's row, of those how many on each side are neighbours only, and the share of it that is used."""
    found = []
    for side in (128, 64):
        halo = 0 if width <= side else 1
        found.append((width / (-(-width // (side - 2 * halo)) * side), side, halo))
    use, side, halo = max(found)
    return side, halo, use


class _Convolution(torch.autograd.Function):
    """3x3x3, stride 1, padded to keep the size, without bias."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        if weight.shape[1] > 1:
            image, _ = rows.in_rows(image)
        ctx.save_for_backward(image, weight)
        with rows.launching(image):
            return first_forward(image, weight) if weight.shape[1] == 1 else _forward(image, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_image, of_weight = None, None
        with rows.launching(image):
            if weight.shape[1] == 1:
                return None, first_weight_gradient(image, gradient).to(weight.dtype)
            if ctx.needs_input_grad[0]:
                of_image = _forward(gradient, weight.flip(2, 3, 4).transpose(0, 1))
            if ctx.needs_input_grad[1]:
                of_weight = _weight_gradient(image, gradient, weight)
        return of_image, of_weight


def _forward(image: Tensor, weight: Tensor) -> Tensor:
    """Ours for 32 output channels, where its rows are well filled."""
    if weight.shape[0] == 32 and _row(image.shape[4])[2] >= _LEAST_USE:
        return rows_forward(image, weight)
    return functional.conv3d(image, weight.contiguous(memory_format=CHANNELS_LAST), padding=1)


def _weight_gradient(image: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    width = image.shape[4]
    if width / (-(-width // _SEGMENT) * _SEGMENT) >= _LEAST_USE:
        return rows_weight_gradient(image, gradient).to(weight.dtype)
    _, found, _ = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, _ONES, _ONES, _ONES, False, _ZEROS, 1, [False, True, False]
    )
    return found  # type: ignore[no-any-return]


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        image = image.contiguous(memory_format=CHANNELS_LAST)
        ctx.save_for_backward(image, weight)
        with rows.launching(image):
            return last_forward(image, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, weight = ctx.saved_tensors
        with rows.launching(image):
            of_image, of_weight, of_bias = last_backward(image, weight, gradient.contiguous())
        return of_image, of_weight.to(weight.dtype), of_bias.to(weight.dtype)


def first_forward(image: Tensor, weight: Tensor) -> Tensor:
    """One channel: [B, 1, Z, Y, X], [D, 1, 3, 3, 3] -> [B, D, Z, Y, X]; D a power of two from 16 on."""
    image = image.contiguous()
    planes, height, width = image.shape[2:]
    outside, voxels = weight.shape[0], image.numel()
    taps = functional.pad(weight.reshape(outside, 27), (0, 5)).t().contiguous()
    out = rows.empty_rows(image, (image.shape[0], outside, planes, height, width))
    _loops().first_kernel[(-(-voxels // _BLOCK),)](
        image, taps, out, planes, height, width, voxels,
        outside=outside, block=_BLOCK, exact=image.dtype == torch.float32, num_warps=4,
    )  # fmt: skip
    return out


def first_weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """The weight's gradient [D, 1, 3, 3, 3], float32, of `first_forward`."""
    image = image.contiguous()
    planes, height, width = image.shape[2:]
    outside, voxels = gradient.shape[1], image.numel()
    turns, programs = _shared_out(-(-voxels // _BLOCK), 8 * rows.processors_of(image))
    partial = torch.empty((programs, 32, outside), dtype=torch.float32, device=image.device)
    _loops().first_weights_kernel[(programs,)](
        image, gradient, partial, planes, height, width, voxels,
        turns=turns, outside=outside, block=_BLOCK, exact=image.dtype == torch.float32, stages=2, num_warps=4,
    )  # fmt: skip
    return partial.sum(0)[:27].t().reshape(outside, 1, 3, 3, 3)


def rows_forward(image: Tensor, weight: Tensor) -> Tensor:
    """[B, C, Z, Y, X], [32, C, 3, 3, 3] -> [B, 32, Z, Y, X], channels last; C a multiple of 32."""
    batch, inside, planes, height, width = image.shape
    outside = weight.shape[0]
    side, halo, _ = _row(width)
    lines = _TILE // side
    tiles, line_tiles = -(-width // (side - 2 * halo)), -(-height // lines)
    out = rows.empty_rows(image, (batch, outside, planes, height, width))
    _loops().rows_kernel[(batch * planes * line_tiles * tiles,)](
        image, weight.permute(2, 3, 4, 1, 0).contiguous(), out, planes, height, width, line_tiles, tiles,
        inside=inside, outside=outside, block=32, lines=lines, side=side, halo=halo, stages=3, num_warps=4,
    )  # fmt: skip
    return out


def rows_weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """The weight's gradient [D, C, 3, 3, 3], float32; C and D are 32 or 64."""
    inside, outside = image.shape[1], gradient.shape[1]
    if inside > outside:  # the same sums with exchanged parts and turned taps, in a better shape for the registers
        return rows_weight_gradient(gradient, image).transpose(0, 1).flip(2, 3, 4)
    batch, _, planes, height, width = image.shape
    lines, segments = batch * planes * height, -(-width // _SEGMENT)
    is_small = inside * outside == 32 * 32
    wanted = rows.processors_of(image) * (2 if is_small else 1)
    turns, programs = _shared_out(lines * segments, wanted)
    partial = torch.empty((programs, 3, 4 * inside, 4 * outside), dtype=torch.float32, device=image.device)
    _loops().weights_kernel[(programs, 3)](
        image, gradient, partial, planes, height, width, lines, segments,
        turns=turns, inside=inside, outside=outside, block=_SEGMENT, stages=3, num_warps=4 if is_small else 8,
    )  # fmt: skip
    total = partial.sum(0).view(3, 4, inside, 4, outside)[:, :3, :, :3]
    return total.permute(4, 2, 0, 3, 1)


def last_forward(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[B, C, Z, Y, X] channels last -> [B, 1, Z, Y, X]."""
    batch, channels, *size = image.shape
    out = torch.empty((batch, 1, *size), dtype=image.dtype, device=image.device)
    voxels = out.numel()
    _loops().last_kernel[(-(-voxels // _LAST_BLOCK),)](
        image, weight, bias, out, voxels,
        channels=channels, padded=_power_of_two(channels), block=_LAST_BLOCK, num_warps=4,
    )  # fmt: skip
    return out


def last_backward(image: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of image, weight and bias; the last two float32."""
    channels, voxels = image.shape[1], gradient.numel()
    turns, programs = _shared_out(-(-voxels // _LAST_BLOCK), 8 * rows.processors_of(image))
    result, padded = rows.empty_rows(image), _power_of_two(channels)
    partial = torch.empty((programs, padded + 1), dtype=torch.float32, device=image.device)
    _loops().last_backward_kernel[(programs,)](
        image, weight, gradient, result, partial, voxels,
        turns=turns, channels=channels, padded=padded, block=_LAST_BLOCK, num_warps=4,
    )  # fmt: skip
    total = partial.sum(0)
    return result, total[:channels].view(1, -1, 1, 1, 1), total[padded:]


def _shared_out(blocks: int, programs: int) -> tuple[int, int]:
    """Blocks for each program, a part of the compiled kernel and so of few values, and programs."""
    turns = _power_of_two(-(-blocks // programs))
    return turns, -(-blocks // turns)


def _power_of_two(number: int) -> int:
    """The smallest that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()

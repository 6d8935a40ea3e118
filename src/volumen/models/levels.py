"""What leads from one level of a U-Net to the next: pooling, and joining a coarser level to a skip connection.

PyTorch's modules, or on CUDA with Triton kernels that stay in channels last (`kernels.triton_resample`). A module that
somebody watches (by a forward hook) is called itself. `plain` asks for PyTorch's operations always.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.kernels.triton_resample import TritonJoin, TritonPool, can_pool
from volumen.kernels.triton_rows import uses_triton


def halve(pool: nn.MaxPool3d | nn.AvgPool3d, image: Tensor, *, plain: bool) -> tuple[Tensor, Tensor]:
    """[B, C, Z, Y, X] by a pooling of 2x2x2 to [B, C, Z / 2, Y / 2, X / 2], and the image, for what else it goes to."""
    if _watched(pool) or not uses_triton(image, plain=plain) or not can_pool(image):
        return pool(image), image
    return TritonPool.apply(image, isinstance(pool, nn.MaxPool3d))  # type: ignore[no-untyped-call,no-any-return]


def join(upsampler: nn.Module, coarse: Tensor, skip: Tensor, *, plain: bool) -> Tensor:
    """[B, C, Z, Y, X] by a transposed convolution to [B, D, 2Z, 2Y, 2X], then the channels of `skip`."""
    assert isinstance(upsampler, nn.ConvTranspose3d)
    if _watched(upsampler) or upsampler.bias is None or not uses_triton(coarse, plain=plain):
        return torch.cat([upsampler(coarse), skip], dim=1)
    raised = functional.conv_transpose3d(coarse, upsampler.weight, stride=upsampler.stride)
    joined: Tensor = TritonJoin.apply(raised, upsampler.bias, skip.to(raised.dtype))  # type: ignore[no-untyped-call]
    return joined


def _watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)

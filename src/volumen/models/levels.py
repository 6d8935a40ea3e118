"""What leads from one level of a U-Net to the next: pooling, and joining a coarser level to a skip connection.

PyTorch's operations, and on CUDA with Triton kernels that stay in channels last (`kernels.triton_resample`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.kernels.triton_resample import TritonJoin, TritonPool, can_pool
from volumen.kernels.triton_rows import uses_triton


class Pool(nn.Module):
    """Pooling of 2x2x2 voxels: their largest number, or their mean.

    Attributes:
        plain: Set True to use PyTorch's own operations always.
    """

    plain: bool = False

    def __init__(self, *, largest: bool) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, Z, Y, X] -> [B, C, Z / 2, Y / 2, X / 2], and the image, for whatever else it goes to."""
        if uses_triton(image, plain=self.plain) and can_pool(image):
            return TritonPool.apply(image, self.largest)  # type: ignore[no-untyped-call,no-any-return]
        pooled = functional.max_pool3d(image, 2) if self.largest else functional.avg_pool3d(image, 2)
        return pooled, image

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"largest={self.largest}"


class Join(nn.Module):
    """A transposed convolution, and its result joined to a skip connection.

    Attributes:
        plain: Set True to use PyTorch's own operations always.
    """

    plain: bool = False

    def forward(self, upsampler: nn.ConvTranspose3d, coarse: Tensor, skip: Tensor) -> Tensor:
        """[B, C, Z, Y, X] by `upsampler` to [B, D, 2Z, 2Y, 2X], then the channels of `skip`."""
        if not uses_triton(coarse, plain=self.plain) or upsampler.bias is None:
            return torch.cat([upsampler(coarse), skip], dim=1)
        raised = functional.conv_transpose3d(coarse, upsampler.weight, stride=upsampler.stride)
        joined: Tensor = TritonJoin.apply(raised, upsampler.bias, skip.to(raised.dtype))  # type: ignore[no-untyped-call]
        return joined

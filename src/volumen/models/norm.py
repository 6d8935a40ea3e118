"""Instance norm and leaky ReLU in one module: channels-last kernels on the CPU and on CUDA, a plain path elsewhere.

PyTorch's instance norm copies channels-last activations to channels-first and back, which costs more than the norm
itself. The kernels (`kernels.norm`, `kernels.triton_norm`) do norm and activation in two passes over memory forward
and two backward, and, when there is no scale and shift, keep nothing but the output, which the next layer keeps anyway.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.errors import UserError
from volumen.kernels.convolution import CHANNELS_LAST, is_recorded
from volumen.kernels.norm import AffineNorm, Norm
from volumen.kernels.triton_norm import TritonAffineNorm, TritonNorm
from volumen.kernels.triton_rows import uses_triton


class InstanceNormLeakyReLU(nn.Module):
    """Instance norm (Ulyanov, Vedaldi and Lempitsky 2016), then leaky ReLU.

    Args:
        channels: Channels C; needed for `affine` only.
        affine: Learn a scale and a shift per channel.
        slope: Of the leaky ReLU below zero, above 0; 1 means no activation.
        eps: Added to the variance.
        inplace: Write over the input where the kernels can: only for an input nobody else needs.

    Attributes:
        plain: Set True to use PyTorch's own operations always. They are used anyway on other devices, where Triton is
            missing, for other types (float16 has kernels on CUDA only), and under tracing, compiling and export.
    """

    plain: bool = False

    def __init__(
        self,
        channels: int | None = None,
        *,
        affine: bool = False,
        slope: float = 0.01,
        eps: float = 1e-5,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        if slope <= 0:
            raise UserError(f"the slope of the leaky ReLU must be above 0, got {slope}: use 0.01, or 1 for none")
        if affine and channels is None:
            raise UserError("an affine instance norm needs to know its channels: pass channels=...")
        self.slope, self.eps, self.inplace = slope, eps, inplace
        self.weight = nn.Parameter(torch.ones(channels)) if affine and channels else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine and channels else None

    def forward(self, values: Tensor, cancelled_bias: Tensor | None = None) -> Tensor:
        """Normalise each channel of each sample over its voxels, then activate.

        Args:
            values: [B, C, Z, Y, X], more than one voxel.
            cancelled_bias: The bias of the convolution before, left out there because the norm subtracts it again. It
                gets a gradient of exactly zero.

        Returns:
            Same shape and type as `values`.

        Raises:
            UserError: There is one voxel only.
        """
        if uses_triton(values, plain=self.plain):
            return self._by_triton(values, cancelled_bias, None, self.slope)
        if not uses_kernels(values, plain=self.plain):
            if cancelled_bias is not None:
                values = values + cancelled_bias.to(values.dtype).view(-1, 1, 1, 1)
            normal = functional.instance_norm(values, weight=self.weight, bias=self.bias, eps=self.eps)
            return normal if self.slope == 1 else functional.leaky_relu(normal, self.slope, inplace=True)
        _check_voxels(values)
        inplace = self.inplace
        if not values.is_contiguous(memory_format=CHANNELS_LAST):
            values, inplace = values.contiguous(memory_format=CHANNELS_LAST), True
        out: Tensor
        if self.weight is not None:
            out = AffineNorm.apply(  # type: ignore[no-untyped-call]
                values, self.weight, self.bias, cancelled_bias, self.slope, self.eps
            )
        else:
            out = Norm.apply(values, cancelled_bias, self.slope, self.eps, inplace)  # type: ignore[no-untyped-call]
        return out

    def add_and_activate(
        self, values: Tensor, side: Tensor, slope: float, cancelled_bias: Tensor | None = None
    ) -> Tensor:
        """leaky_relu(norm(values) + side), which on CUDA is part of the norm; for a norm without an activation.

        Args:
            values, side: [B, C, Z, Y, X].
            slope: Of the leaky ReLU.
            cancelled_bias: As in `forward`.
        """
        if uses_triton(values, plain=self.plain) and self.slope == 1:
            return self._by_triton(values, cancelled_bias, side.to(values.dtype), slope)
        return functional.leaky_relu(self(values, cancelled_bias) + side, slope, inplace=True)

    def _by_triton(self, values: Tensor, cancelled_bias: Tensor | None, side: Tensor | None, slope: float) -> Tensor:
        _check_voxels(values)
        inplace = self.inplace
        if not values.is_contiguous(memory_format=CHANNELS_LAST):
            values, inplace = values.contiguous(memory_format=CHANNELS_LAST), True
        if self.weight is None and side is None:
            return TritonNorm.apply(  # type: ignore[no-untyped-call,no-any-return]
                values, cancelled_bias, slope, self.eps, inplace
            )
        return TritonAffineNorm.apply(  # type: ignore[no-untyped-call,no-any-return]
            values, self.weight, self.bias, side, cancelled_bias, slope, self.eps
        )

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"affine={self.weight is not None}, slope={self.slope}, eps={self.eps}"


def _check_voxels(values: Tensor) -> None:
    if values[0, 0].numel() == 1:
        raise UserError("instance norm needs more than one voxel, got one: use a larger patch or a smaller depth")


def uses_kernels(values: Tensor, *, plain: bool = False) -> bool:
    """True if activations like `values` go through the CPU's compiled kernels."""
    return (
        not plain
        and values.device.type == "cpu"
        and values.dtype in (torch.float32, torch.bfloat16)
        and not is_recorded()
    )

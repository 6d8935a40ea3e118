"""What both U-Nets are made of: a convolution with norm and activation, initialisation, the check of input sizes."""

import math

from torch import Tensor, nn

from volumen.errors import UserError
from volumen.kernels.convolution import CHANNELS_LAST, convolve, is_recorded
from volumen.kernels.triton_convolution import convolve_on_card, logits_on_card
from volumen.kernels.triton_rows import uses_triton
from volumen.models.norm import InstanceNormLeakyReLU, uses_kernels

SLOPE = 0.01
_OUTPUT_SCALE = 0.1  # standard deviation of the first logits around the prior's


class ConvolutionNorm(nn.Module):
    """Convolution with bias, instance norm, leaky ReLU.

    The bias is part of the network (and of its parameter count), but the norm subtracts it again: on the kernels' paths
    it is neither added nor differentiated, and its gradient is exactly zero.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        affine: bool = False,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(inside, outside, kernel, stride=stride, padding=kernel // 2)
        slope = SLOPE if activate else 1.0
        self.norm = InstanceNormLeakyReLU(outside, affine=affine, slope=slope, inplace=True)

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """[B, inside, Z, Y, X] -> [B, outside, Z / stride, Y / stride, X / stride].

        With `side`, of the result's shape, the leaky ReLU of its sum with the result.
        """
        plain, stride = self.norm.plain, self.convolution.stride[0]
        if uses_triton(image, plain=plain):
            image = image.contiguous(memory_format=CHANNELS_LAST)
            values, cancelled = convolve_on_card(image, self.convolution.weight, stride=stride), self.convolution.bias
        elif uses_kernels(image, plain=plain):
            image = image.contiguous(memory_format=CHANNELS_LAST)
            values, cancelled = convolve(image, self.convolution.weight, stride=stride), self.convolution.bias
        else:
            values, cancelled = self.convolution(image), None
        if side is not None:
            return self.norm.add_and_activate(values, side, SLOPE, cancelled)
        return self.norm(values, cancelled)  # type: ignore[no-any-return]


class LogitsConvolution(nn.Conv3d):
    """Convolution of one voxel, from features to logits.

    Attributes:
        plain: Set True to use PyTorch's own operation always.
    """

    plain: bool = False

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[B, inside, Z, Y, X] -> [B, outside, Z, Y, X]."""
        if self.bias is not None and uses_triton(image, plain=self.plain):
            return logits_on_card(image, self.weight, self.bias)
        return super().forward(image)


def set_plain(model: nn.Module, plain: bool = True) -> None:
    """Make all of a network use PyTorch's own operations (or the kernels again), to export or compare."""
    for module in model.modules():
        if hasattr(type(module), "plain"):
            module.plain = plain  # type: ignore[assignment]


def initialise(model: nn.Module) -> None:
    """He initialisation for leaky ReLU (He et al. 2015) of every convolution; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, mode="fan_in", nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_output(output: nn.Conv3d, prior: float | None) -> None:
    """Start logits near those of the prior, so that the first loss is that of the best constant prediction.

    Raises:
        UserError: Not 0 < `prior` < 1, the share of surface among the labelled voxels; None starts at 0.5.
    """
    if prior is not None and not 0 < prior < 1:
        raise UserError(f"prior is the share of surface voxels and must lie between 0 and 1, got {prior}")
    nn.init.normal_(output.weight, std=_OUTPUT_SCALE / math.sqrt(output.in_channels))
    if output.bias is not None:
        nn.init.constant_(output.bias, 0.0 if prior is None else math.log(prior / (1 - prior)))


def check_input(image: Tensor, channels: int, divisor: tuple[int, int, int]) -> None:
    """Raise a `UserError` for a wrong number of axes or channels, or a size that is no multiple of the divisor."""
    if is_recorded():
        return
    if image.ndim != 5 or image.shape[1] != channels:
        raise UserError(f"the network takes [batch, {channels}, z, y, x], got {list(image.shape)}")
    size = image.shape[2:]
    if any(side % unit or side == 0 for side, unit in zip(size, divisor, strict=True)):
        fits = [max(1, -(-side // unit)) * unit for side, unit in zip(size, divisor, strict=True)]
        raise UserError(
            f"input of {list(size)} voxels must be a multiple of {list(divisor)} (z, y, x): pad your patch to {fits}"
        )
    if all(side == unit for side, unit in zip(size, divisor, strict=True)):
        fits = [2 * unit for unit in divisor]
        raise UserError(
            f"input of {list(size)} voxels leaves one voxel at the coarsest level, which instance norm cannot "
            f"normalise: use a patch of {fits} or more in one axis, or a smaller depth"
        )

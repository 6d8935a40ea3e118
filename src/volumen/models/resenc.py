"""Residual-encoder U-Net with deep supervision, in the sizes of nnU-Net's residual-encoder presets (Isensee et al.
2024).

The encoder is deep (residual blocks, strided convolutions), the decoder shallow (one convolution a stage). In training
the coarser decoder stages give logits too, so that the loss reaches the deep layers directly.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from volumen.models.blocks import ConvolutionNorm, LogitsConvolution, check_input, initialise, initialise_output
from volumen.models.levels import halve, join


@dataclass(frozen=True)
class ResEncSize:
    """Widths and depths of a residual-encoder U-Net."""

    features: tuple[int, ...]
    """Channels of each encoder stage, finest first; each stage after the first halves the resolution."""
    blocks: tuple[int, ...]
    """Residual blocks of each encoder stage."""


RESENC_SIZES: dict[str, ResEncSize] = {
    # For a CPU.
    "S": ResEncSize(features=(8, 16, 32, 64), blocks=(1, 2, 2, 2)),
    # nnU-Net's M and L presets differ in the patch that fills 8 or 24 GB of a GPU; for isotropic patches of 128 to 192
    # voxels both come to these six stages, so that one size stands for the two.
    "M": ResEncSize(features=(32, 64, 128, 256, 320, 320), blocks=(1, 3, 4, 6, 6, 6)),
}


class ResidualBlock(nn.Module):
    """Two convolutions with norms, added to the input before the last activation (He et al. 2016).

    The side path averages before it projects (variant D of He et al. 2019): a stride throws no voxel away.
    """

    plain: bool = False

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvolutionNorm(inside, outside, stride=stride, affine=True)
        self.second = ConvolutionNorm(outside, outside, affine=True, activate=False)
        self.shrink = nn.AvgPool3d(stride) if stride > 1 else None
        self.project = (
            ConvolutionNorm(inside, outside, kernel=1, affine=True, activate=False) if inside != outside else None
        )

    def forward(self, image: Tensor) -> Tensor:
        """[B, inside, Z, Y, X] -> [B, outside, Z / stride, Y / stride, X / stride]."""
        side, image = (image, image) if self.shrink is None else halve(self.shrink, image, plain=self.plain)
        side = side if self.project is None else self.project(side)
        return self.second(self.first(image), side)  # type: ignore[no-any-return]


class ResEncUNet(nn.Module):
    """Residual-encoder U-Net; gives logits.

    Args:
        in_channels, out_channels: Of the image and of the logits.
        features, blocks: Channels and residual blocks of each stage, finest first; input sizes (z, y, x) must be
            multiples of `divisor`.
        deep_supervision: In training, give the logits of every decoder stage.
        prior: Share of surface voxels, at which the first logits start; None starts at 0.5.

    Raises:
        UserError: `prior` out of range.
    """

    plain: bool = False

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        features: tuple[int, ...] = RESENC_SIZES["S"].features,
        blocks: tuple[int, ...] = RESENC_SIZES["S"].blocks,
        *,
        deep_supervision: bool = True,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.deep_supervision = in_channels, deep_supervision
        self.divisor: tuple[int, int, int] = (2 ** (len(features) - 1),) * 3
        self.stem = ConvolutionNorm(in_channels, features[0], affine=True)
        self.encoders = nn.ModuleList()
        inside = features[0]
        for stage, (outside, number) in enumerate(zip(features, blocks, strict=True)):
            first = ResidualBlock(inside, outside, stride=1 if stage == 0 else 2)
            self.encoders.append(nn.Sequential(first, *(ResidualBlock(outside, outside) for _ in range(number - 1))))
            inside = outside
        finer_last = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.upsamplers = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for coarse, fine in finer_last)
        self.decoders = nn.ModuleList(ConvolutionNorm(2 * fine, fine, affine=True) for _, fine in finer_last)
        supervised = finer_last if deep_supervision else finer_last[-1:]
        self.outputs = nn.ModuleList(LogitsConvolution(fine, out_channels) for _, fine in supervised)  # coarsest first
        initialise(self)
        for output in self.outputs:
            assert isinstance(output, nn.Conv3d)
            initialise_output(output, prior)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of an image [B, in_channels, Z, Y, X].

        Returns:
            [B, out_channels, Z, Y, X]; in training with deep supervision a list, finest first, each half the size of
            the one before.

        Raises:
            UserError: A shape that the network cannot take.
        """
        check_input(image, self.in_channels, self.divisor)
        features, skips = self.stem(image), []
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
        skips.pop()
        supervise = self.training and self.deep_supervision
        logits: list[Tensor] = []
        for stage, (upsampler, decoder) in enumerate(zip(self.upsamplers, self.decoders, strict=True)):
            features = decoder(join(upsampler, features, skips.pop(), plain=self.plain))
            if supervise:
                logits.append(self.outputs[stage](features))
        if supervise:
            return logits[::-1]
        finest: Tensor = self.outputs[-1](features)
        return finest

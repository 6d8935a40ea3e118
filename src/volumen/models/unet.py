"""The plan's network: a 3-D U-Net (Cicek et al. 2016) with instance norm, 22,575,329 parameters at 32 filters and
depth 4.
"""

from torch import Tensor, nn

from volumen.models.blocks import ConvolutionNorm, LogitsConvolution, check_input, initialise, initialise_output
from volumen.models.levels import halve, join


def _double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(ConvolutionNorm(inside, outside), ConvolutionNorm(outside, outside))


class UNet(nn.Module):
    """Double convolutions, max-pooling down, transposed convolutions up, skip connections; gives logits.

    Args:
        in_channels, out_channels: Of the image and of the logits.
        filters: Channels of the finest level; every coarser level has twice as many.
        depth: Number of poolings; input sizes (z, y, x) must be multiples of `divisor`, 2^depth.
        prior: Share of surface voxels, at which the first logits start; None starts at 0.5.

    Raises:
        UserError: `prior` out of range.
    """

    plain: bool = False

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        filters: int = 32,
        depth: int = 4,
        *,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.divisor: tuple[int, int, int] = (2**depth,) * 3
        widths = [filters * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(
            _double(inside, outside) for inside, outside in zip([in_channels, *widths[:-2]], widths[:-1], strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.bottom = _double(widths[-2], widths[-1])
        finer_last = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.upsamplers = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for coarse, fine in finer_last)
        self.decoders = nn.ModuleList(_double(2 * fine, fine) for _, fine in finer_last)
        self.output = LogitsConvolution(filters, out_channels)
        initialise(self)
        initialise_output(self.output, prior)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, Z, Y, X] of an image [B, in_channels, Z, Y, X].

        Raises:
            UserError: A shape that the network cannot take.
        """
        check_input(image, self.in_channels, self.divisor)
        features, skips = image, []
        for encoder in self.encoders:
            features, skip = halve(self.pool, encoder(features), plain=self.plain)
            skips.append(skip)
        features = self.bottom(features)
        for upsampler, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(join(upsampler, features, skips.pop(), plain=self.plain))
        logits: Tensor = self.output(features)
        return logits

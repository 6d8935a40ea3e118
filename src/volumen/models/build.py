"""From a model's configuration to the network: one table, one function, always logits."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from volumen.config.model import Model, MonaiModel, ResEncModel, UNetModel
from volumen.errors import UserError
from volumen.models.blocks import check_input
from volumen.models.resenc import RESENC_SIZES, ResEncUNet
from volumen.models.unet import UNet


class MonaiNetwork(nn.Module):
    """One of MONAI's networks behind this project's contract: checked sizes in, one tensor (or a list) of logits out.

    Args:
        network: Takes [B, in_channels, Z, Y, X].
        name: Its class, for messages.
        in_channels, out_channels: Of the image and of the logits.
        divisor: Input sizes must be multiples of it.
    """

    def __init__(self, network: nn.Module, *, name: str, in_channels: int, out_channels: int, divisor: int) -> None:
        super().__init__()
        self.network, self.name = network, name
        self.in_channels, self.out_channels = in_channels, out_channels
        self.divisor: tuple[int, int, int] = (divisor,) * 3

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits [B, out_channels, Z, Y, X], or in training a list of them, finest first.

        Raises:
            UserError: A shape that the network cannot take, or no logits of the input's size come out.
        """
        check_input(image, self.in_channels, self.divisor)
        result = self.network(image)
        several = isinstance(result, list | tuple)
        outputs = list(result) if several else [result]
        finest = outputs[0] if outputs else None
        expected = (image.shape[0], self.out_channels, *image.shape[2:])
        if not isinstance(finest, Tensor) or tuple(finest.shape) != expected:
            got = list(finest.shape) if isinstance(finest, Tensor) else type(finest).__name__
            raise UserError(
                f"monai's {self.name} gave {got} where logits of shape {list(expected)} are needed: "
                "choose a network for segmentation, or change model.arguments or model.divisor"
            )
        return outputs if several and self.training else finest


def _unet(config: UNetModel, prior: float | None) -> nn.Module:
    return UNet(config.in_channels, config.out_channels, config.filters, config.depth, prior=prior)


def _resenc(config: ResEncModel, prior: float | None) -> nn.Module:
    size = RESENC_SIZES.get(config.size)
    if size is None:
        raise UserError(f"model.size {config.size!r} does not exist: use one of {', '.join(RESENC_SIZES)}")
    return ResEncUNet(
        config.in_channels, config.out_channels, size.features, size.blocks,
        deep_supervision=config.deep_supervision, prior=prior,
    )  # fmt: skip


def _monai(config: MonaiModel, prior: float | None) -> nn.Module:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise UserError(
            f"model.kind monai (name {config.name!r}) needs MONAI, which is not installed: pip install 'volumen[monai]'"
        ) from error
    network = getattr(nets, config.name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise UserError(
            f"monai.networks.nets has no network {config.name!r}: use a class name such as SegResNet or DynUNet"
        )
    given: dict[str, Any] = {"in_channels": config.in_channels, "out_channels": config.out_channels, **config.arguments}
    try:
        made = network(spatial_dims=3, **given)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"monai's {config.name} does not take model.arguments {config.arguments}: {error}") from error
    return MonaiNetwork(
        made, name=config.name, in_channels=config.in_channels, out_channels=config.out_channels, divisor=config.divisor
    )


BUILDERS: dict[str, Callable[[Any, float | None], nn.Module]] = {"unet": _unet, "resenc": _resenc, "monai": _monai}


def build_model(config: Model, *, prior: float | None = None) -> nn.Module:
    """Build the network of a configuration, freshly initialised.

    Args:
        config: `config.model` of a run.
        prior: Share of surface among the labelled voxels: the first logits then start there. MONAI's networks keep
            their own initialisation.

    Returns:
        A module with `divisor`; it maps [B, C, Z, Y, X] to logits [B, 1, Z, Y, X], or in training with deep
        supervision to a list of them, finest first.

    Raises:
        UserError: An unknown kind, size or network, arguments it does not take, or MONAI missing.
    """
    builder = BUILDERS.get(config.kind)
    if builder is None:
        raise UserError(f"model.kind {config.kind!r} does not exist: use one of {', '.join(BUILDERS)}")
    return builder(config, prior)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
